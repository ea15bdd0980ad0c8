"""What a compiled program reads and writes in the device's memory.

An instruction at the top of a program, or in a loop's body, reads what it is given from
memory and writes what it makes there; what is fused into it moves nothing. Of an array
of which it takes slices it reads those, of one that it updates in place it writes the
part. What lies in a TPU's vector memory costs nothing. Caches, and what is read twice
by one kernel, are not known here, so that a program may move more.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .hlo import Array, Computation, Instruction, Module

_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
}
_FREE_CALLS = {"AllocateBuffer", "ConcatBitcast"}
_SLICES = {"slice", "dynamic-slice", "gather"}
_SAME_PLACE = {"bitcast", "reshape"}


class Moved(NamedTuple):
    """Bytes that an instruction moves between the device's memory and its units."""

    instruction: Instruction
    read: float
    written: float

    @property
    def total(self) -> float:
        """Both."""
        return self.read + self.written


def moved(module: Module) -> list[Moved]:
    """What every instruction of a program moves, all its repetitions together."""
    return list(_moved(module, module.entry, 1))


def _moved(module, name, times) -> Iterator[Moved]:
    computation = module.computations[name]
    for one in computation.values():
        if one.opcode == "while":
            for body in one.called:
                yield from _moved(module, body, times * _turns(module, one))
        elif one.opcode == "call":
            yield from _moved(module, one.called[0], times)
        elif one.opcode == "conditional":
            branches = [list(_moved(module, branch, times)) for branch in one.called]
            # One of them runs; the bound is that of the largest.
            yield from max(branches, key=lambda found: sum(x.total for x in found))
        elif not _is_free(one):
            read, written = _bytes(module, computation, one)
            yield Moved(one, times * read, times * written)


def _turns(module: Module, loop: Instruction) -> int:
    """How often a loop runs; once where its text does not tell."""
    if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"'):
        return int(known)
    # Compilers for TPUs leave it out; a scan counts from 0 to a constant.
    condition = module.computations[loop.attribute(r"condition=%?([\w.\-]+)")]
    ends = [x.arguments for x in condition.values() if x.opcode == "constant"]
    return int(ends[0]) if len(ends) == 1 and ends[0].isdigit() else 1


def _is_free(one: Instruction) -> bool:
    """Whether it only names what is there, or waits."""
    done = one.opcode.endswith("-done")
    return done or one.opcode in _FREE or one.target in _FREE_CALLS


def _bytes(
    module: Module, computation: Computation, one: Instruction
) -> tuple[float, float]:
    """Bytes read and written by an instruction once."""
    if one.opcode == "copy-start":  # Makes the copy, what is copied, and a flag.
        copy, source = one.arrays[:2]
        return _here(source), _here(copy)
    given = [computation[name] for name in one.operands if name in computation]
    if one.opcode.endswith("-start"):  # Makes what it is given, the results, and flags.
        count = len(given)
        made = one.arrays[count : 2 * count] or one.arrays
        read = sum(
            min(_here(array), result.size)
            for operand, result in zip(given, made, strict=False)
            for array in operand.arrays
        )
        return read, sum(map(_here, made))
    read = sum(
        _share_read(module, one, k, operand.elements) * sum(map(_here, operand.arrays))
        for k, operand in enumerate(given)
    )
    return read, _written(module, computation, one)


def _here(array: Array) -> float:
    """Its bytes in the device's memory."""
    return array.size if array.on_device else 0.0


def _share_read(
    module: Module, one: Instruction, position: int, elements: int
) -> float:
    """How much of an operand of so many numbers an instruction reads, from 0 to 1."""
    if one.opcode == "fusion":
        return _share_read_inside(module, one.called[0], position)
    if position == 0 and one.opcode == "dynamic-update-slice":
        return 0.0
    if position == 0 and one.opcode in _SLICES:
        return min(1.0, one.elements / max(1, elements))
    return 1.0


def _share_read_inside(module: Module, name: str, number: int) -> float:
    """How much of a parameter a fused computation reads, from 0 to 1."""
    computation = module.computations[name]
    parameter = computation.parameter(number)
    share, waiting = 0.0, [parameter]
    while waiting and share < 1:
        known = waiting.pop()
        if known.is_root:
            return 1.0
        for user in computation.users[known.name]:
            if user.opcode in _SAME_PLACE:
                waiting.append(user)
                continue
            for position, operand in enumerate(user.operands):
                if operand == known.name:
                    share += _share_read(module, user, position, parameter.elements)
    return min(1.0, share)


def _written(module: Module, computation: Computation, one: Instruction) -> float:
    """Bytes of its results that it writes."""
    if one.opcode == "fusion":
        computation = module.computations[one.called[0]]
        root = computation.root
        several = root.opcode == "tuple"
        results = [computation[x] for x in root.operands] if several else [root]
    else:
        results = [one]
    if len(results) != len(one.arrays):
        return sum(map(_here, one.arrays))
    pairs = zip(results, one.arrays, strict=True)
    return sum(_share_updated(computation, made) * _here(x) for made, x in pairs)


def _share_updated(computation: Computation, made: Instruction) -> float:
    """How much of a result is new, from 0 to 1: less where it is updated in place."""
    while made.opcode in _SAME_PLACE and made.operands[0] in computation:
        made = computation[made.operands[0]]
    if made.opcode != "dynamic-update-slice":
        return 1.0
    return computation[made.operands[1]].elements / max(1, made.elements)
