"""Rows of a study that are one experiment under several seeds: a group.

Groups stand in the order in which tables and plots show them: float networks,
controls, quantized networks by place, method, settings, clip and bits; binary networks
by depth, and of one network float, binary in weights and activations (BNN), then in
weights only (BWN), by method.
"""

import dataclasses
import math
import numbers
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsnnq.config import STARTS, Config, Run, from_dict
from jsnnq.report import meaning

KINDS = ("float", "control", "quantized")
"""Kinds of rows, in the order in which they are trained and shown."""
_PLACES = ("", "weights", "membranes", "weights and membranes", "BNN", "BWN")


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows of one name and config, which differ in their seed only.

    Attributes:
        name: of the rows, which is printed and means nothing.
        config: of all of them.
        rows: their results, one for each seed.
        network: which network, told apart from all others of the study.
    """

    name: str
    config: Config
    rows: tuple[Mapping[str, Any], ...]
    network: str = ""

    kind = property(lambda self: self.config.kind)
    start = property(lambda self: self.config.start)
    is_spiking = property(lambda self: self.config.spikes)
    place = property(lambda self: meaning.place(self.config))
    method = property(lambda self: meaning.method(self.config))
    details = property(lambda self: meaning.details(self.config))

    @property
    def family(self) -> str:
        """What is quantized, and by which quantizer."""
        return ", ".join(filter(None, [self.place, self.method]))

    @property
    def traits(self) -> dict[str, Any]:
        """What makes its network another one, apart from its neurons."""
        network = dataclasses.asdict(self.config.network)
        network.pop("neuron", None)
        return {"data": self.config.data, **network}

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was trained; looking at it changes nothing."""
        training = dataclasses.asdict(self.config.training)
        return {key: value for key, value in training.items() if key != "looks"}

    @property
    def seeds(self) -> list[int]:
        """The seeds of its rows."""
        return [row["seed"] for row in self.rows]

    @property
    def runs(self) -> list[Run]:
        """Its name with each of its seeds."""
        return [Run(self.name, seed) for seed in self.seeds]

    def by_seed(self, path: str) -> dict[int, float]:
        """The finite numbers at a dotted path, by seed."""
        found = {row["seed"]: dig(row, path) for row in self.rows}
        return {seed: float(x) for seed, x in found.items() if is_finite(x)}

    def values(self, path: str) -> list[float]:
        """The finite numbers at a dotted path, one per seed that has one."""
        return [*self.by_seed(path).values()]

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
    grouped: dict[tuple[str, str], list] = {}
    for row in rows:
        grouped.setdefault((str(row["name"]), row["start"]), []).append(row)
    groups = [
        Group(name, from_dict(found[0]["config"]), tuple(found))
        for (name, _), found in grouped.items()
    ]
    return tuple(sorted(_name_networks(groups), key=_order))


def dig(tree: Any, path: str) -> Any:
    """The value at a dotted path, or None where the path ends early."""
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


def is_finite(number: Any) -> bool:
    """Whether it is a number to count with."""
    return isinstance(number, numbers.Real) and math.isfinite(number)


def _name_networks(groups: Sequence[Group]) -> list[Group]:
    """Gives each group the name of its network, with what tells it from others."""
    named = []
    for group in groups:
        name, words = group.config.network.name, []
        others = [g.traits for g in groups if g.config.network.name == name]
        for key, value in group.traits.items():
            if len({str(each.get(key)) for each in others}) > 1:
                words.append(f"{key} {value}")
        called = ", ".join([meaning.network(name), *words])
        named.append(dataclasses.replace(group, network=called))
    return named


def _order(group: Group) -> tuple:
    # Quantizers of a user are in none of the lists, and stand behind ours.
    last = lambda one, known: known.index(one) if one in known else len(known)
    kind, method = KINDS.index(group.kind), group.method
    place = last(group.place, _PLACES)
    clip, bits = meaning.clip(group.config), meaning.bits(group.config)
    if group.is_spiking:
        start = STARTS.index(group.start)
        where = (kind, place, method.casefold(), start, group.details)
        return (*where, len(clip), clip, len(bits), bits)
    network = meaning.depth(group.config.network.name), group.network
    return (*network, kind, place, last(method, meaning.METHODS), method, group.details)
