"""Rows in; a table, plots and one self-contained HTML page out.

Tables and plots show the mean and the range over seeds, `results.csv` shows each of
them. No EMD of a study is shown without its control; `jsnnq.report.results` says which
that is. A study may be unfinished: whatever is missing is left out and named. A
comparison of two networks has no control, so its table and plots judge nothing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.table
import rich.text

from jsnnq.analysis.firing import Counts
from jsnnq.config import Run
from jsnnq.report import summary, tables
from jsnnq.report.numbers import distance, percent
from jsnnq.report.results import Results, is_synthetic, read
from jsnnq.runtime import files


def write(
    out: Path,
    results: Mapping[str, Any],
    *,
    firing: Mapping[Run, Counts],
    curves: Mapping[Run, Sequence[Mapping[str, Any]]],
    looks: Mapping[Run, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Writes `results.csv`, `report.md`, plots and `report.html`; returns their paths.

    Each file is written under a temporary name and then renamed, so a reader finds
    the old file or the new one.

    Args:
        out: the folder of the study; made if it does not exist.
        results: the contents of `results.json`.
        firing: the spike counts of each run.
        curves: the training of each run as a list of mappings with `"epoch"`,
            `"loss"` and `"accuracy"` (a fraction).
        looks: what was seen inside each run while it trained; see
            `jsnnq.training.probe.read_looks`.

    Raises:
        InputError: `results` is of another schema, or `out` cannot be written.
    """
    from jsnnq.report.plots import gallery  # Only what draws loads matplotlib.

    study = read(results, firing, curves, looks)
    drawn = gallery.draw(study)
    contents = {"results.csv": tables.as_csv(study).encode()}
    contents |= {f"plots/{picture.file}": picture.light for picture in drawn}
    plots = {f"plots/{picture.file}": picture.alt for picture in drawn}
    undrawn = gallery.undrawn(study)
    contents["report.md"] = _markdown(study, plots, undrawn).encode()
    contents["report.html"] = _written(
        "page.html.jinja", study, undrawn, columns=tables.columns(study), pictures=drawn
    ).encode()
    return _publish(out, contents)


