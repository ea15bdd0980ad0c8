"""Experiment files, and which rows can be one study.

An experiment file is a Python file with `ROWS`, a mapping from the name a row is
printed under to its `Config`, and perhaps `PAPER`, what was published of them, and
`CLAIMS`, what is claimed of them.
"""

import dataclasses
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsnnq.config import STARTS, BinaryNetworkConfig, Config, NetworkConfig
from jsnnq.errors import InputError
from jsnnq.report.comparisons import Claims


class Experiment(NamedTuple):
    """What an experiment file holds.

    Attributes:
        title: the first line of its docstring.
        rows: name to config.
        paper: published values by row: `accuracy`, `emd`, the share of `dead` neurons
            and `gain` in accuracy on the straight-through estimator, as fractions;
            `grade` of the evidence, or of one value (`gain_grade`); `of`, what they
            were published for if that differs; a `note`.
        claims: what is claimed of the rows; see `jsnnq.report.comparisons`.
    """

    title: str
    rows: dict[str, Config]
    paper: dict[str, dict[str, Any]]
    claims: Claims = ()


def load_experiment(path: str | Path) -> Experiment:
    """Reads an experiment file: `ROWS`, and perhaps `PAPER` and `CLAIMS`.

    As in a test of pytest, the folder that holds the file's outermost package can be
    imported from, so that experiments share code: `from experiments.x import y`.

    Raises:
        InputError: there is no such file, it fails, it has no usable `ROWS`, or its
            `PAPER` names a row it does not have, or its `CLAIMS` are none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no experiment file {str(path)!r}: give the path of a Python file with "
            "ROWS, or no path for the default study"
        )
    root = path.resolve().parent
    while (root / "__init__.py").is_file():
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = runpy.run_path(str(path), run_name="jsnnq_experiment")
    except (Exception, SystemExit) as error:
        what = (str(error).splitlines() or ["no message"])[0]
        raise InputError(
            f"the experiment {str(path)!r} fails with {type(error).__name__}: {what}"
        ) from error
    rows = module.get("ROWS")
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"the experiment {str(path)!r} has no ROWS, name -> Config")
    check_rows(rows)
    paper = module.get("PAPER", {})
    if not isinstance(paper, dict) or not all(
        isinstance(values, dict) and "grade" in values for values in paper.values()
    ):
        raise InputError(
            f"PAPER of {str(path)!r} must map names of rows to dictionaries such as "
            "{'accuracy': 0.5, 'grade': 'S'}"
        )
    for name in paper:
        if name not in rows:
            raise InputError(
                f"PAPER of {str(path)!r} has values for {name!r}, which is no row: "
                "name a row of ROWS"
            )
    claims = module.get("CLAIMS", ())
    if not isinstance(claims, Sequence) or not all(map(callable, claims)):
        raise InputError(
            f"CLAIMS of {str(path)!r} must be functions from rows to what they say of "
            "them, as jsnnq.report.comparisons describes"
        )
    title = (module.get("__doc__") or "").strip() or path.stem
    return Experiment(title.splitlines()[0], rows, paper, tuple(claims))


def check_rows(rows: Mapping[Any, Any]) -> None:
    """Refuses rows that cannot be one study.

    Raises:
        InputError: an entry is no `Config`, a name cannot be a folder's, a start is
            unknown, or a row needs a float network that no row trains.
    """
    for name, row in rows.items():
        if not isinstance(row, Config):
            raise InputError(f"row {name!r} is a {type(row).__name__}, not a Config")
    for name, row in rows.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w+=-][\w+=.-]*", name):
            raise InputError(
                f"row name {name!r} cannot name a folder: use letters, digits, - and _"
            )
        if row.start not in STARTS:
            raise InputError(
                f"row {name!r} starts from {row.start!r}: accepted are "
                f"{', '.join(STARTS)}"
            )
        if row.start != "scratch" and parent(rows, row) is None:
            raise InputError(
                f"row {name!r} starts from a checkpoint, but no row trains a float "
                "network of the same data and network from scratch: add one"
            )
    _check_controls(rows)


def _check_controls(rows: Mapping[str, Config]) -> None:
    """One study has one floor and one drift, so one float network and one control."""
    spiking = {name: row for name, row in rows.items() if row.spikes}
    if spiking and len(spiking) < len(rows):
        other = next(name for name in rows if name not in spiking)
        raise InputError(
            f"row {next(iter(spiking))!r} is a spiking network and row {other!r} is "
            "none: make one study for each"
        )
    for kind, start, control in (
        ("float", "scratch", "floor"),
        ("control", "checkpoint", "drift"),
    ):
        found = [name for name, row in spiking.items() if row.kind == kind]
        if len(found) > 1:
            raise InputError(
                f"rows {found[0]!r} and {found[1]!r} are both {kind} networks, but a "
                f"study has one {control}: make one study for each"
            )
        if found:
            recipe = rows[found[0]].training
            for name, row in rows.items():
                if row.start == start and row.training != recipe:
                    raise InputError(
                        f"row {name!r} is trained otherwise than its control "
                        f"{found[0]!r}: both must have the same steps and rate"
                    )


def parent(rows: Mapping[str, Config], row: Config) -> str | None:
    """Name of the float row a row is compared with: same data, same network."""
    floats = (name for name, other in rows.items() if other.kind == "float")
    return next((n for n in floats if _network(rows[n]) == _network(row)), None)


def _network(row: Config) -> tuple[str, NetworkConfig | BinaryNetworkConfig]:
    """Data and network, wherever a membrane quantizer acts."""
    network = row.network
    if isinstance(network, NetworkConfig):
        neuron = dataclasses.replace(network.neuron, placement="stored")
        network = dataclasses.replace(network, neuron=neuron)
    return row.data, network
