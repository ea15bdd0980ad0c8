"""Several studies brought together, for example what two machines did of one."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsnnq.config import from_dict
from jsnnq.errors import InputError
from jsnnq.report.results import read
from jsnnq.runtime import files
from jsnnq.study.experiment import check_rows
from jsnnq.study.folder import MARKER, ROW, claim, identity_of


def merge(
    sources: Sequence[Path], out: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Brings the rows of several studies into one folder, with their results.

    What a report needs is copied, and the float networks, so that the study can go on
    there; other networks stay where they were trained. Of a row that is in several
    places the first is taken, and one that is in `out` already stays.

    Args:
        sources: folders of studies of one experiment, or of parts of it.
        out: a new folder, or one that was merged into before.
        say: told where a row was found twice with different results.

    Raises:
        InputError: a folder is no study, two of them have different rows of one name,
            or `out` cannot be used, or a study is running in it.
    """
    known = [out, *sources] if (out / MARKER).exists() else list(sources)
    identities = {folder: identity_of(folder) for folder in known}
    rows: dict[str, Any] = {}
    for folder, known_as in identities.items():
        for name, config in known_as["rows"].items():
            if rows.setdefault(name, config) != config:
                raise InputError(
                    f"row {name!r} of {str(folder)!r} is another experiment than in "
                    "the other folders: merge studies that agree about it"
                )
    held_out = {one.get("hold_out", 0) for one in identities.values()}
    if len(held_out) > 1:
        raise InputError(
            "some of these studies are tested on held-out training images and some on "
            "test images: merge those that are tested on the same"
        )
    check_rows({name: from_dict(config) for name, config in rows.items()})
    target = claim(out, rows, *held_out)
    with files.held(out):
        for source in sources:
            for path in sorted(source.glob(f"runs/*/{ROW}")):
                _bring(path.parent, out / "runs" / path.parent.name, say)
    paths = [folder / "results.json" for folder in known]
    before = [read(files.read_json(path)) for path in paths if path.is_file()]
    results = target.results(
        dict.fromkeys(run for one in before for run in one.planned),
        {k: x for one in before for k, x in one.results.get("paper", {}).items()},
        diverged=[run for one in before for run in one.diverged],
    )
    files.write_json(out / "results.json", results)
    return results


def _bring(run: Path, target: Path, say: Callable[[str], None]) -> None:
    """Copies what a report needs of a run, its row last."""
    row = files.read_json(run / ROW)
    if (target / ROW).exists():
        if _measured(files.read_json(target / ROW)) != _measured(row):
            say(
                f"{run} was run elsewhere too, with another result: the other one is "
                "kept, and rows that start from this one stay as they were measured"
            )
        return
    shutil.rmtree(target, ignore_errors=True)  # what another call had begun of it
    target.mkdir(parents=True)
    for name in ("firing.npz", "log.jsonl", "looks.jsonl"):
        if (run / name).exists():
            shutil.copyfile(run / name, target / name)
    if row["kind"] == "float" and (run / "checkpoint").is_dir():
        shutil.copytree(run / "checkpoint", target / "checkpoint", dirs_exist_ok=True)
    files.write_json(target / ROW, row)


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without when, where and by which command it was made."""
    return {key: x for key, x in row.items() if key not in ("wall_s", "made")}
