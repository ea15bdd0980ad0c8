"""Every table of the papers beside ours: writes `experiments/README.md` and reports.

    python -m experiments.tables

Every report is written anew from its results, and plots that need no more than these
are drawn again, so that all of them say what today's code reads in the numbers.
"""

import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsnnq.report import comparisons, page, summary
from jsnnq.report.comparisons import Answer
from jsnnq.report.groups import Group
from jsnnq.report.numbers import points
from jsnnq.report.plots import gallery
from jsnnq.report.results import Results, read
from jsnnq.study.experiment import Experiment, load_experiment

ROOT = Path(__file__).parent
FAMILIES = {
    "beyond_accuracy": "Quantization of spiking networks beyond accuracy "
    "(arXiv 2604.14487)",
    "stompp": "Binary networks without a straight-through estimator "
    "(arXiv 2601.22660 and 2606.27759)",
}
SMALL = ("reduced", "digits")
"""Words in the name of an experiment that is smaller than the paper's."""
SHARED = ("__init__", "base", "claims", "grid")
"""What the experiments of a paper have in common, and are no experiments."""
TOGETHER = (("reduced_r18", "reduced_r50"), ("reduced_r18", "reduced_masks"))
"""Experiments that are one table of the paper, so that some claims need all of them."""
POINT = 0.01
"""An accuracy is reproduced if it lies so near the paper's, or the paper's lies within
the range of our seeds."""
MANY = 12
"""A table of more rows shows those of which something is published."""
FIGURES = {
    "accuracy_emd.png": "accuracy against EMD",
    "firing.png": "firing rates beside those of the float network",
    "accuracy_methods.png": "accuracy by method",
    "inside_bnn_resnet-18.png": "inside a BNN while it trains",
}
PLOTS = FIGURES | {
    "emd_layers.png": "EMD of each layer",
    "firing_layers.png": "firing rates of single layers",
    "curves.png": "training",
    "cost.png": "what it costs to run",
    "inside_bwn_resnet-18.png": "inside a BWN while it trains",
}
HEAD = """\
# Experiments

What was measured, beside what the papers published. This page is written by
`python -m experiments.tables` from the results in the folders. What the results say, in
words and with the default study, is written by hand: [results.md](results.md). Guides:
[commands](guides/commands.md), [choices](guides/choices.md),
[reliability](guides/reliability.md), [files for inference](guides/deployment.md),
[performance](guides/performance.md).
"""
OVERVIEW = """\
## Overview

One line for each table: its experiment, the report of what was run of it, and how it
stands to the paper's.

- `reproduced`, `partly`, `not reproduced`: equal networks on equal data. Accuracies are
  compared within a point or the range of our seeds, EMDs within that range and the
  control's.
- `reduced`: a smaller network or training, which shows directions and hits no target.
- `run`: nothing is published of it.
- `not run`: no results yet.

| table | made on | status |
|---|---|---|
"""
READING = """\
## How to read the tables

- *Accuracy* is that of the last epoch on the test images: the mean over seeds, with
  their range.
- *Beside its control*: an EMD stands beside the drift (the EMD of the float network
  that was fine-tuned as long) or the floor (the EMD between float networks of different
  seeds), a binary network beside the straight-through estimator (STE). Neurons are dead
  that fire in less than 5 % of all timesteps.
- *Paper* is what was published, with the grade of its evidence: P is the paper itself,
  S are summaries by others. What was published of another network or data set says so.
- *Status* is that of the overview, row by row; `diverged` had numbers that were not
  finite.

Of a large grid the rows are shown of which something is published, or that are not run;
its report has them all. A table that is not run and of which nothing is published
stands in the overview alone. Claims are read as `jsnnq.report.comparisons` and the
`claims.py` of each folder say; one seed decides nothing.
"""
ELSEWHERE = """\
## Known, and not here

Two tables of arXiv 2606.27759 have no experiment here. BERT-base on SST-2 (the
straight-through estimator 50.9 %, StoMPP+STE 82.8 %, S) is no network of this library,
and of the pretrained Bi-Real-Net-18, where StoMPP lies below the estimator (S), neither
the numbers nor the pretrained network are known. SEW-ResNet's own results at depths 34
to 152 on ImageNet and on event data (arXiv 2102.04159) and LQ-Nets' on ImageNet
(arXiv 1807.10029) are of networks that are not quantized, or that do not spike:
`sew_resnet34` to `sew_resnet152` can be trained, without a file of their own.
"""


