"""The command line: reads what was typed, calls the rooms below, nothing else.

What can be typed stands in `options`.
"""

import argparse
import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jsnnq.cli.options import OUT_OF_TIME, parser
from jsnnq.errors import InputError, check_compiler
from jsnnq.runtime import hugepages, programs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: what was typed after `jsnnq`; by default `sys.argv`.

    Returns:
        The exit status: 0, 1 if a training diverged, 2 if something typed or given
        cannot be used, 75 if the budget was spent before a study was done (sysexits'
        "try again"), 130 after Ctrl-C, 141 if nobody reads what is printed.
    """
    if arguments is None:
        hugepages.begin_again()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(typed)
    except KeyboardInterrupt:  # again, while the first one was answered
        status = 130
    if arguments is None and status:
        with contextlib.suppress(OSError):  # A closed pipe was noticed before.
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # Python would wait for threads that still compile.
    return status


def _run(typed: Sequence[str]) -> int:
    """A command's exit status; whatever went wrong is a sentence."""
    try:
        _check_text(typed)
        options = parser(COMMANDS).parse_args(typed)
        options.typed = shlex.join(["jsnnq", *typed])
        check_compiler()
        programs.keep_silently()
        status = options.command(options)
        sys.stdout.flush()  # A closed pipe shows here, not when Python ends.
        return status
    except InputError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:
        # `jsnnq compare A B | head`: as if SIGPIPE had ended it, and quietly so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        return _complain(f"{error.filename or 'a file'}: {error.strerror}", 2)
    except KeyboardInterrupt:
        return _complain("stopped; type the same command again to go on", 130)
    except RuntimeError as error:
        from jsnnq.training.divergence import Diverged

        if not isinstance(error, Diverged):
            raise
        return _complain(str(error), 1)


def _check_text(typed: Sequence[str]) -> None:
    """Refuses bytes that no report could quote and several libraries cannot take."""
    for word in typed:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{word!r} has bytes that are no UTF-8: rename what it names"
            ) from error


def _complain(sentence: str, status: int) -> int:
    # Messages that are quoted from below may have lines of their own.
    print("jsnnq:", *map(str.strip, sentence.splitlines()), file=sys.stderr)
    return status


def _study(options: argparse.Namespace) -> int:
    from jsnnq.study.budget import Budget, seconds

    # Time counts from here, before anything large is imported.
    limit = options.budget
    budget = Budget() if limit is None else Budget(seconds(limit))
    from jsnnq.report import page
    from jsnnq.study import default, smoke
    from jsnnq.study.experiment import Experiment, load_experiment
    from jsnnq.study.runner import Choice, Study

    file = options.experiment
    # The default study is an experiment file like any other.
    experiment = load_experiment(default.__file__ if file is None else file)
    if options.smoke:
        title = f"{experiment.title} [SMOKE: tiny networks on digits]"
        experiment = Experiment(title, smoke.shrink(experiment.rows), {})
    devices = _devices(options)
    study = Study(
        {name: _overridden(row, options) for name, row in experiment.rows.items()},
        options.out,
        seeds=options.seeds,
        row_seeds=options.row_seeds,
        choice=Choice(
            options.rows,
            budget,
            options.keep,
            devices,
            options.eval_batch,
            options.together,
        ),
        data_dir=options.data_dir,
        hold_out=options.hold_out,
        quiet=options.quiet,
        say=_quietly(options),
        command=options.typed,
        paper=experiment.paper,
        claims=experiment.claims,
    )
    if not options.quiet:
        _say(experiment.title)
        _show(page.decisions_table(study.decisions()))
    if not study.unfinished:
        _say(f"{options.out} is finished; nothing was computed again")
    _tell(study.run(), options.out)
    lost, blocked = study.diverged, study.blocked
    if lost:
        keys = ", ".join(str(job.run) for job in lost)
        rest = f", and {len(blocked)} rows that start from them" if blocked else ""
        _say(f"diverged: {keys}; without --budget they are tried again{rest}")
    if left := [job for job in study.unfinished if job not in (*lost, *blocked)]:
        _say(
            f"the time is spent and {len(left)} of {len(study.jobs)} rows are left, "
            f"next {left[0].run}: type the same command again to go on"
        )
        return OUT_OF_TIME
    return 1 if lost else 0


def _report(options: argparse.Namespace) -> int:
    from jsnnq.runtime.files import read_json
    from jsnnq.study.experiment import load_experiment
    from jsnnq.study.folder import write_report
    from jsnnq.study.merge import merge

    folders, out, file = options.directories, options.out, options.experiment
    if out is not None:
        merge(folders, out, _quietly(options))
    elif len(folders) > 1:
        raise InputError(
            f"{len(folders)} folders are merged into a new one: name it with --out"
        )
    else:
        (out,) = folders
    write_report(out, load_experiment(file).claims if file is not None else None)
    _tell(read_json(out / "results.json"), out)
    return 0


