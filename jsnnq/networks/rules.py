"""Which layer of a network gets which quantizer."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from jsnnq.errors import InputError, settle
from jsnnq.quantizers.base import Quantizer, identity


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which layer gets which quantizer: the first full match of its path wins.

    Attributes:
        rules: pairs of a regular expression on the layer's path (`layer1_0/conv1`)
            and a quantizer. A layer that matches none stays full precision.

    Example:
        >>> rules = jsnnq.Rules(((r"layer.*/conv1", jsnnq.uniform(2)),))
        >>> print(rules("layer1_0/conv1"), rules("fc"))
        Uniform(bits=2) Identity()
    """

    rules: tuple[tuple[str, Quantizer], ...] = ()

    def __post_init__(self):
        settle(self)

    def __call__(self, path: str) -> Quantizer:
        """The quantizer of the layer at `path`."""
        for pattern, quantizer in self.rules:
            if re.fullmatch(pattern, path):
                return quantizer
        return identity

    def placed(self, place: str, threshold: float | None = None) -> "Rules":
        """The same rules, each quantizer as `Quantizer.placed` returns it.

        Raises:
            InputError: a quantizer has no meaning there.
        """
        return self.with_each(lambda quantizer: quantizer.placed(place, threshold))

    @property
    def representative(self) -> "Rules":
        """The same one for all rules whose layers compile to one program."""
        return self.with_each(lambda quantizer: quantizer.representative)

    def with_each(self, change: Callable[[Quantizer], Quantizer]) -> "Rules":
        """The same rules, each quantizer changed."""
        return Rules(tuple((pattern, change(one)) for pattern, one in self.rules))


def check_pairs(place: str, given: Any) -> None:
    """Refuses rules that are no pairs of a pattern and a quantizer, or None.

    Raises:
        InputError: with what was given for this place.
    """
    for rule in given if isinstance(given, tuple) else [None]:
        if isinstance(rule, tuple) and len(rule) == 2:
            pattern, quantizer = rule
            if isinstance(pattern, str) and isinstance(quantizer, Quantizer | None):
                continue
        raise InputError(
            f"{place} is {given!r}: a tuple of pairs (pattern, quantizer) is needed"
        )
