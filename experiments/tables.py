"""Every table of the papers beside ours: writes `experiments/README.md`.

    python -m experiments.tables
    python -m experiments.tables --take OUT experiments/stompp/reduced_r18.py

The second command first takes the results of a finished study into the folder of its
experiment; what is published is what was measured, with the commit and the command that
made it.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsnnq import behaviour, claims
from jsnnq.config import Experiment, load_experiment
from jsnnq.results import Study, read

ROOT = Path(__file__).parent
FAMILIES = {
    "beyond_accuracy": "Quantization of spiking networks beyond accuracy "
    "(arXiv 2604.14487)",
    "stompp": "Binary networks without a straight-through estimator "
    "(arXiv 2601.22660 and 2606.27759)",
}
SMALL = ("reduced", "digits")
"""Words in the name of an experiment that is smaller than the paper's."""
POINT = 0.01
"""A number is reproduced if it lies so near the paper's, or the paper's lies within the
range of our seeds."""
FIGURES = (
    ("accuracy_emd.png", "accuracy against EMD"),
    ("firing.png", "firing rates beside those of the float network"),
    ("accuracy_methods.png", "accuracy by method"),
    ("inside_bnn_r18.png", "inside a BNN while it trains"),
)
HEAD = """\
# The papers' tables

One line for each table: our numbers, the paper's with the grade of their evidence (P:
the paper itself, S: summaries by others; what they were published for where that is not
this table), where ours were made and what that cost. Accuracies are those of the last
epoch on the test images, means over seeds (with their range, and how many). An EMD
stands beside its control: the drift is the EMD of the float network that was fine-tuned
as long.

Status: `reproduced`, `partly` and `not reproduced` compare equal networks on equal
data, within a point or the range of our seeds; `reduced` is a smaller network or
training, which shows directions and hits no target; `not run` has no results yet.

This page is written by `python -m experiments.tables` from the results in the folders.
"""


def main() -> None:
    """Takes results if told to, and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--take",
        nargs=2,
        type=Path,
        metavar=("OUT", "EXPERIMENT"),
        help="take the results of a study from its folder",
    )
    options = parser.parse_args()
    if options.take:
        take(*options.take)
    (ROOT / "README.md").write_text(page(), encoding="utf-8")
    print(ROOT / "README.md")


def take(out: Path, experiment: Path) -> None:
    """Copies what is published of a study; paths of the machine are left out."""
    target = experiment.parent / "results" / experiment.stem
    shutil.rmtree(target, ignore_errors=True)
    (target / "plots").mkdir(parents=True)
    for name in ("results.json", "report.md"):
        text = (out / name).read_text(encoding="utf-8")
        for word in _paths(json.loads((out / "results.json").read_text())):
            text = text.replace(*word)
        (target / name).write_text(text, encoding="utf-8")
    for plot in sorted((out / "plots").glob("*.png")):
        shutil.copyfile(plot, target / "plots" / plot.name)


def _paths(results: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What stands for a path in the commands, and what is written instead of it."""
    commands = str(results["provenance"].get("command") or "").split("; ")
    for command in commands:
        words = command.split()
        for option, name in (("--data-dir", "DATA"), ("--out", "OUT")):
            if option in words[:-1]:
                yield words[words.index(option) + 1], name
        for word in words:
            if "/experiments/" in word:
                yield word, "experiments/" + word.split("/experiments/")[1]


def page() -> str:
    """The whole page."""
    found = {
        family: {path: load_experiment(path) for path in files(family)}
        for family in FAMILIES
    }
    parts = [HEAD]
    for family, experiments in found.items():
        parts.append(f"## {FAMILIES[family]}\n")
        parts.append("| table | rows | ours | paper | made on | status |")
        parts.append("|---|---|---:|---:|---|---|")
        parts += [_line(path, experiment) for path, experiment in experiments.items()]
        parts.append("")
        for path in experiments:
            parts += _claims(path)
    parts.append("## At a glance\n")
    for experiments in found.values():
        for path in experiments:
            parts += _figures(path)
    return "\n".join(parts).rstrip() + "\n"


def files(family: str) -> list[Path]:
    """The experiments of a paper, the complete ones first."""
    every = [p for p in (ROOT / family).glob("*.py") if not p.name.startswith("_")]
    return sorted(every, key=lambda path: (_is_small(path), path.name))


