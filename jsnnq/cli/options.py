"""What can be typed after `jsnnq`: the commands, their options, what those accept.

Nothing large is imported here, so that `--help` is there at once, and a shell that
completes what is typed need not wait. Names that rooms below have are written down once
more for that, in `ACCEPTED`; a test holds them together.
"""

import argparse
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import shtab

from jsnnq.errors import InputError, choose

ACCEPTED = {
    "network": (
        *("sew_resnet8", "sew_resnet18", "sew_resnet34", "sew_resnet50"),
        *("sew_resnet101", "sew_resnet152", "sew_resnet_tiny"),
        *("resnet18", "resnet34", "resnet50", "resnet_tiny"),
        *("mobilenetv2", "mobilenet_tiny"),
    ),
    "stem": ("cifar", "imagenet"),
    "connect": ("add", "and", "iand"),
    "neuron": ("if", "lif", "plif"),
    "dtype": ("float32", "bfloat16", "float64"),
    "precision": ("default", "high", "highest"),
    "optimizer": ("sgd", "adam", "adamw"),
    "keep": ("all", "float"),
    "format": ("packed",),
    "policy": ("neurobench", "events"),
    "unit": ("neuron", "channel"),
    "set": ("cifar10", "cifar100"),
    "shell": shtab.SUPPORTED_SHELLS,
}
"""The names that an option takes, where no others are possible."""

METHODS = ("uniform", "lqnet", "snntorch", "mint", "ste", "stompp")
"""The quantizers that can be typed."""

EPILOG = """\
examples:
  jsnnq study                                   the default study, on digits
  jsnnq study experiments/stompp/reduced_r18.py --data-dir DATA --out RESULTS
  jsnnq study experiments/stompp/order_cifar100.py --smoke    any experiment in small
  jsnnq prepare cifar10 --data-dir DATA         download and prepare CIFAR-10
  jsnnq train --data digits --width 0.25 --out NET
  jsnnq quantize NET --weights lqnet:2 --membranes uniform:4:grid=unsigned --out QNET
  jsnnq quantize NET --rules rules.toml --post-training --out QNET
  jsnnq evaluate QNET
  jsnnq export QNET --out qnet.jsnnq            a file of the size of its bits
  jsnnq compare QNET qnet.jsnnq                 how far it is from what it was made of
  jsnnq compare NET QNET                        how far the firing of two networks is
  jsnnq report jsnnq-study                      write the report of a study again
  jsnnq report RESULTS_A RESULTS_B --out BOTH   merge what two machines did
  jsnnq --print-completion bash                 what makes a shell complete all this
"""

OUT_OF_TIME = 75

Command = Callable[[argparse.Namespace], int]


class _Accepted(tuple):
    """Names that an option takes; another one is refused as everywhere."""

    what: str

    def __contains__(self, given: object) -> bool:
        choose(self.what, given, self)
        return True


class _Offered(tuple):
    """Names to choose from; another one is refused below, where more can be said."""

    def __contains__(self, given: object) -> bool:
        return True


