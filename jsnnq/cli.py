"""The command line: reads what was typed, calls the rooms below, nothing else."""

import argparse
import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Sequence
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
        _leave(status)
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


def _leave(status: int) -> None:
    """Ends the process now: Python would wait for threads that still compile."""
    with contextlib.suppress(OSError):  # A closed pipe was noticed before.
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _complain(sentence: str, status: int) -> int:
    # Messages that are quoted from below may have lines of their own.
    print("jsnnq:", *map(str.strip, sentence.splitlines()), file=sys.stderr)
    return status


def _study(options: argparse.Namespace) -> int:
    from jsnnq.study.budget import Budget, seconds

    # Time counts from here, before anything large is imported.
    limit = options.budget
    budget = Budget() if limit is None else Budget(seconds(limit))
    from rich.console import Console

    from jsnnq.report import page
    from jsnnq.study import default, smoke
    from jsnnq.study.experiment import Experiment, load_experiment
    from jsnnq.study.runner import Choice, Study

    if options.experiment is None:
        title = (default.__doc__ or "").splitlines()[0]
        experiment = Experiment(title, default.ROWS, {})
    else:
        experiment = load_experiment(options.experiment)
    if options.smoke:
        title = f"{experiment.title} [SMOKE: tiny networks on digits]"
        experiment = Experiment(title, smoke.shrink(experiment.rows), {})
    study = Study(
        {name: _overridden(row, options) for name, row in experiment.rows.items()},
        options.out,
        seeds=options.seeds,
        row_seeds=options.row_seeds,
        choice=Choice(options.rows, budget, options.keep, _devices(options)),
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
        Console().print(page.decisions_table(study.decisions()))
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
    import json

    from jsnnq.study.experiment import load_experiment
    from jsnnq.study.folder import write_report
    from jsnnq.study.merge import merge

    first, *others = options.directories
    out = options.out or first
    if others and options.out is None:
        raise InputError(
            f"{len(options.directories)} folders are merged into a new one: name it "
            "with --out"
        )
    if options.out is not None:
        merge(options.directories, out, _say)
    claims = None
    if options.experiment is not None:
        claims = load_experiment(options.experiment).claims
    write_report(out, claims)
    _tell(json.loads((out / "results.json").read_text(encoding="utf-8")), out)
    return 0


def _tell(results, out: Path) -> None:
    from rich.console import Console

    from jsnnq.report.page import table

    Console().print(table(results))
    print(f"report: {out / 'report.html'}")


def _say(line: str) -> None:
    print(line, flush=True)


def _overridden(config, options: argparse.Namespace):
    from jsnnq.config import override

    return functools.reduce(override, options.set, config)


def _train(options: argparse.Namespace) -> int:
    from jsnnq.study.run import train_one

    row = train_one(
        _overridden(_config(options), options),
        options.out,
        seed=options.seed,
        data_dir=options.data_dir,
        devices=_devices(options),
        quiet=options.quiet,
    )
    print(f"accuracy {100 * row['accuracy']:.2f} %; network: {options.out}")
    return 0


def _config(options: argparse.Namespace):
    from jsnnq.config import Config, TrainingConfig

    return Config(
        data=options.data,
        network=_network(options),
        training=TrainingConfig(
            epochs=options.epochs,
            batch=options.batch,
            optimizer=options.optimizer,
            rate=options.rate,
        ),
    )


def _network(options: argparse.Namespace):
    from jsnnq.config import BinaryNetworkConfig, NetworkConfig, NeuronConfig
    from jsnnq.networks.bnn import SIZES

    common = {
        "name": options.network,
        "width": options.width,
        "stem": options.stem,
        "dtype": options.dtype,
    }
    if options.network in SIZES:
        return BinaryNetworkConfig(**common)
    return NetworkConfig(
        **common,
        timesteps=options.timesteps,
        connect=options.connect,
        neuron=NeuronConfig(kind=options.neuron),
    )


def _evaluate(options: argparse.Namespace) -> int:
    import json

    from jsnnq.analysis.cost import POLICIES
    from jsnnq.analysis.describe import describe
    from jsnnq.analysis.evaluate import evaluate
    from jsnnq.study.saved import load_network

    choose("policy", options.policy, POLICIES)
    mesh = _mesh(options)
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
    from rich.console import Console

    from jsnnq.report import page
    from jsnnq.study.saved import compare_saved, load_network

    mesh = _mesh(options)
    where = {"data_name": options.data, "data_dir": options.data_dir}
    a, b = load_network(options.a, **where), load_network(options.b, **where)
    found = compare_saved(a, b, unit=options.unit, mesh=mesh)
    Console().print(page.layer_table(found, (str(options.a), str(options.b))))
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
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(command=run)
        return added

    study = command("study", _study, "run an experiment, row by row, and report it")
    study.add_argument(
        "experiment",
        nargs="?",
        help="path of an experiment file with ROWS; without it the default study",
    )
    study.add_argument(
        "--out",
        type=Path,
        default=Path("jsnnq-study"),
        help="folder of the study; the same command continues an unfinished one",
    )
    study.add_argument(
        "--seeds", type=int, default=2, help="float networks and fine-tuned controls"
    )
    study.add_argument(
        "--row-seeds", type=int, default=1, help="seeds of each quantized row"
    )
    study.add_argument(
        "--smoke",
        action="store_true",
        help="the experiment in small: tiny networks on digits, in seconds",
    )
    study.add_argument(
        "--rows",
        metavar="REGEX",
        help="only rows with such a name, and the float networks they need; "
        "ROW/seed1 names one with its seed",
    )
    study.add_argument(
        "--budget",
        metavar="TIME",
        help="stop in good time, say after 9m; the same command goes on (exit status "
        f"{OUT_OF_TIME} while rows are left)",
    )
    study.add_argument(
        "--keep",
        default="all",
        help="networks that stay on disk: all, or only float ones that rows start from",
    )
    study.add_argument(
        "--hold-out",
        type=int,
        default=0,
        metavar="N",
        help="test on N training images, held out, to choose a recipe",
    )
    _add_set(study)
    _add_common(study)

    train = command("train", _train, "train one full-precision network")
    train.add_argument("--data", default="digits", help="data set or folder of arrays")
    train.add_argument(
        "--network", default="sew_resnet8", help="sew_resnet18, resnet18, ..."
    )
    train.add_argument("--width", type=float, default=1.0, help="multiplies channels")
    train.add_argument("--timesteps", type=int, default=4, help="T, of spikes")
    train.add_argument("--stem", default="cifar", help="cifar or imagenet")
    train.add_argument("--connect", default="add", help="add, and, or iand")
    train.add_argument("--neuron", default="lif", help="if, lif or plif")
    train.add_argument(
        "--dtype",
        default="float32",
        help="float32, bfloat16, or float64 with JAX_ENABLE_X64=1",
    )
    train.add_argument("--epochs", type=int, default=15, help="passes over the data")
    train.add_argument("--batch", type=int, default=64, help="images per step")
    train.add_argument("--optimizer", default="adam", help="sgd, adam or adamw")
    train.add_argument("--rate", type=float, default=0.01, help="peak learning rate")
    train.add_argument("--seed", type=int, default=0, help="decides all random numbers")
    train.add_argument(
        "--out", type=Path, default=Path("jsnnq-network"), help="folder of the run"
    )
    _add_set(train)
    _add_common(train)

    evaluate = command("evaluate", _evaluate, "accuracy, firing and cost of a network")
    evaluate.add_argument("checkpoint", type=Path, help="a checkpoint's folder")
    evaluate.add_argument("--data", help="another data set than it was trained on")
    evaluate.add_argument(
        "--policy",
        default="neurobench",
        help="how graded joins are charged: neurobench or events",
    )
    _add_common(evaluate)

    compare = command(
        "compare", _compare, "EMD between the firing of two networks, layer by layer"
    )
    compare.add_argument("a", type=Path, help="a checkpoint's folder")
    compare.add_argument("b", type=Path, help="another of the same architecture")
    compare.add_argument("--data", help="another data set than A was trained on")
    compare.add_argument("--unit", default="neuron", help="neuron or channel")
    compare.add_argument("--out", type=Path, help="folder for the plots")
    _add_common(compare)

    report = command("report", _report, "write table, plots and page of a study again")
    report.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="folder of a study"
    )
    report.add_argument(
        "--out", type=Path, help="folder for several studies merged into one"
    )
    report.add_argument(
        "--experiment",
        metavar="FILE",
        help="an experiment file, whose CLAIMS are held against the results",
    )

    prepare = command("prepare", _prepare, "prepare a data set, without TensorFlow")
    prepare.add_argument("name", help="cifar10 or cifar100")
    prepare.add_argument("--data-dir", type=Path, required=True, help="where to")
    prepare.add_argument(
        "--archive", type=Path, help="the original archive, if it is here already"
    )
    return parser