def _is_small(path: Path) -> bool:
    return any(word in path.stem for word in SMALL)


def results_of(path: Path) -> dict[str, Any] | None:
    """What was measured for an experiment."""
    file = path.parent / "results" / path.stem / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _line(path: Path, experiment: Experiment) -> str:
    results = results_of(path)
    study = read(results) if results else None
    names = list(experiment.paper) or _headlines(experiment)
    cells = [
        f"[{path.stem}]({path.parent.name}/{path.name}): {experiment.title}",
        _stacked(f"`{name}`" for name in names),
        _stacked(_ours(study, name) for name in names),
        _stacked(_published(experiment.paper.get(name)) for name in names),
        _made(results),
        f"`{status(path, experiment, study)}`",
    ]
    return f"| {' | '.join(cells)} |"


def _headlines(experiment: Experiment) -> list[str]:
    """The rows to show of a table of which nothing is published."""
    kinds = {name: row.kind for name, row in experiment.rows.items()}
    floats = [name for name, kind in kinds.items() if kind != "quantized"]
    return (floats or list(kinds))[:2]


def _stacked(lines: Iterable[str]) -> str:
    return "<br>".join(lines)


def _group(study: Study | None, name: str):
    groups = study.groups if study else ()
    return next((group for group in groups if group.name == name), None)


def _ours(study: Study | None, name: str) -> str:
    group = _group(study, name)
    if study is None or group is None:
        return "–"
    values, emd = group.values("accuracy"), group.mean("emd.mean")
    words = f"{100 * statistics.fmean(values):.1f} % ({_spread(values)})"
    if emd is not None and (ratio := study.ratio(group)) is not None:
        control = study.control(group.start)
        words += f", EMD {emd:.4f} = {ratio:.1f} × {control.word if control else ''}"
    return words


def _spread(values: Sequence[float]) -> str:
    """The range over seeds, and how many there are."""
    if len(values) == 1:
        return "1"
    return f"{100 * min(values):.1f}–{100 * max(values):.1f}, {len(values)}"


def _published(known: Mapping[str, Any] | None) -> str:
    if known is None:
        return "not known"
    words = f"{100 * known['accuracy']:.1f} %"
    if known.get("emd"):
        words += f", EMD {known['emd']:.4f}"
    of = f", of {known['of']}" if known.get("of") else ""
    return f"{words} ({known['grade']}{of})"


def _made(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "–"
    hours = sum(row["wall_s"] for row in results["rows"]) / 3600
    jobs = len(results["rows"])
    return f"{results['provenance']['device']}, {jobs} runs, {hours:.1f} h"


def status(path: Path, experiment: Experiment, study: Study | None) -> str:
    """How a table of ours stands to the paper's."""
    if study is None:
        return "not run"
    if _is_small(path):
        return "reduced"
    hits = [
        _is_hit(_group(study, name), known)
        for name, known in experiment.paper.items()
        if not known.get("of")
    ]
    if not hits or not any(hits):
        return "not reproduced" if hits else "partly"
    return "reproduced" if all(hits) else "partly"


def _is_hit(group: Any, known: Mapping[str, Any]) -> bool:
    values = group.values("accuracy") if group else []
    if not values:
        return False
    near = abs(statistics.fmean(values) - known["accuracy"]) <= POINT
    return near or min(values) <= known["accuracy"] <= max(values)


def _claims(path: Path) -> list[str]:
    results = results_of(path)
    if results is None:
        return []
    study = read(results)
    held = (claims if study.is_binary else behaviour).hold(study)
    if not held:
        return []
    lines = [
        f"Claims under test, held against [{path.stem}]({path.parent.name}/results/"
        f"{path.stem}/report.md):\n",
        "| claim | here | numbers |",
        "|---|---|---|",
    ]
    lines += [
        f"| {claim.words} | {claim.reading.words} | {claim.because} |" for claim in held
    ]
    return [*lines, ""]


def _figures(path: Path) -> list[str]:
    folder = path.parent / "results" / path.stem / "plots"
    return [
        f"![{path.stem}: {words}]({folder.relative_to(ROOT).as_posix()}/{name})\n"
        for name, words in FIGURES
        if (folder / name).is_file()
    ]


if __name__ == "__main__":
    main()
