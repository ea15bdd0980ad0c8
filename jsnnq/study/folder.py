"""What is done of a study: its folder, the rows in it, and what they add up to.

    study.json                what it is: rows; another study is refused
    runs/NAME-seedK/          one row: checkpoint/, firing.npz, log.jsonl, events,
                              and row.json, written last: a row that has it is done
    results.json              all rows that are done, with floor and drift
    results.csv, report.md, report.html, plots/

The rows on disk are the study: whatever was asked for last, all of them are in its
results, and none is ever written over.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from jsnnq.analysis import emd
from jsnnq.analysis.firing import Counts
from jsnnq.config import Run, from_dict, to_dict
from jsnnq.errors import InputError
from jsnnq.report import comparisons, page
from jsnnq.report.groups import KINDS
from jsnnq.report.results import SCHEMA as RESULTS_SCHEMA
from jsnnq.report.results import read
from jsnnq.runtime import checkpoint, files
from jsnnq.study.jobs import Job
from jsnnq.training import probe
from jsnnq.training.monitor import read_curve

SCHEMA = 1
"""Of the marker."""
MARKER = "study.json"
"""The file that makes a folder a study's."""
ROW = "row.json"
"""The file of a run that is written last."""
_PROVENANCE = ("jax", "device", "commit", "command", "dataset")


class StudyFolder:
    """The folder of a study.

    Args:
        out: the folder, claimed by `claim`.
    """

    def __init__(self, out: Path):
        self.out = out
        # What is on disk never changes, and is asked for after every row.
        self._read = functools.cache(_row)
        self._apart = functools.cache(
            lambda *pair: emd.compare(*map(Counts.load, pair)).as_data()
        )

    def folder(self, run: Run) -> Path:
        """Where a run is kept."""
        return self.out / "runs" / f"{run.name}-seed{run.seed}"

    def has(self, run: Run) -> bool:
        """Whether a row is done."""
        return (self.folder(run) / ROW).exists()

    def has_diverged(self, run: Run) -> bool:
        """Whether a run was left because its numbers were not finite."""
        return (self.folder(run) / "last_good").is_dir() and not self.has(run)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes down a row that is done."""
        files.write_json(self.folder(run_of(row)) / ROW, row)

    def rows(self) -> list[dict[str, Any]]:
        """All rows that are done: by kind, then seed by seed as the study has them."""
        found = [self._read(path) for path in self.out.glob(f"runs/*/{ROW}")]
        kind, name = KINDS.index, list(identity_of(self.out)["rows"]).index
        place = lambda row: (kind(row["kind"]), row["seed"], name(row["name"]))
        return sorted(found, key=place)

    def expected(self, job: Job, device: str) -> float | None:
        """Seconds that are left of a row, from what rows like it took on this device.

        None if there is none like it, or it was thought to be done by now.
        """
        made = [row for row in self.rows() if row["made"]["device"] == device]
        # One network that is trained the same way takes about as long.
        kind = lambda one: (one.data, one.network, one.training, one.start)
        alike = [row for row in made if row["name"] == job.name] or [
            row for row in made if kind(from_dict(row["config"])) == kind(job.config)
        ]
        if not alike:
            return None
        left = max(row["wall_s"] for row in alike)
        partial = self.folder(job.run) / "partial"
        if partial.is_dir():
            left -= checkpoint.read_metadata(partial)["wall_s"]
        return left if left > 0 else None

    def results(
        self,
        planned: Iterable[Run],
        paper: Mapping[str, Mapping[str, Any]],
        dataset: str = "",
        diverged: Iterable[Run] = (),
        claims: comparisons.Claims = (),
    ) -> dict[str, Any]:
        """The contents of `results.json`.

        Args:
            planned: all runs of the study, finished or not.
            paper: published values by row, printed beside ours.
            dataset: what is said of the data while no row is done.
            diverged: runs that diverged elsewhere.
            claims: what the experiment claims, to be held against the rows.
        """
        rows, planned = self.rows(), list(planned)
        lost = {run for run in planned if self.has_diverged(run)} | set(diverged)
        lost -= set(map(run_of, rows))
        configs = identity_of(self.out)["rows"] if lost else {}
        drifts = [row["emd"] for row in rows if row["kind"] == "control" and row["emd"]]
        floor, floor_range = _summarise(self._between_floats(rows))
        drift, drift_range = _summarise(drifts)
        made = {
            key: "; ".join(
                dict.fromkeys(row["made"][key] for row in rows if row["made"].get(key))
            )
            for key in _PROVENANCE
        }
        made["dataset"] = made["dataset"] or dataset
        results = {
            "schema": RESULTS_SCHEMA,
            "provenance": {key: value or None for key, value in made.items()},
            "floor": floor,
            "floor_range": floor_range,
            "drift": drift,
            "drift_range": drift_range,
            "paper": dict(paper),
            "planned": [run._asdict() for run in planned],
            "diverged": [
                {**run._asdict(), "config": configs[run.name]} for run in sorted(lost)
            ],
            "rows": rows,
        }
        return held(results, claims)

    def _between_floats(self, rows: Iterable[Mapping[str, Any]]):
        """The distances between float networks of different seeds, all pairs."""
        floats: dict[str, list[Path]] = {}
        for row in rows:
            path = self.folder(run_of(row)) / "firing.npz"
            if row["kind"] == "float" and path.exists():
                floats.setdefault(row["name"], []).append(path)
        pairs = (itertools.combinations(same, 2) for same in floats.values())
        return [self._apart(*pair) for pair in itertools.chain(*pairs)]


def _row(path: Path) -> dict[str, Any]:
    row = files.read_json(path)
    if not isinstance(row, dict) or row.get("kind") not in KINDS:
        raise InputError(
            f"{str(path)!r} is no row of a study: remove its folder, and type "
            "the same command again"
        )
    # Rows that were made before this was written down have no provenance.
    return {"made": dict.fromkeys(_PROVENANCE), **row}


def run_of(row: Mapping[str, Any]) -> Run:
    """The run whose row it is."""
    return Run(row["name"], row["seed"])


def claim(out: Path, rows: Mapping[str, Any], hold_out: int = 0) -> StudyFolder:
    """Takes a folder for a study, or refuses it.

    A study may gain rows; those that it has must be as they were.

    Args:
        out: made if it does not exist.
        rows: name to config, as dictionaries.
        hold_out: images that were held out of the training set, which makes it
            another study.

    Raises:
        InputError: the folder cannot be written or belongs to another study.
    """
    marker = out / MARKER
    if marker.is_file():
        known = identity_of(out)
        shared = {name: row for name, row in rows.items() if name in known["rows"]}
        files.check_same(out, known, identity(shared, hold_out))
        files.write_json(marker, identity(rows, hold_out))
    else:
        files.claim(out, MARKER, identity(rows, hold_out))
    return StudyFolder(out)


def identity(rows: Mapping[str, Any], hold_out: int) -> dict[str, Any]:
    """What makes a study this one, as its folder's marker says it."""
    held_out = {"hold_out": hold_out} if hold_out else {}
    return {"schema": SCHEMA, **held_out, "rows": dict(rows)}


