"""Everything that can be timed on this machine, beside what users would take instead.

    pip install '.[bench]'
    python -m experiments.benchmarks [--only training distances] [--rounds 5]

Writes `results/DEVICE.json` and the page that shows it. Run it on a machine that does
nothing else. Cost: about an hour on two CPU cores.

    pip install '.[tpu]'
    python -m experiments.benchmarks --compile-for v5e [--only 'sew_resnet8/float/.*']

compiles programs for a chip that is not here (v5e, v6e, v5p; h200 with the extra
`cuda`) and writes what they compute, move and need to `results/compiled_CHIP.json` and
the page. Cost: 1 to 11 minutes of a core for each program.
"""

import argparse
import os
import platform
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from jsnnq.errors import InputError
from jsnnq.runtime import files, hugepages, parallel
from jsnnq.runtime.provenance import installed_commit

from . import page

_VERSIONS = ("jax", "flax", "torch", "spikingjelly", "snntorch", "scipy", "POT")


def main() -> None:
    """Runs the groups that were asked for.

    In huge pages, as the command `jsnnq` runs, which the peers have too then.
    """
    options = _parse()
    if options.compile_for:
        _compile(options)
        return
    # Peers, and processes that are started, need room on an accelerator too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.config.jax_platforms in (None, "cpu"):
        parallel.threads(options.devices)
    from .rows import GROUPS, Settings
    from .timing import Row

    cpu = jax.default_backend() == "cpu"
    batches = tuple(options.batch or ((32,) if cpu else (32, 128, 512)))
    devices = options.devices if cpu else len(jax.devices())
    settings = Settings(batches, options.width, options.rounds, devices)
    device = jax.devices()[0].device_kind
    path = options.out or Path(__file__).parent / "results" / f"{_file(device)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "device": device,
        "host": _host(),
        # How the C library was told to hold memory, which peers share.
        "tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "devices_sharing": devices,
        "versions": _versions(),
    }
    commit = {"commit": installed_commit()}
    typed = shlex.join(sys.argv[1:])
    results = about | commit
    results["command"] = f"python -m experiments.benchmarks {typed}".strip()
    results |= _known(path, about) if options.only else {"rows": [], "skipped": []}
    for group in options.only or GROUPS:
        for one in GROUPS[group](settings):
            print(_line(one), file=sys.stderr, flush=True)
            kind = "rows" if isinstance(one, Row) else "skipped"
            _put(results, kind, one._asdict() | commit)
            # After each, so that nothing is lost if the next one fails.
            files.write_json(path, results)
    if options.out is None:
        (page.FOLDER / "README.md").write_text(page.page(), encoding="utf-8")
    print(page.table(results["rows"]))


def _compile(options: argparse.Namespace) -> None:
    """Compiles programs for a chip, or prints their names."""
    from . import compiled, programs

    try:
        cases = programs.chosen(options.only or (), options.dtype)
        if options.list:
            print(*cases, sep="\n")
            return
        name = options.compile_for
        path = options.out or page.FOLDER / "results" / f"compiled_{name}.json"
        results = compiled.compile_for(name, cases, path, options.programs)
    except InputError as error:
        sys.exit(str(error))
    if options.out is None:
        (page.FOLDER / "README.md").write_text(page.page(), encoding="utf-8")
    print(page.compiled_tables(results))


def _known(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The rows that were measured before, on the same machine with the same peers."""
    kept = files.read_json(path) if path.is_file() else {}
    same = all(kept.get(key) == value for key, value in about.items())
    return {kind: kept[kind] if same else [] for kind in ("rows", "skipped")}


def _put(results: dict[str, Any], kind: str, one: dict[str, Any]) -> None:
    """Adds a row in the place of one of its name and peer."""
    key = (one["name"], one.get("peer_name"))
    for rows in (results["rows"], results["skipped"]):
        rows[:] = [row for row in rows if (row["name"], row.get("peer_name")) != key]
    results[kind].append(one)


def _line(one: Any) -> str:
    if hasattr(one, "reason"):
        return f"{one.name}: skipped, {one.reason}"
    return f"{one.name}: {one.ratio:.2f} x {one.peer_name}"


def _host(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor, and how many; Linux tells more of it than Python does."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    known = dict(re.findall(r"^(.+?)\s*: (.+)$", text, re.MULTILINE))
    name = known.get("model name") or platform.machine()
    if "cpu family" in known:
        name += f", family {known['cpu family']} model {known['model']}"
    return f"{name}, {os.cpu_count()} CPUs"


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _file(device: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in device.lower())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="some of the groups; regular expressions of programs to compile",
    )
    parser.add_argument("--batch", nargs="+", type=int, help="images in a step")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies channels")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument(
        "--devices", type=int, default=2, help="devices that share a batch on a CPU"
    )
    parser.add_argument("--out", type=Path, help="another file for the results")
    parser.add_argument(
        "--compile-for", metavar="CHIP", help="compile for v5e, v6e, v5p or h200"
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of convolutions that are compiled",
    )
    parser.add_argument(
        "--list", action="store_true", help="print the programs, compile nothing"
    )
    parser.add_argument(
        "--programs", type=Path, metavar="DIR", help="keep compiled programs as text"
    )
    return parser.parse_args()


if __name__ == "__main__":
    hugepages.begin_again()
    main()
