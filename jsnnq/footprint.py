"""The footprint of an evaluated network: its spikes counted, on disk and compared.

A footprint is a mapping of `counts` (int32 by neuron layer), `timesteps` and `images`.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jsnnq import emd
from jsnnq.evaluate import Evaluation
from jsnnq.runtime import files


def of(evaluation: Evaluation) -> dict[str, Any]:
    """The part of an evaluation that distances and histograms need."""
    return {
        "counts": evaluation.counts,
        "timesteps": evaluation.timesteps,
        "images": evaluation.images,
    }


def save(path: Path, evaluation: Evaluation) -> None:
    """Writes the counts of an evaluation.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        f"counts/{name}": value for name, value in evaluation.counts.items()
    }
    arrays |= {"timesteps": evaluation.timesteps, "images": evaluation.images}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Reads what `save` wrote."""
    with np.load(path) as stored:
        return {
            "counts": {
                name.removeprefix("counts/"): stored[name]
                for name in stored.files
                if name.startswith("counts/")
            },
            "timesteps": int(stored["timesteps"]),
            "images": int(stored["images"]),
        }


def distances(
    measure: Callable[..., emd.Distances],
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    unit: str = "neuron",
) -> emd.Distances:
    """`emd.compare` or `emd.compare_matched` on two firing records."""
    return measure(
        one["counts"],
        other["counts"],
        a_total=one["timesteps"] * one["images"],
        b_total=other["timesteps"] * other["images"],
        unit=unit,
    )


def as_dict(found: emd.Distances) -> dict[str, Any]:
    """Distances as they stand in `results.json`."""
    return {
        "mean": float(found.mean),
        "weighted": float(found.weighted),
        "max": float(found.max),
        "pooled": float(found.pooled),
        "layers": {name: float(value) for name, value in found.layers.items()},
    }
