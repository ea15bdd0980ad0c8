"""The command line: reads what was typed, calls the rooms below, nothing else."""

import argparse
import contextlib
import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsnnq.errors import InputError, check_compiler, choose
from jsnnq.runtime import hugepages

EPILOG = """\
examples:
  jsnnq study                                   the default study, on digits
  jsnnq study experiments/stompp/reduced_r18.py --data-dir DATA --out RESULTS
  jsnnq study experiments/stompp/order_cifar100.py --smoke    any experiment in small
  jsnnq prepare cifar10 --data-dir DATA         download and prepare CIFAR-10
  jsnnq train --data digits --width 0.25 --out NET
  jsnnq evaluate NET
  jsnnq compare NET_A NET_B                     how far the firing of two networks is
  jsnnq report jsnnq-study                      write the report of a study again
  jsnnq report RESULTS_A RESULTS_B --out BOTH   merge what two machines did
"""


OUT_OF_TIME = 75


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
        options = _parser().parse_args(typed)
        options.typed = shlex.join(["jsnnq", *typed])
        check_compiler()
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
    from jsnnq.runtime import parallel
    from jsnnq.study import default, smoke
    from jsnnq.study.experiment import Experiment, load_experiment
    from jsnnq.study.runner import Choice, Study

    file = options.experiment
    # The default study is an experiment file like any other.
    experiment = load_experiment(default.__file__ if file is None else file)
    if options.smoke:
        title = f"{experiment.title} [SMOKE: tiny networks on digits]"
        experiment = Experiment(title, smoke.shrink(experiment.rows), {})
    devices = parallel.chosen(options.devices)
    study = Study(
        {name: _overridden(row, options) for name, row in experiment.rows.items()},
        options.out,
        seeds=options.seeds,
        row_seeds=options.row_seeds,
        choice=Choice(options.rows, budget, options.keep, devices),
        data_dir=options.data_dir,
        hold_out=options.hold_out,
        quiet=options.quiet,
        say=(lambda line: None) if options.quiet else _say,
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
        merge(folders, out, _say)
    elif len(folders) > 1:
        raise InputError(
            f"{len(folders)} folders are merged into a new one: name it with --out"
        )
    else:
        (out,) = folders
    write_report(out, load_experiment(file).claims if file is not None else None)
    _tell(read_json(out / "results.json"), out)
    return 0


def _tell(results, out: Path) -> None:
    from jsnnq.report.page import table

    _show(table(results))
    print(f"report: {out / 'report.html'}")


def _show(table) -> None:
    from rich.console import Console

    Console().print(table)


def _say(line: str) -> None:
    print(line, flush=True)


def _overridden(config, options: argparse.Namespace):
    from jsnnq.config import override

    return functools.reduce(override, options.set, config)


def _train(options: argparse.Namespace) -> int:
    from jsnnq import config
    from jsnnq.networks.bnn import SIZES
    from jsnnq.runtime import parallel
    from jsnnq.study.run import train_one

    name = options.network
    if name in SIZES:
        network = _filled(config.BinaryNetworkConfig, options, name=name)
    else:
        neuron = config.NeuronConfig(kind=options.neuron)
        network = _filled(config.NetworkConfig, options, name=name, neuron=neuron)
    training = _filled(config.TrainingConfig, options)
    row = _filled(config.Config, options, network=network, training=training)
    done = train_one(
        _overridden(row, options),
        options.out,
        seed=options.seed,
        data_dir=options.data_dir,
        devices=parallel.chosen(options.devices),
        quiet=options.quiet,
    )
    print(f"accuracy {100 * done['accuracy']:.2f} %; network: {options.out}")
    return 0


def _filled(kind, options: argparse.Namespace, **others):
    """A config of what was typed for its fields, and of others."""
    names = {field.name for field in dataclasses.fields(kind)}
    typed = {name: x for name, x in vars(options).items() if name in names}
    return kind(**typed | others)


def _evaluate(options: argparse.Namespace) -> int:
    import json

    from jsnnq.analysis.cost import POLICIES
    from jsnnq.analysis.describe import describe
    from jsnnq.analysis.evaluate import BATCH, evaluate
    from jsnnq.runtime import parallel
    from jsnnq.study.saved import load_network

    choose("policy", options.policy, POLICIES)
    mesh = parallel.mesh(parallel.chosen(options.devices), BATCH)
    found = load_network(
        options.checkpoint, data_name=options.data, data_dir=options.data_dir
    )
    described = describe(
        found.network,
        found.variables,
        evaluate(found.network, found.variables, found.dataset, mesh=mesh),
        found.dataset.image_shape,
        options.policy,
    )
    print(json.dumps({"dataset": found.dataset.note, **described}, indent=1))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from jsnnq.analysis.evaluate import BATCH
    from jsnnq.report import page
    from jsnnq.runtime import parallel
    from jsnnq.study.saved import compare_saved, load_network

    mesh = parallel.mesh(parallel.chosen(options.devices), BATCH)
    where = {"data_name": options.data, "data_dir": options.data_dir}
    a, b = load_network(options.a, **where), load_network(options.b, **where)
    found = compare_saved(a, b, unit=options.unit, mesh=mesh)
    _show(page.layer_table(found, (str(options.a), str(options.b))))
    if options.out is not None:
        for path in page.write_comparison(options.out, found, (a.label, b.label)):
            print(path)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from jsnnq.data.prepare import prepare
    from jsnnq.training.monitor import Transfer

    with Transfer() as progress:
        done = prepare(
            options.name, options.data_dir, archive=options.archive, progress=progress
        )
    print(f"{done.path}: {done.note}")
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, like everything else."""

    def error(self, message):
        raise InputError(f"{message}; see '{self.prog} --help'")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jsnnq",
        description="Quantized spiking networks and binary networks, judged by what "
        "quantization does to their behaviour and not by accuracy alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name, run, text):
        """A command, and what gives it an option."""
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(command=run)
        return functools.partial(_add, added)

    study = command("study", _study, "run an experiment, row by row, and report it")
    text = "path of an experiment file with ROWS; without it the default study"
    study("experiment", text, nargs="?")
    text = "folder of the study; the same command continues an unfinished one"
    study("--out", text, Path("jsnnq-study"))
    study("--seeds", "float networks and fine-tuned controls", 2)
    study("--row-seeds", "seeds of each quantized row", 1)
    text = "the experiment in small: tiny networks on digits, in seconds"
    study("--smoke", text, action="store_true")
    study(
        "--rows",
        "only rows with such a name, and the float networks they need; "
        "ROW/seed1 names one with its seed",
        metavar="REGEX",
    )
    study(
        "--budget",
        "stop in good time, say after 9m; the same command goes on (exit status "
        f"{OUT_OF_TIME} while rows are left)",
        metavar="TIME",
    )
    text = "networks that stay on disk: all, or only float ones that rows start from"
    study("--keep", text, "all")
    text = "test on N training images, held out, to choose a recipe"
    study("--hold-out", text, 0, metavar="N")
    _add_set(study)
    _add_common(study)

    train = command("train", _train, "train one full-precision network")
    train("--data", "data set or folder of arrays", "digits")
    train("--network", "sew_resnet18, resnet18, ...", "sew_resnet8")
    train("--width", "multiplies channels", 1.0)
    train("--timesteps", "T, of spikes", 4)
    train("--stem", "cifar or imagenet", "cifar")
    train("--connect", "add, and, or iand", "add")
    train("--neuron", "if, lif or plif", "lif")
    text = "float32, bfloat16, or float64 with JAX_ENABLE_X64=1"
    train("--dtype", text, "float32")
    train("--epochs", "passes over the data", 15)
    train("--batch", "images per step", 64)
    train("--optimizer", "sgd, adam or adamw", "adam")
    train("--rate", "peak learning rate", 0.01)
    train("--seed", "decides all random numbers", 0)
    train("--out", "folder of the run", Path("jsnnq-network"))
    _add_set(train)
    _add_common(train)

    evaluate = command("evaluate", _evaluate, "accuracy, firing and cost of a network")
    evaluate("checkpoint", "a checkpoint's folder", type=Path)
    evaluate("--data", "another data set than it was trained on")
    text = "how graded joins are charged: neurobench or events"
    evaluate("--policy", text, "neurobench")
    _add_common(evaluate)

    text = "EMD between the firing of two networks, layer by layer"
    compare = command("compare", _compare, text)
    compare("a", "a checkpoint's folder", type=Path)
    compare("b", "another of the same architecture", type=Path)
    compare("--data", "another data set than A was trained on")
    compare("--unit", "neuron or channel", "neuron")
    compare("--out", "folder for the plots", type=Path)
    _add_common(compare)

    report = command("report", _report, "write table, plots and page of a study again")
    report("directories", "folder of a study", type=Path, nargs="+", metavar="DIR")
    report("--out", "folder for several studies merged into one", type=Path)
    text = "an experiment file, whose CLAIMS are held against the results"
    report("--experiment", text, metavar="FILE")

    prepare = command("prepare", _prepare, "prepare a data set, without TensorFlow")
    prepare("name", "cifar10 or cifar100")
    prepare("--data-dir", "where to", type=Path, required=True)
    prepare("--archive", "the original archive, if it is here already", type=Path)
    return parser


def _add(parser: argparse.ArgumentParser, name: str, text: str, default=None, **more):
    """An option, whose kind is that of its default unless said otherwise."""
    if default is not None:
        more = {"default": default, "type": type(default)} | more
    parser.add_argument(name, help=text, **more)


def _add_set(add: Callable[..., None]) -> None:
    text = (
        "any setting of a config, as network.neuron.tau=1.5 or "
        "training.schedule=constant; may be given several times"
    )
    add("--set", text, [], type=str, action="append", metavar="NAME=VALUE")


def _add_common(add: Callable[..., None]) -> None:
    add("--data-dir", "where prepared data sets lie (or TFDS_DATA_DIR)")
    text = "how many devices share a batch: one on a CPU, else all there are"
    add("--devices", text, type=int)
    add("--quiet", "no progress", action="store_true")


class _Version(argparse.Action):
    """Prints the versions that decide a result; imports only when asked."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(
            option_strings, dest, nargs=0, help="versions of jsnnq and of JAX"
        )

    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import version

        names = ("jsnnq", "jax", "flax", "optax", "ott-jax", "orbax-checkpoint")
        print("\n".join(f"{name} {version(name)}" for name in names))
        parser.exit(0)


if __name__ == "__main__":
    sys.exit(main())
