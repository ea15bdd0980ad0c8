"""Rows of a study that are one experiment under several seeds: a group.

Rows belong together that have the same name, kind and start. Groups stand in the order
in which tables and plots show them: float networks, controls, quantized networks by
family, clip and bits; binary networks by depth, and of one network float, binary in
weights and activations (BNN), then in weights only (BWN), by method.
"""

import dataclasses
import math
import numbers
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsnnq.report import names


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows of one name and start, which differ in their seed only."""

    name: str
    kind: str
    start: str
    label: names.Label
    rows: tuple[Mapping[str, Any], ...]
    network: str = ""
    """Which network, told apart from all others of the study."""

    @property
    def quantizer(self) -> str:
        """The quantizer in words, or which float network it is."""
        return names.method(self.label.method)

    @property
    def family(self) -> str:
        """What is quantized, and by which quantizer."""
        place = names.place(self.label.place)
        return ", ".join(filter(None, [place, self.quantizer]))

    @property
    def setting(self) -> str:
        """What tells the network from others of its family: `2-bit, clip 10`."""
        _, _, detail, clip, bits, _ = self.label
        words = [f"{bits}-bit" if bits else "", detail, f"clip {clip}" if clip else ""]
        return ", ".join(filter(None, words)) or self.name

    @property
    def is_spiking(self) -> bool:
        """Whether its network spikes."""
        return names.is_spiking(dig(self.rows[0], "config.network") or {})

    @property
    def traits(self) -> dict[str, Any]:
        """What makes its network another one, apart from its neurons."""
        network = dict(dig(self.rows[0], "config.network") or {})
        network.pop("neuron", None)
        return {"data": dig(self.rows[0], "config.data"), **network}

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was trained; looking at it changes nothing."""
        training = dig(self.rows[0], "config.training") or {}
        return {key: value for key, value in training.items() if key != "looks"}

    @property
    def seeds(self) -> list[int]:
        """The seeds of its rows."""
        return [row["seed"] for row in self.rows]

    def values(self, path: str) -> list[float]:
        """The finite numbers at a dotted path, one per seed that has one."""
        found = (dig(row, path) for row in self.rows)
        return [float(number) for number in found if is_finite(number)]

    def mean(self, path: str) -> float | None:
        """The mean over seeds of the numbers at a dotted path."""
        values = self.values(path)
        return statistics.fmean(values) if values else None

    def layers(self) -> dict[str, float]:
        """EMD of each layer, the mean over seeds."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for layer, emd in (dig(row, "emd.layers") or {}).items():
                if is_finite(emd):
                    found.setdefault(layer, []).append(float(emd))
        return {layer: statistics.fmean(emds) for layer, emds in found.items()}


def gather(rows: Iterable[Mapping[str, Any]]) -> tuple[Group, ...]:
    """The groups of these rows, in order."""
    grouped: dict[tuple[str, str, str], list] = {}
    for row in rows:
        identity = (str(row["name"]), row["kind"], row["start"])
        grouped.setdefault(identity, []).append(row)
    groups = [
        Group(name, kind, start, _label(name, kind, found[0]), tuple(found))
        for (name, kind, start), found in grouped.items()
    ]
    return tuple(sorted(_name_networks(groups), key=_order))


def key(row: Mapping[str, Any]) -> str:
    """How a row is called: `name/seed0`."""
    return f"{row['name']}/seed{row['seed']}"


def dig(tree: Any, path: str) -> Any:
    """The value at a dotted path, or None where the path ends early."""
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


def is_finite(number: Any) -> bool:
    """Whether it is a number to count with."""
    return isinstance(number, numbers.Real) and math.isfinite(number)


def _label(name: str, kind: str, row: Mapping[str, Any]) -> names.Label:
    return names.read(name, kind, dig(row, "config.network") or {})


def _name_networks(groups: Sequence[Group]) -> list[Group]:
    """Gives each group the name of its network; two that are called alike differ."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        alike.setdefault(group.label.network, []).append(group.traits)
    return [
        dataclasses.replace(
            group, network=names.tell_apart(word, group.traits, alike[word])
        )
        for group in groups
        for word in [group.label.network]
    ]


def _order(group: Group) -> tuple:
    """Float, control, then quantized by family, clip and bits."""
    kinds = ("float", "control", "quantized")
    places = ("", *names.PLACES, *names.BINARY_PLACES)
    place, method, detail, clip, bits, _ = group.label
    kind = kinds.index(group.kind)
    if group.is_spiking:
        where = (kind, places.index(place), method, detail)
        return (*where, len(clip), clip, bits or 0, group.name, group.start)
    depth = names.depth(group.network) or math.inf
    known = method in names.STEPPED
    step = names.STEPPED.index(method) if known else len(names.STEPPED)
    where = (depth, group.network, kind, places.index(place), step, method)
    return (*where, bool(detail), detail, group.name, group.start)
