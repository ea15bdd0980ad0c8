"""The page of benchmarks: `README.md`, from the results of every device."""

import json
from pathlib import Path
from typing import Any

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


def page(folder: Path = FOLDER / "results") -> str:
    """The whole page.

    Args:
        folder: with a `DEVICE.json` for every device that was at hand, and perhaps a
            `DEVICE.md` with what a profile says and why a target was missed.
    """
    parts = [HEAD]
    for path in sorted(folder.glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if "rows" not in results:
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


def _commits(results: dict[str, Any]) -> str:
    found = dict.fromkeys(row.get("commit") for row in results["rows"])
    return ", ".join(str(commit)[:10] for commit in found)


def _skipped(results: dict[str, Any]) -> str:
    return "; ".join(f"{one['name']} ({one['reason']})" for one in results["skipped"])
