"""The page of benchmarks: `README.md`, from the results of every device."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .chips import CHIPS

FOLDER = Path(__file__).parent
HEAD = """\
# Beside what users would take instead

Times of the same work in the same run, in turns, A B A B, after a few runs that do not
count; medians over rounds. The ratio is that of a round, its median and range: above 1
jsnnq is faster. SpikingJelly 2.0 is given its best path: channels last, convolutions
fused with normalisation in evaluation, eager and compiled by torch, on a GPU TF32 and
its bfloat16 policy. It runs the stem T times on the same image, as its users do; jsnnq
runs it once. Rows beside jsnnq itself say what a part costs. Where the name of a row
does not say so, networks have their full width and CPU rows one device.

    pip install '.[bench]'
    python -m experiments.benchmarks

This page is written by that command.
"""
COMPILED = """\
# Compiled for chips that are not here

What XLA compiles for a chip, read from the program: exact, and the same on every
machine. Of a step on each device; rows of a study that are trained *together* make one
step each. *Moved* is what the program reads and writes in the chip's main memory, each
array as far as it is used and filled up to whole tiles; XLA's own count takes every
operand whole, wherever it lies. Temporary memory comes on top of parameters and images.
*By matrix* and *by memory* are images per second on all devices together if nothing but
the products, at the highest rate of the matrix units, or nothing but what is moved, at
the highest rate of the memory, took time. A name is that of network, method, program,
stem, batch, and number of devices that share it.

    pip install '.[tpu,cuda]'
    python -m experiments.benchmarks --compile-for v5e
"""
_SHOWN = 0.03
"""A kind of bytes has a column if it is more than this share of a program's."""


def page(folder: Path = FOLDER / "results") -> str:
    """The whole page.

    Args:
        folder: with a `DEVICE.json` for every device that was at hand, and perhaps a
            `DEVICE.md` with what a profile says and why a target was missed.
    """
    parts = [HEAD]
    for path in sorted(folder.glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if "rows" not in results or "chip" in results:
            continue
        versions = (f"{k} {v}" for k, v in results["versions"].items())
        made_on = ", ".join((results["host"], *versions))
        if results["tunables"]:
            made_on += f"; memory as told, `{results['tunables']}`"
        parts.append(
            f"## {results['device']}\n\n{made_on}; commit {_commits(results)}\n"
        )
        parts.append(table(results["rows"]))
        parts += [f"\nSkipped: {_skipped(results)}"] if results["skipped"] else []
        notes = path.with_suffix(".md")
        if notes.is_file():
            parts.append("\n" + notes.read_text(encoding="utf-8").strip())
        parts.append("")
    chips = [json.loads(p.read_text()) for p in sorted(folder.glob("compiled_*.json"))]
    parts += [COMPILED] if chips else []
    parts += [f"{compiled_tables(results)}\n" for results in chips]
    return "\n".join(parts).rstrip() + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of results in Markdown."""
    lines = [
        "| | jsnnq | beside | | ratio (range) |",
        "|---|---:|---|---:|---:|",
    ]
    for row in rows:
        low, high = row["range"]
        lines.append(
            f"| {row['name']} | {row['ours']:.4g} {row['unit']} | {row['peer_name']} "
            f"| {row['peer']:.4g} {row['unit']} | "
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def compiled_tables(results: dict[str, Any]) -> str:
    """What was compiled for one chip, in Markdown: programs, then kinds of bytes."""
    rows, chip = results["rows"], CHIPS[results["chip"]]
    made = [row for row in rows if "bytes" in row]
    versions = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows
    )
    lines = [
        f"## {chip.kind}",
        "",
        f"{'; '.join(versions)}; commit {_commits(results)}. Rates: "
        + ", ".join(f"{rate / 1e12:.0f} TFLOP/s {k}" for k, rate in chip.rates.items())
        + f", {chip.bandwidth / 1e9:.0f} GB/s ({chip.source}).",
        "",
        "| | GFLOP | GB by XLA | GB moved | GB temporary | s to compile | by matrix "
        "| by memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_compiled_line(row) for row in made),
    ]
    columns = _columns(made)
    if columns:
        lines += ["", "| GB moved | " + " | ".join((*columns, "the rest")) + " |"]
        lines += ["|---|" + "---:|" * (len(columns) + 1)]
        lines += [_kinds_line(row, columns) for row in made]
    failed = [f"{_named(row)} ({row['reason']})" for row in rows if "reason" in row]
    lines += ["", f"Of no use: {'; '.join(failed)}"] if failed else []
    return "\n".join(lines)


def _named(row: dict[str, Any]) -> str:
    return row["name"] + ("" if row["dtype"] == "bfloat16" else f", {row['dtype']}")


def _compiled_line(row: dict[str, Any]) -> str:
    known, bounds = row["bytes_xla"], row["bounds"]
    counted = "" if known is None else f"{known / 1e9:.1f}"
    return (
        f"| {_named(row)} | {row['flops'] / 1e9:.0f} | {counted} | "
        f"{row['bytes'] / 1e9:.2f} | {row['temporary'] / 1e9:.2f} | "
        f"{row['compile_cpu_s']:.0f} | {bounds['matrix']:,.0f} | "
        f"{bounds['memory']:,.0f} |"
    )


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Kinds of bytes that are worth a column, the largest first."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums.update(row["kinds"])
    shown = {k for r in rows for k, v in r["kinds"].items() if v > _SHOWN * r["bytes"]}
    return [kind for kind, _ in sums.most_common() if kind in shown - {"other"}]


def _kinds_line(row: dict[str, Any], columns: list[str]) -> str:
    known = [row["kinds"].get(kind, 0) for kind in columns]
    cells = (f"{size / 1e9:.2f}" for size in (*known, row["bytes"] - sum(known)))
    return f"| {_named(row)} | " + " | ".join(cells) + " |"


def _commits(results: dict[str, Any]) -> str:
    found = dict.fromkeys(row.get("commit") for row in results["rows"])
    return ", ".join(str(commit)[:10] for commit in found)


def _skipped(results: dict[str, Any]) -> str:
    return "; ".join(f"{one['name']} ({one['reason']})" for one in results["skipped"])