def _devices(options: argparse.Namespace) -> Any:
    """The devices that were asked for; what is compiled for them is kept."""
    from jsnnq.runtime import parallel

    found = parallel.chosen(options.devices)
    programs.keep()
    return found


def _tell(results, out: Path) -> None:
    from jsnnq.report.page import table

    _show(table(results))
    print(f"report: {out / 'report.html'}")


def _show(made) -> None:
    from rich.console import Console

    Console().print(made)


def _say(line: str) -> None:
    print(line, flush=True)


def _quietly(options: argparse.Namespace) -> Callable[[str], None]:
    return (lambda line: None) if options.quiet else _say


def _overridden(config, options: argparse.Namespace):
    from jsnnq.config import override

    return functools.reduce(override, options.set, config)


def _train(options: argparse.Namespace) -> int:
    from jsnnq.study import recipe
    from jsnnq.study.run import train_one

    row = recipe.config(
        options.usual,
        options.recipe,
        _typed(options, options.usual),
        options.set,
        recipe.quantizers(_quantizers(options), options.rules),
    )
    done = train_one(
        row,
        options.out,
        seed=options.seed,
        data_dir=options.data_dir,
        devices=_devices(options),
        eval_batch=options.eval_batch,
        quiet=options.quiet,
    )
    print(f"accuracy {100 * done['accuracy']:.2f} %; network: {options.out}")
    return 0


def _typed(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of these options that were typed."""
    found = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _quantizers(options: argparse.Namespace) -> dict[str, str]:
    return _typed(options, ("weights", "membranes", "activations"))


def _quantize(options: argparse.Namespace) -> int:
    from jsnnq.config import TrainingConfig
    from jsnnq.report import quantization as report
    from jsnnq.study import recipe
    from jsnnq.study.quantization import quantize_saved

    typed = _typed(options, options.usual)
    if options.post_training and typed:
        raise InputError(
            f"--post-training trains nothing, and --{next(iter(typed))} is of a "
            "training: give one of them"
        )
    training = TrainingConfig(**options.usual | typed)
    found = quantize_saved(
        options.net,
        options.out,
        recipe.quantizers(_quantizers(options), options.rules),
        recipe=None if options.post_training else training,
        control=not options.no_control,
        seed=options.seed,
        data_name=options.data,
        data_dir=options.data_dir,
        devices=_devices(options),
        eval_batch=options.eval_batch,
        quiet=options.quiet,
    )
    _show(report.shown(found, str(options.net)))
    print(f"network: {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import json

    from jsnnq.analysis.describe import describe
    from jsnnq.analysis.evaluate import BATCH, evaluate
    from jsnnq.runtime import parallel
    from jsnnq.study.saved import load_network

    batch = options.eval_batch
    mesh = parallel.mesh(_devices(options), batch or BATCH)
    found = load_network(
        options.checkpoint, data_name=options.data, data_dir=options.data_dir
    )
    described = describe(
        found.network,
        found.variables,
        evaluate(found.network, found.variables, found.dataset, batch=batch, mesh=mesh),
        found.dataset.image_shape,
        options.policy,
    )
    print(json.dumps({"dataset": found.dataset.note, **described}, indent=1))
    return 0


def _export(options: argparse.Namespace) -> int:
    from jsnnq.workflow.export import export
    from jsnnq.workflow.saved import load, metadata_of

    net, state = load(options.checkpoint)
    about = metadata_of(options.checkpoint)
    size = export(
        options.out,
        net,
        state,
        format=options.format,
        class_names=about.get("classes", ()),
        about={
            name: about[name] for name in ("data", "seed", "label") if name in about
        },
    )
    print(f"{size:,} bytes: {options.out}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from jsnnq.analysis.evaluate import BATCH
    from jsnnq.report import page
    from jsnnq.runtime import parallel
    from jsnnq.study.saved import compare_saved, load_network

    batch = options.eval_batch
    mesh = parallel.mesh(_devices(options), batch or BATCH)
    where = {"data_name": options.data, "data_dir": options.data_dir}
    a, b = load_network(options.a, **where), load_network(options.b, **where)
    found = compare_saved(a, b, unit=options.unit, batch=batch, mesh=mesh)
    _show(page.layer_table(found, (str(options.a), str(options.b))))
    if options.out is not None:
        for path in page.write_comparison(options.out, found, (a.label, b.label)):
            print(path)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from jsnnq.data.prepare import prepare
    from jsnnq.training.monitor import Transfer

    with Transfer() as transfer:
        done = prepare(
            options.name,
            options.data_dir,
            archive=options.archive,
            progress=None if options.quiet else transfer,
        )
    print(f"{done.path}: {done.note}")
    return 0


COMMANDS = {
    "study": _study,
    "train": _train,
    "quantize": _quantize,
    "evaluate": _evaluate,
    "export": _export,
    "compare": _compare,
    "report": _report,
    "prepare": _prepare,
}
