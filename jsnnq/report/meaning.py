"""What a config quantizes, with what and how, in the words that reports print.

Everything that is said of a row is read here from its config; its name is free.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jsnnq.config import Config, to_dict
from jsnnq.quantizers import STE, LQNet, Mint, Quantizer, SnnTorch, StoMPP, Uniform
from jsnnq.quantizers.base import PLACES, SignQuantizer

METHODS = ("STE", "STE identity", "StoMPP", "StoMPP+STE")
METHODS += ("StoMPP global", "StoMPP reverse")
"""Ways to train binary networks, in the order of tables and plots."""
_CALLED = {Uniform: "uniform", LQNet: "LQ-Net", SnnTorch: "snnTorch", Mint: "MINT"}
_SAID = ("bits", "clip", "surrogate", "order")
"""Settings of which the method, or a word of its own, speaks."""


def quantizers(config: Config) -> list[tuple[str, Quantizer]]:
    """The quantizers of a config, each beside its place, in the order of the rules."""
    pairs = [(place, one) for place in PLACES for _, one in getattr(config, place)]
    return list(dict.fromkeys(pair for pair in pairs if pair[1] is not None))


def place(config: Config) -> str:
    """What is quantized: `weights`, `membranes`, `weights and membranes`, ...

    A network whose values become signs is a *BNN* where weights and activations do,
    and a *BWN* where only weights do.
    """
    places = together(where for where, _ in quantizers(config))
    signs = {"weights and activations": "BNN", "weights": "BWN"}
    is_binary = not config.spikes and makes_signs(config)
    return signs.get(places, places) if is_binary else places


def makes_signs(config: Config) -> bool:
    """Whether all that is quantized becomes signs."""
    found = quantizers(config)
    return bool(found) and all(isinstance(one, SignQuantizer) for _, one in found)


def method(config: Config) -> str:
    """The quantizer in words, or which float network it is."""
    if config.kind != "quantized":
        tuned = ", fine-tuned" if config.kind == "control" else ""
        return f"float network{tuned}"
    found = quantizers(config)
    # How activations become signs says how a BNN is trained.
    told = found[-1:] if makes_signs(config) else found
    return together(_method(*pair) for pair in told)


def bits(config: Config) -> str:
    """Bits of what is quantized, such as `2`, or `2 and 4`."""
    return together(str(one.bits) for _, one in quantizers(config))


def clip(config: Config) -> str:
    """The largest magnitude, or where it is taken from."""
    found = (getattr(one, "clip", None) for _, one in quantizers(config))
    return together(shown(value) for value in found if value is not None)


def details(config: Config) -> tuple[str, ...]:
    """The settings that are not the usual ones, but for bits and clip."""
    found = []
    for where, one in quantizers(config):
        usual = _usual(where, one)
        # Of estimators the method says the gradient.
        said = (*_SAID, "gradient") if isinstance(one, STE) else _SAID
        for name in (field.name for field in dataclasses.fields(usual)):
            value = getattr(one, name)
            if name not in said and value != getattr(usual, name):
                found.append(name if value is True else f"{name} {shown(value)}")
    return tuple(dict.fromkeys(found))


def setting(config: Config) -> str:
    """What tells a network from others of its method: `2-bit, clip 10`.

    Short, because it stands beside a point: a usual clip is not said.
    """
    clip = lambda one: getattr(one, "clip", None)
    found = [(clip(one), clip(_usual(where, one))) for where, one in quantizers(config)]
    clips = (named("clip", value) for value, usual in found if value != usual)
    words = [_widths(config), *details(config), *dict.fromkeys(clips)]
    return ", ".join(filter(None, words))


def words(config: Config, network: str) -> list[str]:
    """Everything that is said of a config, one phrase for each setting."""
    said = [place(config), "" if config.spikes else network, method(config)]
    said += [*details(config), _widths(config)]
    return [*filter(None, [*said, f"clip {clip(config)}" if clip(config) else ""])]


def recipe(config: Config, others: Iterable[Config]) -> list[str]:
    """How it was trained in words, where others were trained otherwise."""
    trained = [dataclasses.asdict(other.training) for other in others]
    return [
        value if isinstance(value, str) else named(key, value)
        for key, value in dataclasses.asdict(config.training).items()
        if key != "looks" and any(other[key] != value for other in trained)
    ]


def network(name: str) -> str:
    """A network as it is printed: `ResNet-18` for `resnet18`."""
    return re.sub(r"^resnet(?=\d)", "ResNet-", name).replace("mobilenetv", "MobileNetV")


def depth(name: str) -> float:
    """The number of layers in a network's name; infinite where it has none."""
    found = re.fullmatch(r"\D*resnet(\d+)", name)
    return float(found[1]) if found else float("inf")


