"""Programs compiled for chips that are not here: what they compute, move and need.

Each is compiled by a process of its own, which gives back what it took, up to 10 GB,
and whose end by a fault of the compiler is a row like any other. Rows are written as
they come; those of the same versions and the same commit are not compiled again.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jsnnq.runtime import files
from jsnnq.runtime.provenance import installed_commit

from . import chips, hlo, kinds, traffic
from .programs import Case, traced

_ROOT = Path(__file__).parents[2]


def compile_for(
    name: str, cases: list[Case], path: Path, keep: Path | None = None
) -> dict[str, Any]:
    """Compiles programs for a chip and writes what became of each.

    Args:
        name: a key of `chips.CHIPS`.
        cases: the programs.
        path: the file of results, whose other rows stay.
        keep: a folder for the compiled programs as text; by default they are not kept.

    Returns:
        What the file holds.

    Raises:
        InputError: the chip is unknown, or a package is missing.
    """
    chip = chips.check_compilable(name)
    made_by = {"versions": chips.versions(chip), "commit": installed_commit()}
    results: dict[str, Any] = {"chip": name, "rows": []}
    if path.is_file():
        results = files.read_json(path)
    for number, case in enumerate(cases, 1):
        row = _known(results["rows"], case, made_by)
        how = "known" if row else "compiled"
        if row is None:
            row = {"name": str(case), **case._asdict(), **made_by}
            row |= _in_a_process(name, case, keep)
            rows = [one for one in results["rows"] if not _is_of(one, case)]
            results["rows"] = [*rows, row]
            files.write_json(path, results)
        said = f"{number}/{len(cases)} {case}: {how}, {_line(row)}"
        print(said, file=sys.stderr, flush=True)
    return results


def _is_of(row: dict[str, Any], case: Case) -> bool:
    return (row["name"], row["dtype"]) == (str(case), case.dtype)


def _known(rows, case, made_by):
    """The row that was compiled before from the same source by the same compiler."""
    commit = made_by["commit"]
    if commit is None or commit.endswith("-dirty"):
        return None
    for row in rows:
        same = all(row[key] == value for key, value in made_by.items())
        # A process that was ended may not be ended again.
        if _is_of(row, case) and same and "ended" not in row:
            return row
    return None


def _line(row: dict[str, Any]) -> str:
    if "reason" in row:
        return row["reason"]
    return (
        f"{row['bytes'] / 1e9:.2f} GB moved, {row['temporary'] / 1e9:.2f} GB "
        f"temporary, {row['compile_cpu_s']:.0f} s"
    )


def _in_a_process(name: str, case: Case, keep: Path | None) -> dict[str, Any]:
    """A row of a program that another process compiles."""
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder) / "row.json", Path(folder) / "stderr"
        options = {"chip": name, "case": case, "answer": str(answer)}
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            options["keep"] = str(keep.resolve() / f"{str(case).replace('/', '_')}.hlo")
        command = [sys.executable, "-m", __name__, json.dumps(options)]
        with errors.open("wb") as stderr:
            ended = subprocess.run(
                command,
                cwd=_ROOT,
                env=chips.environment(chips.CHIPS[name]),
                stdout=stderr,
                stderr=stderr,
            )
        if answer.is_file():
            return files.read_json(answer)
        said = errors.read_text(encoding="utf-8", errors="replace").strip()
        last = said.splitlines()[-1] if said else "it said nothing"
        return {
            "reason": f"its process ended with {ended.returncode}: {last}",
            "ended": ended.returncode,
        }


def measured(name: str, case: Case, keep: Path | None = None) -> dict[str, Any]:
    """Compiles a program in this process.

    Args:
        name: a key of `chips.CHIPS`; the environment must be that of
            `chips.environment`.
        case: which program.
        keep: a file for the compiled program as text.

    Returns:
        Of each device, and of an epoch, or of rows together, for each step: `flops` and
        `bytes_xla` as XLA counts them (bytes where it does), `bytes` moved in main
        memory and `kinds` of them, `bounds` in images per second by `matrix` rate and
        `memory` rate, all devices together; `temporary`, `arguments` and `outputs` in
        bytes of memory; `compile_cpu_s`. Or a `reason` why it is of no use.
    """
    chip = chips.CHIPS[name]
    program = traced(case, chips.devices(chip, case.devices))
    lowered, began = program.lower(), _processor_time()
    try:
        compiled = lowered.compile()
    except Exception as error:  # XLA's own, of many kinds.
        return {"reason": reason(error)}
    spent, text = _processor_time() - began, compiled.as_text()
    if keep is not None:
        keep.write_text(text, encoding="utf-8")
    return row_of(chip, case, text, compiled) | {"compile_cpu_s": round(spent, 1)}


def row_of(chip: chips.Chip, case: Case, text: str, compiled: Any) -> dict[str, Any]:
    """What `measured` says of a compiled program, whose text is given."""
    module = hlo.read(text)
    moved = traffic.moved(module)
    sums = kinds.by_kind(module, moved)
    total = sum(sums.values()) / case.steps
    counted = compiled.cost_analysis() or {}
    # The plugin for GPUs counts nothing without one.
    flops = (counted.get("flops") or _flops(case)) / case.rows
    counted_bytes = counted.get("bytes accessed")
    memory = compiled.memory_analysis()
    row = {
        "flops": flops,
        "bytes_xla": counted_bytes and counted_bytes / case.rows,
        "bytes": round(total),
        "kinds": {kind: round(size / case.steps) for kind, size in sums.items()},
        "temporary": memory.temp_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "bounds": {
            "matrix": case.batch * chip.rates[case.dtype] / flops,
            "memory": case.batch * chip.bandwidth / total,
        },
    }
    needed = row["temporary"] + row["arguments"] + row["outputs"]
    if needed > chip.memory:
        row["reason"] = (
            f"it needs {needed / 1e9:.1f} GB of memory, and {chip.kind} has "
            f"{chip.memory / 1e9:.1f}"
        )
    return row


def _flops(case: Case) -> float:
    """Operations of a step on each device, before anything is optimized."""
    alone = traced(case._replace(devices=1), _cpu(1))
    counted = alone.lower(lowering_platforms=("tpu",)).cost_analysis()
    return counted["flops"] / case.devices


def _cpu(count):
    import jax

    return jax.devices("cpu")[:count]


def reason(error: Exception) -> str:
    """Why a program could not be compiled, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    short = next((line for line in lines if "Ran out of memory" in line), None)
    return short or f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _processor_time() -> float:
    """Seconds of all processors, with those of programs that were started."""
    spent = os.times()
    return sum(spent[:4])


def _main() -> None:
    """Compiles the program that is named, and writes its row."""
    options = json.loads(sys.argv[1])
    keep = Path(options["keep"]) if "keep" in options else None
    row = measured(options["chip"], Case(*options["case"]), keep)
    files.write_json(Path(options["answer"]), row)


if __name__ == "__main__":
    _main()