def identity_of(folder: Path) -> dict[str, Any]:
    """What a folder is, with the settings of its rows as they are written today.

    Raises:
        InputError: it is no study.
    """
    path = folder / MARKER
    known = files.read_json(path) if path.is_file() else None
    if not isinstance(known, dict) or not isinstance(known.get("rows"), dict):
        raise InputError(
            f"{str(folder)!r} is no study: give a folder that 'jsnnq study' made"
        )
    try:
        rows = {n: to_dict(from_dict(config)) for n, config in known["rows"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{str(path)!r} is not of this version of jsnnq ({error!r}): use the one "
            "that made it, or give another folder"
        ) from error
    return identity(rows, known.get("hold_out", 0))


def _summarise(found: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The mean of several distances, key by key, and their range."""
    if not found:
        return None, None
    keys = ("mean", "weighted", "max", "pooled")
    each = {key: [one[key] for one in found] for key in keys}
    mean: dict[str, Any] = {key: fmean(values) for key, values in each.items()}
    mean["layers"] = {
        name: fmean(one["layers"][name] for one in found) for name in found[0]["layers"]
    }
    return mean, {key: [min(values), max(values)] for key, values in each.items()}


def held(results: dict[str, Any], claims: comparisons.Claims) -> dict[str, Any]:
    """Results with what they say of claims."""
    answers = comparisons.hold(read(results), claims) if claims else ()
    return {**results, "claims": [answer._asdict() for answer in answers]}


def write_report(out: Path, claims: comparisons.Claims | None = None) -> list[Path]:
    """Writes table, plots and page of a study from what lies in its folder.

    Args:
        out: the folder.
        claims: of an experiment, to be held against the results first; by default the
            answers that stand there are kept.

    Raises:
        InputError: there are no results in `out`, or they are no study's.
    """
    path = out / "results.json"
    if not path.is_file():
        raise InputError(
            f"no results.json in {str(out)!r}: give the folder of a study, "
            "as made by 'jsnnq study --out DIR'"
        )
    results = files.read_json(path)
    if not isinstance(results, dict) or "rows" not in results:
        raise InputError(
            f"{str(path)!r} does not hold the results of a study: give the folder of "
            "one, as made by 'jsnnq study --out DIR'"
        )
    if claims is not None:
        results = held(results, claims)
        files.write_json(path, results)
    known = StudyFolder(out)
    folders = {run: known.folder(run) for run in map(run_of, results["rows"])}

    def each(name, load):
        paths = {run: folder / name for run, folder in folders.items()}
        return {run: load(path) for run, path in paths.items() if path.exists()}

    return page.write(
        out,
        results,
        firing=each("firing.npz", Counts.load),
        curves=each("log.jsonl", read_curve),
        looks=each("looks.jsonl", probe.read_looks),
    )