def _accepted(what: str) -> _Accepted:
    names = _Accepted(ACCEPTED[what])
    names.what = what
    return names


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, like everything else."""

    def error(self, message):
        raise InputError(f"{message}; see '{self.prog} --help'")


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """What reads a command line.

    A parsed one has its `command`. What `usual` holds are the values of those options
    that are among the parsed ones only if they were typed.

    Args:
        commands: what runs each command, by its name.
    """
    made = _Parser(
        prog="jsnnq",
        description="Quantized spiking networks and binary networks, judged by what "
        "quantization does to their behaviour and not by accuracy alone.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action=_Version)
    made.add_argument("--print-completion", action=_Completion, metavar="SHELL")
    below = made.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name, text):
        """A command, and what gives it an option."""
        description = text[0].upper() + text[1:] + "."
        added = below.add_parser(name, help=text, description=description)
        added.set_defaults(command=commands[name], usual={})
        return functools.partial(_add, added)

    all_of_them = _study, _train, _quantize, _evaluate, _export, _compare, _report
    for add_options in (*all_of_them, _prepare):
        add_options(command)
    return made


def _study(command) -> None:
    add = command("study", "run an experiment, row by row, and report it")
    text = "path of an experiment file with ROWS; without it the default study"
    add("experiment", text, nargs="?", complete=shtab.FILE)
    text = "folder of the study; the same command continues an unfinished one"
    add("--out", text, Path("jsnnq-study"))
    add("--seeds", "float networks and fine-tuned controls", 2, metavar="N")
    add("--row-seeds", "seeds of each quantized row", 1, metavar="M")
    text = "the experiment in small: tiny networks on digits, in seconds"
    add("--smoke", text, action="store_true")
    add(
        "--rows",
        "only rows with such a name, and the float networks they need; "
        "ROW/seed1 names one with its seed",
        metavar="REGEX",
    )
    add(
        "--budget",
        "stop in good time, say after 9m; the same command goes on (exit status "
        f"{OUT_OF_TIME} while rows are left)",
        metavar="TIME",
    )
    text = "networks that stay on disk: all, or only float ones that rows start from"
    add("--keep", text, "all", choices=_accepted("keep"))
    text = "test on N training images, held out, to choose a recipe"
    add("--hold-out", text, 0, metavar="N")
    add(
        "--together",
        "rows of one program (seeds, clips, bits) that are trained at once: one on a "
        "CPU, else as many small ones as a part of the memory holds",
        type=int,
        metavar="N",
    )
    _add_set(add, "any setting of a config, for every row")
    _add_common(add)


def _train(command) -> None:
    add = command("train", "train one network from scratch")

    def field(option, path, text, usual, **more):
        """A field of a config, which a recipe may set where it is not typed."""
        add(option, text, usual, dest=path, only_typed=True, **more)

    def choice(name, path, text, usual, **more):
        field(f"--{name}", path, text, usual, choices=_accepted(name), **more)

    text = "data set or folder of arrays"
    field("--data", "data", text, "digits", complete=shtab.DIRECTORY)
    # So many are no placeholder, and those for tests are not offered.
    text = ", ".join(name for name in ACCEPTED["network"] if "tiny" not in name)
    choice("network", "network.name", text, "sew_resnet8", metavar="NETWORK")
    field("--width", "network.width", "multiplies channels", 1.0)
    field("--timesteps", "network.timesteps", "T, of spikes", 4)
    choice("stem", "network.stem", "the first convolution", "cifar")
    choice("connect", "network.connect", "how blocks join spikes", "add")
    choice("neuron", "network.neuron.kind", "which neurons", "lif")
    text = "of products; all else is float32, or float64 (needs JAX_ENABLE_X64=1)"
    choice("dtype", "network.dtype", text, "float32")
    text = "of products of float32: default is what an accelerator does by itself"
    choice("precision", "network.precision", text, "highest")
    field("--epochs", "training.epochs", "passes over the data", 15)
    field("--batch", "training.batch", "images per step", 64)
    choice("optimizer", "training.optimizer", "its rule", "adam")
    field("--rate", "training.rate", "peak learning rate", 0.01)
    text = "settings in TOML, tables and keys as the fields of a config"
    add("--recipe", text, type=Path, metavar="FILE", complete=shtab.FILE)
    _add_set(add, "any setting of a config, after recipe and options")
    _add_quantizers(add)
    add("--seed", "decides all random numbers", 0)
    add("--out", "folder of the run", Path("jsnnq-network"))
    _add_common(add)


def _quantize(command) -> None:
    text = "quantize a trained network, and say how far that moved its firing"
    add = command("quantize", text)
    text = "folder of a trained float network"
    add("net", text, type=Path, metavar="NET", complete=shtab.DIRECTORY)
    _add_quantizers(add)
    text = "only calibrate the quantizers; without it all is fine-tuned"
    add("--post-training", text, action="store_true")
    for name, text, usual in (
        ("epochs", "passes over the data", 3),
        ("rate", "peak learning rate", 0.03),
        ("batch", "images per step", 64),
    ):
        add(f"--{name}", f"{text}, of fine-tuning", usual, only_typed=True)
    text = "do not fine-tune the float network beside it, whose drift is the measure"
    add("--no-control", text, action="store_true")
    add("--seed", "decides the order of images, and what quantizers draw", 0)
    text = "other data than NET was trained on"
    add("--data", text, complete=shtab.DIRECTORY)
    text = "folder of the quantized network; the same command goes on with it"
    add("--out", text, type=Path, required=True, metavar="QNET")
    _add_common(add)


def _evaluate(command) -> None:
    add = command("evaluate", "accuracy, firing and cost of a network")
    add("checkpoint", "a network's folder or file", type=Path, complete=shtab.FILE)
    text = "another data set than it was trained on"
    add("--data", text, complete=shtab.DIRECTORY)
    text = "how graded joins are charged"
    add("--policy", text, "neurobench", choices=_accepted("policy"))
    _add_common(add)


def _export(command) -> None:
    add = command("export", "a network as a file for those who run it")
    add("checkpoint", "a network's folder", type=Path, complete=shtab.DIRECTORY)
    text = "of the file: bit planes of its true size"
    add("--format", text, "packed", choices=_accepted("format"))
    more: Any = {"type": Path, "required": True, "complete": shtab.FILE}
    add("--out", "the file", **more)
    _add_quiet(add)


def _compare(command) -> None:
    add = command("compare", "EMD between the firing of two networks, layer by layer")
    add("a", "a network's folder or file", type=Path, complete=shtab.FILE)
    text = "another of the same architecture"
    add("b", text, type=Path, complete=shtab.FILE)
    text = "another data set than A was trained on"
    add("--data", text, complete=shtab.DIRECTORY)
    text = "what has a rate"
    add("--unit", text, "neuron", choices=_accepted("unit"))
    add("--out", "folder for the plots", type=Path, complete=shtab.DIRECTORY)
    _add_common(add)


def _report(command) -> None:
    add = command("report", "write table, plots and page of a study again")
    more: Any = {"nargs": "+", "metavar": "DIR", "complete": shtab.DIRECTORY}
    add("directories", "folder of a study", type=Path, **more)
    text = "folder for several studies merged into one"
    add("--out", text, type=Path, complete=shtab.DIRECTORY)
    text = "an experiment file, whose CLAIMS are held against the results"
    add("--experiment", text, metavar="FILE", complete=shtab.FILE)
    _add_quiet(add)


def _prepare(command) -> None:
    add = command("prepare", "prepare a data set, without TensorFlow")
    add("name", "which", choices=_Offered(ACCEPTED["set"]))
    more: Any = {"type": Path, "required": True, "complete": shtab.DIRECTORY}
    add("--data-dir", "where to", **more)
    text = "the original archive, if it is here already"
    add("--archive", text, type=Path, complete=shtab.FILE)
    _add_quiet(add)


def _add(
    added: argparse.ArgumentParser,
    name: str,
    text: str,
    default: Any = None,
    *,
    only_typed: bool = False,
    complete: Any = None,
    **more: Any,
) -> None:
    """An option, whose kind is that of its default unless said otherwise."""
    if default is not None:
        more = {"default": default, "type": type(default)} | more
    if default or default == 0:
        text = f"{text} (default: {default})"
    if only_typed:
        dest = more.get("dest", name.lstrip("-"))
        added.get_default("usual")[dest] = default
        more |= {"default": argparse.SUPPRESS}
    if name.startswith("--") and "action" not in more and "choices" not in more:
        more = {"metavar": name.lstrip("-").upper().replace("-", "_")} | more
    option: Any = added.add_argument(name, help=text, **more)
    if complete is None and more.get("type") in (Path, type(Path())):
        complete = shtab.DIRECTORY
    if complete is not None:
        option.complete = complete


def _add_set(add: Callable[..., None], text: str) -> None:
    more: Any = {"type": str, "action": "append", "metavar": "NAME=VALUE"}
    text += ", as network.neuron.tau=1.5; may be given several times"
    add("--set", text, **more, default=[])


def _add_quantizers(add: Callable[..., None]) -> None:
    names = f"{', '.join(METHODS[:-1])} or {METHODS[-1]}"
    metavar = "NAME[:BITS][:SETTING=VALUE]"
    text = f"quantizer of the kernels, but the first and the last: {names}"
    add("--weights", text, metavar=metavar)
    text = "of the neurons' membranes, as uniform:4:grid=unsigned"
    add("--membranes", text, metavar=metavar)
    text = "of the activations, in a network without spikes"
    add("--activations", text, metavar=metavar)
    text = "quantizers layer by layer, in TOML"
    add("--rules", text, type=Path, metavar="FILE", complete=shtab.FILE)


def _add_common(add: Callable[..., None]) -> None:
    text = "where prepared data sets lie (or TFDS_DATA_DIR)"
    add("--data-dir", text, complete=shtab.DIRECTORY)
    text = "how many devices share a batch: one on a CPU, else all there are"
    add("--devices", text, type=int)
    text = "images per call of an evaluation: 256, or as many as fit on a device"
    add("--eval-batch", text, type=int, metavar="N")
    _add_quiet(add)


def _add_quiet(add: Callable[..., None]) -> None:
    add("--quiet", "no progress, only the result", action="store_true")


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


class _Completion(argparse.Action):
    """Prints what a shell has to read to complete commands and options."""

    def __init__(self, option_strings, dest, metavar):
        names = ", ".join(ACCEPTED["shell"])
        text = f"what makes a shell complete jsnnq: {names}"
        more: Any = {"choices": _accepted("shell"), "metavar": metavar, "help": text}
        super().__init__(option_strings, dest, **more)

    def __call__(self, parser, namespace, values, option_string=None):
        print(shtab.complete(parser, str(values)))
        parser.exit(0)
