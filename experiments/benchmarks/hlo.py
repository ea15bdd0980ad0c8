"""Programs as XLA writes them when it has compiled them: instructions and arrays.

The grammar that is read here is that of `compiled.as_text()`:

    ENTRY %main (x: f32[8,4]) -> f32[8,4] {
      %x = f32[8,4]{1,0:T(8,128)} parameter(0)
      ROOT %twice = f32[8,4]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused
    }

A layout `{1,0:T(8,128)S(1)}` lists axes from the fastest on; behind the colon stand the
tile, in whole multiples of which the array lies in memory, and the memory: none for
that of the device, S(1) for a TPU's vector memory (openxla.org/xla/tiled_layout).
"""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
# A tuple's type has spaces, but never one behind a parenthesis.
_INSTRUCTION = re.compile(
    r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$", re.DOTALL
)


class Array(NamedTuple):
    """An array of a program.

    Attributes:
        dims: lengths of its axes.
        size: bytes it takes where it lies, filled up to whole tiles.
        on_device: whether it lies in the device's main memory.
    """

    dims: tuple[int, ...]
    size: float
    on_device: bool

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.dims)


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, such as `(f32[8,4]{1,0}, s32[])`, in order."""
    return tuple(_array(*found) for found in _ARRAY.findall(text))


def _array(dtype, dims, layout):
    dims = tuple(map(int, dims.split(","))) if dims else ()
    order, _, rest = layout.partition(":")
    laid = [dims[int(axis)] for axis in order.split(",")] if order else list(dims)
    if tile := re.match(r"T\(([\d,]+)\)", rest):
        # The fastest axis comes first in `laid`, and last in the tile.
        for k, length in enumerate(reversed(tile[1].split(","))):
            if k < len(laid):
                laid[k] = -(-laid[k] // int(length)) * int(length)
    memory = re.search(r"S\((\d+)\)", rest)
    size = math.prod(laid) * _bits(dtype) / 8
    return Array(dims, size, memory is None or memory[1] == "0")


def _bits(dtype):
    if dtype in _BITS:
        return _BITS[dtype]
    # bf16, s4, c64, f8e4m3fn: the first number is that of bits.
    return int(re.findall(r"\d+", dtype)[0])


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
        name: what other lines call it.
        opcode: what it does, `fusion` or `copy`.
        arrays: what it makes.
        operands: names of what it is given.
        arguments: what stands in its parentheses.
        attributes: what stands behind them.
        is_root: whether it is what its computation returns.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    @property
    def elements(self) -> int:
        """How many numbers it makes."""
        return sum(array.elements for array in self.arrays)

    @functools.cached_property
    def op_name(self) -> str:
        """The path in the Python program that it comes from, or nothing."""
        # Several that became one have the paths of all, behind semicolons.
        return self.attribute(r'op_name="([^";]*)')

    @functools.cached_property
    def target(self) -> str:
        """What a custom call calls."""
        return self.attribute(r'custom_call_target="([^"]*)"')

    def attribute(self, pattern: str) -> str:
        """What the pattern's group finds behind the parentheses, or nothing."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs: one fused, a loop's body, or branches."""
        pattern = (
            r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)"
        )
        branches = self.attribute(r"branch_computations=\{([^}]*)\}")
        one_by_one = re.findall(pattern, self.attributes)
        return (*one_by_one, *re.findall(r"%?([\w.\-]+)", branches))


class Computation(dict[str, Instruction]):
    """Instructions by name, in their order."""

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who is given what an instruction makes."""
        found: dict[str, list[Instruction]] = {name: [] for name in self}
        for one in self.values():
            for operand in dict.fromkeys(one.operands):
                found[operand].append(one)
        return found

    @functools.cached_property
    def root(self) -> Instruction:
        """What it returns."""
        return next(one for one in reversed(self.values()) if one.is_root)

    def parameter(self, number: int) -> Instruction:
        """The parameter of this number."""
        return next(
            one
            for one in self.values()
            if one.opcode == "parameter" and one.arguments == str(number)
        )


class Module(NamedTuple):
    """A whole program: its computations by name, and where it begins."""

    computations: dict[str, Computation]
    entry: str


def read(text: str) -> Module:
    """The program that a text holds."""
    computations: dict[str, Computation] = {}
    entry, current = "", Computation()
    for line in text.splitlines():
        if begins := _COMPUTATION.match(line):
            current = computations[begins[2]] = Computation()
            entry = begins[2] if begins[1] else entry
        elif found := _INSTRUCTION.match(line):
            root, name, made, opcode, rest = found.groups()
            arguments, _, attributes = rest.partition(")")
            operands = tuple(re.findall(r"%([\w.\-]+)", arguments))
            current[name] = Instruction(
                name, opcode, arrays(made), operands, arguments, attributes, bool(root)
            )
    return Module(computations, entry)
