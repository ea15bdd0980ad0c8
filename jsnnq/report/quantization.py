"""One network quantized beside its control, as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

import rich.console
import rich.table
import rich.text

from jsnnq.report import summary, tables
from jsnnq.report.numbers import distance, kib, percent, times
from jsnnq.report.page import OVER_LAYERS
from jsnnq.report.results import is_synthetic


def shown(found: Mapping[str, Any], name: str) -> rich.console.Group:
    """Everything that is said of it.

    Args:
        found: `result.json` of `jsnnq.study.quantization`.
        name: of the network that was quantized.
    """
    data = str(found["data"])
    heading = summary.say("heading", f"{name}, quantized", data, is_synthetic(data))
    made = [rich.text.Text(heading), _networks(found)]
    if found["emd"] is not None:
        made.append(_layers(found))
    return rich.console.Group(*made)


def _networks(found: Mapping[str, Any]) -> rich.table.Table:
    """One line per network: accuracy, firing, and what it takes to store."""
    spikes = found["emd"] is not None
    headings = ["Accuracy %", "Weights KiB"]
    headings += ["Membranes KiB", "Dead %", "Saturated %"] if spikes else []
    made = tables.empty("", "")
    made.add_column("Network")
    for heading in headings:
        made.add_column(heading.replace(" ", "\n"), justify="right")
    for kind in ("float", "control", "quantized"):
        if (row := found[kind]) is None:
            continue
        cells = [percent(row["accuracy"]), kib(row["cost"]["weight_bits"])]
        if spikes:
            cells.append(kib(row["cost"]["state_bits"]))
            cells += [percent(row["dead"]), percent(row["saturated"])]
        made.add_row(kind, *cells)
    return made


def _layers(found: Mapping[str, Any]) -> rich.table.Table:
    """How far the firing of each layer moved, beside the drift of the control."""
    drift = found["drift"]
    caption = ""
    if drift is not None:
        caption = "Drift: EMD of the control, fine-tuned alike without quantizers."
    made = tables.empty("EMD to the firing of the float network", caption)
    made.add_column("Layer", overflow="fold")
    headings = ("Drift", "Times the\ndrift") if drift is not None else ()
    for heading in ("Rate\nfloat", "Rate\nquantized", "EMD", *headings):
        made.add_column(heading, justify="right", vertical="bottom")

    def moved(emd: float, beside: float | None) -> list[str]:
        if beside is None:
            return [distance(emd)]
        ratio = times(emd / beside) if beside else "-"
        return [distance(emd), distance(beside), ratio]

    beside = {} if drift is None else drift["emd"]
    for layer, emd in found["emd"]["layers"].items():
        both = [distance(found[x]["rates"][layer]) for x in ("float", "quantized")]
        cells = moved(emd, beside.get("layers", {}).get(layer))
        made.add_row(rich.text.Text(layer), *both, *cells)
    made.add_section()
    for key, words in OVER_LAYERS.items():
        pooled = [distance(found[x]["mean_rate"]) for x in ("float", "quantized")]
        both = pooled if key == "pooled" else ["", ""]
        made.add_row(words, *both, *moved(found["emd"][key], beside.get(key)))
    return made
