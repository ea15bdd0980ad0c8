"""Chips that programs are compiled for without owning one: their facts, and devices.

XLA compiles whole programs for a TPU with libtpu alone, and for an NVIDIA GPU with
JAX's CUDA plugin and a description of the chip. What such a program computes and moves
is exact and repeatable.
"""

import importlib.util
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from jsnnq.errors import InputError, choose


class Chip(NamedTuple):
    """What is known of a chip.

    Attributes:
        kind: what it is called.
        platform: JAX's name of what compiles for it.
        topologies: the arrangement to compile for, by the number of its devices that
            are used.
        rates: operations per second of its matrix units at most, by the dtype that a
            network is given. JAX computes products of float32 in its default precision:
            on a TPU rounded to bfloat16 once, on an NVIDIA GPU to TF32.
        bandwidth: bytes per second between its memory and the rest of it, at most.
        memory: bytes that a program may take.
        source: where these numbers stand.
        target: name of a file beside this one that describes the chip to XLA.
    """

    kind: str
    platform: str
    topologies: dict[int, str]
    rates: dict[str, float]
    bandwidth: float
    memory: float
    source: str
    target: str = ""


_TPU = "https://docs.cloud.google.com/tpu/docs/{}, read on 2026-11-29"
_GIB = 2**30

CHIPS = {
    "v5e": Chip(
        "TPU v5e",
        "tpu",
        {1: "v5e:2x2", 4: "v5e:2x2"},
        {"bfloat16": 197e12, "float32": 197e12},
        819e9,
        16 * _GIB,
        _TPU.format("v5e"),
    ),
    "v6e": Chip(
        "TPU v6e",
        "tpu",
        {1: "v6e:2x2", 4: "v6e:2x2"},
        {"bfloat16": 918e12, "float32": 918e12},
        1638e9,
        32 * _GIB,
        _TPU.format("v6e"),
    ),
    "v5p": Chip(
        "TPU v5p",
        "tpu",
        {1: "v5p:2x2x1", 4: "v5p:2x2x1"},
        {"bfloat16": 459e12, "float32": 459e12},
        2765e9,
        95 * _GIB,
        _TPU.format("v5p"),
    ),
    "h200": Chip(
        "NVIDIA H200",
        "cuda",
        {1: "1x1x1", 4: "1x1x4"},
        # Without sparsity, which doubles what the data sheet prints.
        {"bfloat16": 989e12, "float32": 494e12},
        4.8e12,
        141 * _GIB,
        "https://www.nvidia.com/en-us/data-center/h200/ (SXM)",
        "h200.txtpb",
    ),
}

_COMPILERS = {"tpu": "libtpu", "cuda": "jax-cuda13-plugin"}
"""The package that compiles for a platform; the platform is the name of our extra."""


def check_compilable(name: str) -> Chip:
    """The chip of this name, if there is all that compiling for it needs.

    Raises:
        InputError: the name is unknown, or a package is not installed.
    """
    choose("chip", name, CHIPS)
    chip = CHIPS[name]
    needed = _COMPILERS[chip.platform]
    if importlib.util.find_spec(needed.replace("-", "_")) is None:
        raise InputError(
            f"compiling for {chip.kind} needs {needed}, which is not installed: "
            f"pip install '.[{chip.platform}]' brings it"
        )
    return chip


def environment(chip: Chip) -> dict[str, str]:
    """What a process that compiles for a chip is told before it imports JAX."""
    # Programs are compiled for what is not there, and computed nowhere.
    needed = {"JAX_PLATFORMS": "cpu"}
    if chip.platform == "tpu":
        # libtpu would ask the metadata server of a cloud which TPU it is on.
        needed |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
        needed |= {"TPU_WORKER_HOSTNAMES": "localhost"}
    return {**os.environ, **needed}


def devices(chip: Chip, count: int = 1) -> list[Any]:
    """So many devices of a chip, to compile for; nothing can be computed on them."""
    from jax.experimental import topologies

    told = {}
    if chip.target:
        path = Path(__file__).parent / chip.target
        told = {"target_config": path.read_text(encoding="utf-8")}
        told["topology"] = chip.topologies[count]
    else:
        told["topology_name"] = chip.topologies[count]
    return topologies.get_topology_desc(platform=chip.platform, **told).devices[:count]


def versions(chip: Chip) -> dict[str, str]:
    """What compiles for a chip: the same versions make the same programs."""
    return {
        name: version(name) for name in ("jax", "jaxlib", _COMPILERS[chip.platform])
    }