_CPU_DEVICES = 1
"""On a CPU a batch is shared only where `--devices` asks for it, since that changes the
order of sums, and the cores may be those of several people."""


def _devices(options: argparse.Namespace):
    """The devices that share a batch."""
    import jax

    from jsnnq.runtime import parallel

    wanted = options.devices or _CPU_DEVICES
    with contextlib.suppress(RuntimeError):  # JAX was in use before this command.
        parallel.threads(max(1, wanted))
    found = jax.devices()
    if options.devices is not None and not 1 <= options.devices <= len(found):
        raise InputError(
            f"devices is {options.devices}: there are {len(found)} here, of which at "
            "least one is needed"
        )
    on_cpu = jax.default_backend() == "cpu"
    return found[: options.devices or (_CPU_DEVICES if on_cpu else None)]


def _mesh(options: argparse.Namespace):
    """The devices that share a batch of an evaluation."""
    devices = _devices(options)
    from jsnnq.analysis.evaluate import BATCH
    from jsnnq.runtime import parallel

    return parallel.mesh(devices, BATCH)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", help="where prepared data sets lie (or TFDS_DATA_DIR)"
    )
    parser.add_argument(
        "--devices",
        type=int,
        help="how many devices share a batch: one on a CPU, else all there are",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of a config, as network.neuron.tau=1.5 or "
        "training.schedule=constant; may be given several times",
    )


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