def write() -> None:
    """Writes the page and every report, and draws again what needs no more."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    for path in (path for family in FAMILIES for path in experiments_of(family)):
        if results := results_of(path):
            redraw(folder(path) / "plots", _beside_paper(path, results))


def pages() -> dict[Path, str]:
    """Everything that is written from results: this folder's page, and each report."""
    found = {ROOT / "README.md": overview()}
    for family in FAMILIES:
        for path in experiments_of(family):
            if results := results_of(path):
                found[folder(path) / "report.md"] = told(path, results)
    return found


def told(path: Path, results: Mapping[str, Any]) -> str:
    """The report of an experiment, from its results and the names of its plots."""
    known = _beside_paper(path, results)
    drawn = {plot.name for plot in (folder(path) / "plots").glob("*.png")}
    shown = [*(n for n in PLOTS if n in drawn), *sorted(drawn - PLOTS.keys())]
    words = {n: PLOTS.get(n, n.removesuffix(".png").replace("_", " ")) for n in shown}
    return page.markdown(known, {f"plots/{n}": f"Plot: {words[n]}" for n in shown})


def _beside_paper(path: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Results with what is published and claimed of them as it is known today."""
    known = load_experiment(path)
    claims = [one._asdict() for one in comparisons.hold(read(results), known.claims)]
    return {**results, "paper": known.paper, "claims": claims}


def redraw(plots: Path, results: Mapping[str, Any]) -> None:
    """Draws again what needs no more than the results, as they are read today."""
    for picture in gallery.draw(read(results)):
        if (plots / picture.file).exists():
            (plots / picture.file).write_bytes(picture.light)


def folder(path: Path) -> Path:
    """Where the results of an experiment lie."""
    return path.parent / "results" / path.stem


def overview() -> str:
    """The whole page."""
    found = {
        family: {path: load_experiment(path) for path in experiments_of(family)}
        for family in FAMILIES
    }
    parts = [HEAD, OVERVIEW.rstrip()]
    parts += [_line(path, one) for each in found.values() for path, one in each.items()]
    parts += ["", READING]
    for family, experiments in found.items():
        parts.append(f"## {FAMILIES[family]}\n")
        parts.append("| table | row | accuracy | beside its control | paper | status |")
        parts.append("|---|---|---:|---:|---:|---|")
        for path, experiment in experiments.items():
            parts += _rows(path, experiment)
        parts.append("")
        for path in experiments:
            parts += claims_on([path])
        for names in TOGETHER:
            paths = [path for path in experiments if path.stem in names]
            alone = [claim for path in paths for claim in held([path])]
            parts += claims_on(paths, known=alone) if len(paths) > 1 else []
    parts += [ELSEWHERE, "## At a glance\n"]
    for experiments in found.values():
        for path in experiments:
            parts += _figures(path)
    return "\n".join(parts).rstrip() + "\n"


def experiments_of(family: str) -> list[Path]:
    """The experiments of a paper, the complete ones first."""
    every = [p for p in (ROOT / family).glob("*.py") if p.stem not in SHARED]
    return sorted(every, key=lambda path: (is_small(path), path.name))


def is_small(path: Path) -> bool:
    """Whether an experiment is smaller than the paper's."""
    return any(word in path.stem for word in SMALL)


def results_of(path: Path) -> dict[str, Any] | None:
    """What was measured for an experiment."""
    file = folder(path) / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _line(path: Path, experiment: Experiment) -> str:
    """A table in the overview."""
    results = results_of(path)
    study = read(results) if results else None
    made = _made(results)
    if results:
        report = (folder(path) / "report.md").relative_to(ROOT)
        made = f"[{made}]({report.as_posix()})"
    cells = [
        f"[{path.stem}]({path.parent.name}/{path.name}): {experiment.title}",
        made,
        f"`{status(path, experiment, study)}`",
    ]
    return f"| {' | '.join(cells)} |"


def _rows(path: Path, experiment: Experiment) -> list[str]:
    """The rows of a table, one a line."""
    results = results_of(path)
    study = read(results) if results else None
    return [
        f"| {path.stem} | `{name}` | {_accuracy(study, name)} "
        f"| {_beside_control(study, name)} | {_published(experiment.paper.get(name))} "
        f"| `{row_status(path, experiment, study, name)}` |"
        for name in _shown(experiment, study)
    ]


def _shown(experiment: Experiment, study: Results | None) -> list[str]:
    """The rows to show: published ones and, of a study, the others too.

    Of many rows those that were run and of which nothing is published are left out.
    """
    known, every = experiment.paper, list(experiment.rows)
    if study is None:
        return [name for name in every if name in known]
    run = {group.name for group in study.groups}
    if len(every) <= MANY or not known:
        return every
    return [name for name in every if name in known or name not in run]


def _group(study: Results | None, name: str):
    groups = study.groups if study else ()
    return next((group for group in groups if group.name == name), None)


def _accuracy(study: Results | None, name: str) -> str:
    group = _group(study, name)
    values = group.values("accuracy") if group else []
    if not values:
        return "–"
    return f"{100 * statistics.fmean(values):.1f} % ({_spread(values)})"


def _beside_control(study: Results | None, name: str) -> str:
    """Gain on the estimator, EMD beside drift or floor, and dead neurons."""
    group = _group(study, name)
    if study is None or group is None:
        return "–"
    words = []
    gain = study.gain(group) if study.is_binary else None
    if gain is not None and group.method != "STE":
        words.append(f"{points(gain)} on STE")
    emd = group.mean("emd.mean")
    if emd is not None and (ratio := study.ratio(group)) is not None:
        control = study.control(group.start)
        said = f"EMD {emd:.4f}{_range(group.values('emd.mean'), '.4f')}"
        words.append(f"{said} = {ratio:.1f} × {control.word if control else ''}")
    if shares := [100 * share for share in group.values("dead")]:
        words.append(f"dead {statistics.fmean(shares):.1f} %{_range(shares, '.1f')}")
    return ", ".join(words) or "–"


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return f" ({low}–{high})" if low != high else ""


def _spread(values: Sequence[float]) -> str:
    """The range over seeds, and how many there are."""
    if len(values) == 1:
        return "1 seed"
    return f"{100 * min(values):.1f}–{100 * max(values):.1f}, {len(values)} seeds"


def _published(known: Mapping[str, Any] | None) -> str:
    if known is None:
        return "not known"
    said = []
    if "accuracy" in known:
        said.append(f"{100 * known['accuracy']:.1f} %")
    if known.get("emd"):
        said.append(f"EMD {known['emd']:.4f}")
    if "dead" in known:
        said.append(f"dead {100 * known['dead']:.1f} %")
    gain = f"{points(known['gain'])} on STE" if "gain" in known else ""
    if gain and "gain_grade" not in known:
        said.append(gain)
    of = f"of {known['of']}" if known.get("of") else ""
    source = ", ".join(filter(None, [known["grade"], of, known.get("note")]))
    own = ", ".join(filter(None, [known.get("gain_grade"), of]))
    own = f", {gain} ({own})" if "gain_grade" in known else ""
    return f"{', '.join(said)} ({source}){own}"


def _made(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "–"
    hours = sum(row["wall_s"] for row in results["rows"]) / 3600
    device, jobs = results["provenance"]["device"], len(results["rows"])
    return f"{device}, {jobs} runs, {hours:.1f} h"


def status(path: Path, experiment: Experiment, study: Results | None) -> str:
    """How a table of ours stands to the paper's."""
    if study is None:
        return "not run"
    if is_small(path):
        return "reduced"
    known = [name for name in experiment.paper if _target(experiment, name)]
    if not known:
        return "run"
    found = {row_status(path, experiment, study, name) for name in known}
    if found == {"reproduced"}:
        return "reproduced"
    if "reproduced" in found:
        return "partly"
    return "not reproduced" if "not reproduced" in found else "not run"


def row_status(
    path: Path, experiment: Experiment, study: Results | None, name: str
) -> str:
    """How a row of ours stands to the paper's."""
    group = _group(study, name)
    if study is None or group is None or not group.values("accuracy"):
        lost = study is not None and any(run.name == name for run in study.diverged)
        return "diverged" if lost else "not run"
    if is_small(path):
        return "reduced"
    if (known := _target(experiment, name)) is None:
        return "run"
    return "reproduced" if _is_hit(study, group, known) else "not reproduced"


def _target(experiment: Experiment, name: str) -> Mapping[str, Any] | None:
    """What is published of a row itself, not of something else."""
    known = experiment.paper.get(name, {})
    measured = known.keys() & {"accuracy", "gain"}
    return known if measured and not known.get("of") else None


def _is_hit(study: Results, group: Group, known: Mapping[str, Any]) -> bool:
    """Whether accuracy, gain on the estimator and EMD are those of the paper."""
    values, ste = group.values("accuracy"), study.estimator(group)
    hit = "accuracy" not in known or _is_near(values, known["accuracy"])
    if "gain" in known:
        base = ste.values("accuracy") if ste else []
        gains = [value - other for value in values for other in base]
        hit &= bool(gains) and _is_near(gains, known["gain"])
    emds, control = group.values("emd.mean"), study.control(group.start)
    if not known.get("emd") or not emds:
        return hit
    # An EMD is known as well as the control is.
    span = control.high - control.low if control else 0.0
    return hit and min(emds) - span <= known["emd"] <= max(emds) + span


def _is_near(values: Sequence[float], known: float) -> bool:
    """Whether a published value lies within the range of ours, or near their mean."""
    near = abs(statistics.fmean(values) - known) <= POINT
    return near or min(values) <= known <= max(values)


def held(paths: Sequence[Path]) -> list[Answer]:
    """Every claim, held against what was measured for some experiments as one study."""
    found = [results for path in paths if (results := results_of(path))]
    if not found or len(found) < len(paths):
        return []
    study = read({**found[0], "rows": [row for one in found for row in one["rows"]]})
    return comparisons.hold(study, load_experiment(paths[0]).claims)


def claims_on(paths: Sequence[Path], known: Collection[Answer] = ()) -> list[str]:
    """The claims held against some experiments, but for those that are known."""
    found = [claim for claim in held(paths) if claim not in known]
    if not found:
        return []
    links = [
        f"[{path.stem}]({path.parent.name}/results/{path.stem}/report.md)"
        for path in paths
    ]
    lines = [
        f"Claims under test, held against {' and '.join(links)}:\n",
        "| claim | here | numbers |",
        "|---|---|---|",
    ]
    lines += [
        f"| {claim.words} | {claim.reading} | {summary.say('told', claim)} |"
        for claim in found
    ]
    return [*lines, ""]


def _figures(path: Path) -> list[str]:
    plots = folder(path) / "plots"
    return [
        f"![{path.stem}: {words}]({plots.relative_to(ROOT).as_posix()}/{name})\n"
        for name, words in FIGURES.items()
        if (plots / name).is_file()
    ]


if __name__ == "__main__":
    write()