def markdown(results: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The report of results whose plots are drawn already: by path, what each shows.

    Raises:
        InputError: `results` is of another schema.
    """
    return _markdown(read(results), plots, ())


def table(results: Mapping[str, Any]) -> rich.table.Table:
    """The results as a table for the terminal, one line per network.

    Raises:
        InputError: `results` is of another schema.
    """
    study = read(results)
    said = (summary.say(sentence, study) for sentence in ("verdict", "controls"))
    lines = [" ".join(filter(None, said))]
    if study.is_binary:
        lines += [summary.say("held", claim) for claim in results.get("claims") or ()]
        lines += [summary.say("caveat", *caveat) for caveat in summary.caveats(study)]
    return tables.terminal(study, summary.say("title", study), "\n".join(lines))


def layer_table(found: Mapping[str, Any], names: tuple[str, str]) -> rich.table.Table:
    """Two networks that `saved.compare_saved` found, as a table for the terminal.

    One line per layer: mean rate in A and in B, EMD and matched distance; then the same
    over all layers, and the accuracies.
    """
    measured, dataset = [found["emd"], found["matched"]], str(found.get("dataset", ""))
    described = "\n".join(
        f"{name}: accuracy {percent(row['accuracy'])} %, "
        f"dead {percent(row['dead'])} %, saturated {percent(row['saturated'])} %"
        for name, row in zip(_letter(names), found["rows"], strict=True)
    )
    title = summary.say("heading", "Two networks", dataset, is_synthetic(dataset))
    made = tables.empty(title, described)
    made.add_column("Layer", overflow="fold")
    for heading in ("Rate A", "Rate B", "EMD", "Matched"):
        made.add_column(heading, justify="right")
    rates = [record.rates() for record in found["firing"]]
    for layer in found["emd"]["layers"]:
        numbers = [float(each[layer].mean()) for each in rates]
        numbers += [each["layers"][layer] for each in measured]
        made.add_row(rich.text.Text(layer), *map(distance, numbers))
    made.add_section()
    for key, words in OVER_LAYERS.items():
        # Only over all neurons there is one rate of a network.
        pooled = [distance(row["mean_rate"]) for row in found["rows"]]
        both = pooled if key == "pooled" else ["", ""]
        made.add_row(words, *both, *(distance(each[key]) for each in measured))
    return made


OVER_LAYERS = {
    "mean": "mean over layers",
    "weighted": "weighted by neurons",
    "max": "largest",
    "pooled": "all neurons pooled",
}


def decisions_table(
    decisions: Mapping[str, Sequence[tuple[str, str, str]]],
) -> rich.table.Table:
    """Which layers each row quantizes: a layer, its kernel's quantizer, its membranes'.

    There `float` is full precision, and an empty entry is no neuron layer.
    """
    made = rich.table.Table("Row", "Kernels", "Membranes or activations", box=None)
    for row, layers in decisions.items():
        kernels = [(path, kernel) for path, kernel, _ in layers]
        others = [(path, membrane) for path, _, membrane in layers if membrane]
        made.add_row(row, _coverage(kernels), _coverage(others))
    return made


def _coverage(layers: Sequence[tuple[str, str]]) -> str:
    """How many layers are quantized, and the others by name if they are fewer."""
    left = [path for path, quantizer in layers if quantizer == "float"]
    if len(left) == len(layers):
        return "float"
    but = f", not {', '.join(left)}" if left else ""
    return f"{len(layers) - len(left)} of {len(layers)}{but}"


def write_comparison(
    out: Path, found: Mapping[str, Any], names: tuple[str, str]
) -> list[Path]:
    """Writes `comparison.json` and plots of what `saved.compare_saved` found.

    Raises:
        InputError: `out` cannot be written.
    """
    from jsnnq.report.plots import heatmap, histograms, style

    known = {key: value for key, value in found.items() if key != "firing"}
    text = json.dumps({"names": names, **known}, indent=1) + "\n"
    contents = {"comparison.json": text.encode()}
    dataset = str(found.get("dataset", ""))
    for name, draw in (
        ("emd_layers.png", heatmap.draw_distances),
        ("firing.png", histograms.draw_two),
    ):
        with style.style():
            figure = draw(found, _letter(names))
            style.sign(figure, dataset, is_synthetic(dataset))
            contents[name] = style.png(figure)
    return _publish(out, contents)


def _letter(names: tuple[str, str]) -> tuple[str, str]:
    return f"A: {names[0]}", f"B: {names[1]}"


# Files


def _publish(out: Path, contents: Mapping[str, bytes]) -> list[Path]:
    for name, content in contents.items():
        files.write_bytes(out / name, content)
    return [out / name for name in contents]


def _provenance(study: Results) -> dict[str, str]:
    known = dict(study.results.get("provenance") or {})
    rows = (row for group in study.groups for row in group.rows)
    made = [row["made"] for row in rows if "made" in row]
    silent = sum(not one.get("command") for one in made)
    if 0 < silent < len(made):
        known["not recorded"] = f"commit and command of {silent} of {len(made)} runs"
    return {key: str(value or "not recorded") for key, value in known.items()}


def _written(template: str, study: Results, undrawn: Sequence[str], **more: Any) -> str:
    """A report by its template, from what a study found."""
    return summary.template(template).render(
        study=study,
        claims=study.results.get("claims") or (),
        comparisons=summary.compared(study),
        caveats=summary.caveats(study),
        missing=summary.missing(study, undrawn),
        provenance=_provenance(study),
        **more,
    )


def _markdown(study: Results, plots: Mapping[str, str], undrawn: Sequence[str]) -> str:
    text = _written(
        "report.md.jinja", study, undrawn, plots=plots, table=tables.markdown(study)
    )
    # What the template leaves out leaves its empty lines behind.
    return re.sub(r" *\n{2,}", "\n\n", text).strip() + "\n"