def but_for(config: Config, setting: str) -> tuple[frozenset, Any]:
    """All that makes a config but for one setting, and its value; `...` if it has none.

    Args:
        config: of a row.
        setting: of its quantizers, such as `bits`; `method` is everything that is set
            of them but bits and clip. Other settings are paths: `training.rate`.
    """
    mine, rest = [], []
    for path, value in _settings(to_dict(config)):
        if path[0] not in PLACES:
            is_mine = ".".join(path) == setting
        elif setting == "method":
            is_mine = path[-1] not in ("bits", "clip", "pattern")
        else:
            is_mine = path[-1] == setting
        value = tuple(value) if isinstance(value, list) else value
        (mine if is_mine else rest).append((path, value))
    if setting == "method":
        return frozenset(rest), ", ".join([method(config), *details(config)])
    values = {value for _, value in mine}
    return frozenset(rest), values.pop() if len(values) == 1 else ...


def named(setting: str, value: Any) -> str:
    """A value of a setting in words: `2-bit`, `clip 10`, `StoMPP`."""
    if setting == "bits":
        return f"{value}-bit"
    if value is None:
        return f"no {setting}"
    is_said = setting in ("", "method", "order", "schedule")
    return shown(value) if is_said else f"{setting} {shown(value)}"


def together(words: Iterable[str]) -> str:
    """Each word once: `2`, `2 and 4`."""
    return " and ".join(dict.fromkeys(words))


def _settings(tree: Mapping[str, Any]) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Paths and values; what changes no number (how often to look) is left out."""
    for key, value in tree.items():
        if key in PLACES:
            for number, (pattern, rule) in enumerate(value):
                inner = {"pattern": pattern, **(rule or {})}
                yield from (((key, str(number), k), x) for k, x in inner.items())
        elif isinstance(value, Mapping):
            yield from (((key, *path), x) for path, x in _settings(value))
        elif key != "looks":
            yield (key,), value


def _method(where: str, one: Quantizer) -> str:
    if isinstance(one, STE):
        identity = where == "activations" and one.gradient == "identity"
        return "STE identity" if identity else "STE"
    if isinstance(one, StoMPP):
        order = one.order if isinstance(one.order, str) else "own order"
        helped = "+STE" if one.surrogate != "none" else ""
        return f"StoMPP{helped} {order}".removesuffix(" forward")
    return _CALLED.get(type(one), type(one).__name__)


def _usual(where: str, one: Quantizer) -> Any:
    """The same quantizer as it is placed where nothing is set that can be left out."""
    fields = dataclasses.fields(one)  # type: ignore[arg-type]
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]
    return type(one)(**{name: getattr(one, name) for name in needed}).placed(where)


def _widths(config: Config) -> str:
    """`2-bit`; of signs and of float networks nothing."""
    return "" if makes_signs(config) or not bits(config) else f"{bits(config)}-bit"


def shown(value: Any) -> str:
    """A setting as it is printed."""
    return f"{value:g}" if isinstance(value, float) else str(value)
