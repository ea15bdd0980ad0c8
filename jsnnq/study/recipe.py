"""What is written for a command in TOML: a recipe of settings, and rules by layer.

A recipe has the fields of a `Config`, tables for those that have fields of their own:

    data = "digits"
    [training]
    rate = 0.1
    [network.neuron]
    tau = 1.5

Rules say layer by layer what is quantized. The first whose `layer`, a regular
expression, fully matches a layer's path wins, for each of the places that it names;
`float` is full precision.

    [[rule]]
    layer = "layer1_0/.*"
    weights = "float"
    [[rule]]
    layer = ".*"
    weights = "lqnet:2"
    membranes = "uniform:4:grid=unsigned"
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsnnq.config import (
    BinaryNetworkConfig,
    Config,
    NetworkConfig,
    Rule,
    override,
    read_quantizer,
    setting,
)
from jsnnq.errors import InputError
from jsnnq.networks.bnn import SIZES
from jsnnq.quantizers import Quantizer
from jsnnq.quantizers.base import PLACES
from jsnnq.study import build

Quantizers = Mapping[str, Quantizer | tuple[Rule, ...]]
"""By place, one quantizer for the usual layers, or rules."""


def config(
    usual: Mapping[str, Any],
    file: Path | None,
    typed: Mapping[str, Any],
    changes: Sequence[str] = (),
    quantizers: Quantizers | None = None,
) -> Config:
    """The config of a network that is trained from scratch; what comes later wins.

    Args:
        usual: values by the path of their field, `training.rate`, with `network.name`.
        file: a recipe.
        typed: values by path that an option set.
        changes: `NAME=VALUE`, as `jsnnq.config.override` takes them.
        quantizers: from `quantizers`.

    Raises:
        InputError: the file is no recipe, or a field or a value is none.
    """
    written = {} if file is None else dict(_leaves(_read(file)))
    name = {**usual, **written, **typed}["network.name"]
    binary = str(name) in SIZES
    found = Config(network=(BinaryNetworkConfig if binary else NetworkConfig)())
    for path, value in usual.items():
        # What is usual for one kind of network, the other need not have.
        if not path.startswith("network."):
            found = setting(found, path, value)
    for path, value in {"network.name": name, **written}.items():
        try:
            found = override(found, f"{path}={value}")
        except InputError as error:
            raise InputError(f"the recipe {str(file)!r}: {error}") from error
    for path, value in typed.items():
        found = setting(found, path, value)
    for change in changes:
        found = override(found, change)
    layers = build.float_network(found.network, classes=2).usual if quantizers else {}
    rules: Any = {
        place: ((layers[place], one),) if isinstance(one, Quantizer) else one
        for place, one in (quantizers or {}).items()
    }
    return dataclasses.replace(found, **rules)


def quantizers(typed: Mapping[str, str], file: Path | None = None) -> Quantizers:
    """What is quantized with what, as it was typed and written.

    Args:
        typed: quantizers by place, as `jsnnq.config.read_quantizer` takes them.
        file: rules.

    Raises:
        InputError: the file holds no rules, a quantizer is none, or both speak of one
            place.
    """
    found: dict[str, Any] = {place: read_quantizer(one) for place, one in typed.items()}
    written = {} if file is None else read_rules(file)
    for place in written:
        if place in found:
            raise InputError(
                f"--{place} is typed and {str(file)!r} has rules for {place} too: give "
                "one of them"
            )
    return {**found, **written}


def read_rules(file: Path) -> dict[str, tuple[Rule, ...]]:
    """The rules in a file, by place.

    Raises:
        InputError: it cannot be read, has no rules, or something else.
    """
    tables = _read(file)
    rules = tables.pop("rule", None)
    for name in tables:
        raise InputError(
            f"{str(file)!r} has {name!r}, and rules are tables [[rule]] only: put it "
            "into one, or remove it"
        )
    if not (isinstance(rules, list) and rules and isinstance(rules[0], dict)):
        raise InputError(
            f"{str(file)!r} has no rule: write tables [[rule]] with layer and "
            f"{', '.join(PLACES[:-1])} or {PLACES[-1]}"
        )
    found: dict[str, list[Rule]] = {}
    for number, rule in enumerate(rules, 1):
        said = f"rule {number} of {str(file)!r}"
        for name, text in rule.items():
            if name not in ("layer", *PLACES):
                raise InputError(
                    f"{said} has {name!r}: accepted are layer, {', '.join(PLACES)}"
                )
            if not isinstance(text, str):
                raise InputError(f"{said} has {name} = {text!r}: text is needed")
        if "layer" not in rule or len(rule) == 1:
            raise InputError(
                f"{said} needs layer, a regular expression, and at least one of "
                f"{', '.join(PLACES)}"
            )
        for place in rule.keys() - {"layer"}:
            try:
                one = None if rule[place] == "float" else read_quantizer(rule[place])
            except InputError as error:
                raise InputError(f"{said}: {error}") from error
            found.setdefault(place, []).append((rule["layer"], one))
    return {place: tuple(found[place]) for place in PLACES if place in found}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {str(file)!r} ({error.strerror}): give a file in TOML"
        ) from error
    except ValueError as error:
        raise InputError(f"{str(file)!r} is no TOML ({error}): correct it") from error


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables by their paths."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, value
