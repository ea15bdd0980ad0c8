"""The packed file: a network in as many bits as its numbers have.

    8 bytes     jsnnq in ASCII, a zero, the version as two bytes, low first
    4 bytes     length M of the metadata, unsigned, low byte first
    32 bytes    SHA-256 of everything that follows
    M bytes     metadata: JSON, compressed by zlib
    the rest    arrays one behind the other, in the order of `arrays` in the metadata

An array has a `path`, a `shape` and a `type`: the name of a dtype, stored low byte
first, or `codes`, a kernel's plane of whole numbers of so many `bits`. A number n of 0
to 2^bits - 1 stands for `first` + `every` n. Its bits are stored plane by plane, the
lowest first, each plane the bits of all weights in the order of `H W I O`, the first
one highest in its byte, and filled up to a byte.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jsnnq.errors import InputError
from jsnnq.runtime import files

VERSION = 1
"""Of the file; a newer one is refused."""

_MAGIC = b"jsnnq\0"
_HEAD = struct.Struct("<6sHI32s")


def write(
    path: Path, arrays: Mapping[str, np.ndarray], codes: Mapping[str, int], about: Any
) -> int:
    """Writes a file, whole or not at all.

    Args:
        path: of the file.
        arrays: by their paths.
        codes: for those of whole numbers that are stored in fewer bits, how many.
        about: JSON values, the rest of the metadata.

    Returns:
        How many bytes it has.

    Raises:
        InputError: it cannot be written.
    """
    entries, blobs = [], []
    for name, array in arrays.items():
        entry: dict[str, Any] = {"path": name, "shape": list(array.shape)}
        if name in codes:
            first, every = _grid(array, codes[name])
            more = {"bits": codes[name], "first": first, "every": every}
            entry |= {"type": "codes", **more}
            blobs.append(_planes((array.astype(np.int64) - first) // every, entry))
        else:
            little = array.astype(array.dtype.newbyteorder("<"))
            entry["type"] = array.dtype.name
            blobs.append(little.tobytes())
        entries.append(entry)
    text = json.dumps({**about, "arrays": entries}, separators=(",", ":"))
    short = zlib.compress(text.encode(), 9)
    body = b"".join((short, *blobs))
    digest = hashlib.sha256(body).digest()
    content = _HEAD.pack(_MAGIC, VERSION, len(short), digest) + body
    files.write_bytes(path, content)
    return len(content)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by their paths, and the rest of the metadata.

    Raises:
        InputError: there is no such file, or it is another, newer, or damaged.
    """
    about, body = _content(path)
    arrays, at = {}, 0
    for entry in about.pop("arrays"):
        size = math.prod(entry["shape"])
        if entry["type"] == "codes":
            length = entry["bits"] * -(-size // 8)
            planes = np.frombuffer(body[at : at + length], np.uint8)
            planes = planes.reshape(entry["bits"], -1)
            bits = np.unpackbits(planes, axis=1, count=size).astype(np.int32)
            numbers = (bits << np.arange(entry["bits"])[:, None]).sum(axis=0)
            found = entry["first"] + entry["every"] * numbers
        else:
            dtype = np.dtype(entry["type"]).newbyteorder("<")
            length = size * dtype.itemsize
            found = np.frombuffer(body[at : at + length], dtype)
            found = found.astype(dtype.newbyteorder("="))
        arrays[entry["path"]] = found.reshape(entry["shape"])
        at += length
    return arrays, about


def metadata(path: Path) -> dict[str, Any]:
    """What is known of a network beside its arrays.

    Raises:
        InputError: as for `read`.
    """
    found, _ = _content(path)
    return found


def _content(path: Path) -> tuple[dict[str, Any], bytes]:
    """Metadata and arrays of a file that is as it was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {str(path)!r} ({error.strerror}): give a file that "
            "jsnnq.export wrote"
        ) from error
    if len(content) < _HEAD.size or content[: len(_MAGIC)] != _MAGIC:
        raise InputError(
            f"{str(path)!r} is no packed network: give a file that 'jsnnq export' "
            "wrote, or the folder of a checkpoint"
        )
    _, version, length, digest = _HEAD.unpack_from(content)
    if version > VERSION:
        raise InputError(
            f"{str(path)!r} was written by a newer version of jsnnq (packed file "
            f"{version}, known is {VERSION}): use a newer one"
        )
    body = content[_HEAD.size :]
    if hashlib.sha256(body).digest() != digest:
        raise InputError(
            f"{str(path)!r} is damaged: its content is not what was written; copy or "
            "export it again"
        )
    return json.loads(zlib.decompress(body[:length])), body[length:]


def _grid(codes: Int[np.ndarray, "..."], bits: int) -> tuple[int, int]:
    """The least number and the step of a grid of so many bits that has all codes."""
    every = 2 if bits < 8 and np.all(codes % 2) else 1
    first = int(codes.min())
    if int(codes.max()) - first >= every * 2**bits:
        raise InputError(
            f"codes from {first} to {int(codes.max())} do not fit {bits} bits"
        )
    return first, every


def _planes(numbers: Int[np.ndarray, "..."], entry: Mapping[str, Any]) -> bytes:
    flat = numbers.reshape(-1)
    return b"".join(
        np.packbits((flat >> bit) & 1).tobytes() for bit in range(entry["bits"])
    )
