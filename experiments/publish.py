"""Takes the results of a study into the folder of its experiment, and says so in pages.

    python -m experiments.publish OUT experiments/stompp/reduced_r18.py

What is published is what was measured, with the commit and the command that made it,
without the paths of the machine. A study of several machines is merged first, with
`jsnnq report`.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from experiments import tables
from jsnnq.config import Run, from_dict, to_dict
from jsnnq.errors import InputError
from jsnnq.runtime import files
from jsnnq.study import folder
from jsnnq.study.experiment import Experiment, load_experiment


def main() -> None:
    """Takes results and writes the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.publish",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the study")
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="its file")
    options = parser.parse_args()
    try:
        take(options.out, options.experiment)
    except InputError as error:
        sys.exit(f"{parser.prog}: {error}")
    tables.write()
    print(tables.folder(options.experiment) / "report.md")


def take(out: Path, experiment: Path) -> None:
    """Takes what is published of a study: results and plots.

    Commands are written without the paths of the machine they were typed on.

    Args:
        out: folder of the study.
        experiment: the file of which it is the study.

    Raises:
        InputError: it is no study, or that of another experiment, one in small, one
            that was tested on held-out training images, or one that lacks rows which
            are published already, or has other numbers for them.
    """
    folder.write_report(out)
    results = files.read_json(out / "results.json")
    known = load_experiment(experiment)
    _check_is_of(results, known, out)
    _check_keeps(results, tables.results_of(experiment), out)
    results["paper"] = dict(known.paper)
    commands = {row["made"]["command"] for row in results["rows"] if "made" in row}
    commands.add(results["provenance"]["command"])
    clean = {command: _anonymous(command or "") for command in commands}
    results["provenance"]["command"] = clean[results["provenance"]["command"]]
    for row in results["rows"]:
        if "made" in row:
            row["made"]["command"] = clean[row["made"]["command"]]
    target = tables.folder(experiment)
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(out / "plots", new / "plots")
    files.write_json(new / "results.json", results)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def _check_is_of(results: Any, experiment: Experiment, out: Path) -> None:
    wanted = {name: to_dict(row) for name, row in experiment.rows.items()}
    for row in results["rows"]:
        # With the settings as they are written today.
        if to_dict(from_dict(row["config"])) != wanted.get(row["name"]):
            raise InputError(
                f"row {row['name']!r} of {str(out)!r} is not that of the experiment: "
                "give the folder of its study, which was not made with --smoke"
            )
    if "held out" in str(results["provenance"]["dataset"]):
        raise InputError(
            f"{str(out)!r} was tested on held-out training images: publish a study "
            "that was tested on the test images"
        )


def _check_keeps(results: Any, published: Any, out: Path) -> None:
    """What is published stays, with the numbers that it was published with."""
    runs = lambda rows: {Run(row["name"], row["seed"]): row for row in rows}
    new, old = runs(results["rows"]), runs((published or {"rows": ()})["rows"])
    other = {name for name in old.keys() & new.keys() if _differ(old[name], new[name])}
    for said, lost in (
        ("lacks rows that are published", old.keys() - new.keys()),
        ("has other numbers for rows that are published", other),
    ):
        if lost:
            raise InputError(
                f"{str(out)!r} {said}: {', '.join(map(str, sorted(lost)))}; to publish "
                "a study that was run anew, delete what is published first"
            )


def _differ(one: Any, other: Any) -> bool:
    return any(one.get(part) != other.get(part) for part in ("accuracy", "emd", "cost"))


def _anonymous(commands: str) -> str:
    """The commands without paths: DATA and OUT, and the experiment from its folder."""
    return "; ".join(_without_paths(one) for one in commands.split("; "))


def _without_paths(command: str) -> str:
    program, *typed = shlex.split(command) or [""]
    words, waiting = [program.rsplit("/", 1)[-1]], ""
    for word in typed:
        option, equals, _ = word.partition("=")
        name = next((n for o, n in _PATHS.items() if _is_option(option, o)), "")
        if waiting:
            words, waiting = [*words, waiting], ""
        elif name and equals:
            words.append(f"{option}={name}")
        elif word.endswith(".py"):
            _, found, inside = word.partition("experiments/")
            words.append(found + inside if found else word.rsplit("/", 1)[-1])
        else:
            words.append(word)
            waiting = name
    return shlex.join(words) if command else ""


_PATHS = {"--data-dir": "DATA", "--out": "OUT"}


def _is_option(word: str, option: str) -> bool:
    """Whether a word is an option, which may be cut short where that is clear."""
    return len(word) > len("--d") and option.startswith(word)


if __name__ == "__main__":
    main()
