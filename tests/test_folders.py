"""Every command in a folder of any name: a path is a path, whatever is in it."""

import json
import os
from pathlib import Path

import pytest

from jsnnq.data import prepare, sets
from tests.commands import done, refused
from tests.data.test_prepare import small_archive
from tests.tiny import EXPERIMENT, few_digits, save_arrays, tree

NAMES = {
    "brackets": "x[1]",
    "markup": "[red]",
    "star": "a*b",
    "stars": "a**b",
    "question": "q?",
    "backslash": "back\\slash",
    "home": "~",
    "user": "~no such user",
    "format": "%d",
    "blanks": " two  blanks ",
    "dash": "-x",
    "server": "gs:",
    "mathematics": r"$\frac$_{x}",
    "quotes": "'\"<b>&",
    "unicode": "網絡 é 📦",
    "long": "n" * 200,
    "longest": "é" * 127 + "n",
}
NETWORK = (  # one step on 150 images
    "--network sew_resnet_tiny --timesteps 2 --epochs 1 --batch 128 --quiet"
).split()
COMMANDS = (
    ("train", "--data=digits", "--out={}/net", *NETWORK),
    ("train", "--data={}/arrays", "--out=net", *NETWORK),
    ("evaluate", "{}/net"),
    ("compare", "{}/net", "{}/net"),
    ("study", "{}/small.py"),
    ("study", "small.py", "--out={}/study"),
    ("report", "{}/study"),
    ("prepare", "cifar10", "--data-dir={}/sets", "--archive=archive.tar.gz"),
    ("prepare", "cifar10", "--data-dir=sets", "--archive={}/archive.tar.gz"),
)
"""What is refused where a folder cannot be made, because its name is too long."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return small_archive("cifar10", tmp_path_factory.mktemp("archive"))


@pytest.fixture
def here(tmp_path, monkeypatch, archive, faked):
    """A folder to be in, with a home beside it that nothing must be written to."""
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setitem(prepare.PUBLISHED, "cifar10", archive[1])
    return tmp_path / "here"


def fill(folder, archive):
    """An experiment, images as arrays, and an archive."""
    save_arrays(folder / "arrays", **few_digits(150))
    (folder / "small.py").write_text(EXPERIMENT)
    (folder / "archive.tar.gz").write_bytes(archive[0].read_bytes())


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_command_in_a_folder_of_any_name(here, archive, name, absolute):
    fill(here / name, archive)
    place = str(here / name) if absolute else name
    # An argument that begins with a dash would be an option.
    given = f"./{place}" if place.startswith("-") else place

    train = ("train", f"--data={place}/arrays", f"--out={place}/net", *NETWORK)
    assert "accuracy" in done(*train)
    row = json.loads((here / name / "net" / "row.json").read_text())
    assert list((here / name / "net").glob("events.out.tfevents.*"))
    printed = json.loads(done("evaluate", f"{given}/net"))
    assert {key: printed[key] for key in ("accuracy", "cost")} == {
        key: row[key] for key in ("accuracy", "cost")
    }
    before = tree(here)
    done(*train)  # It is finished.
    assert tree(here) == before
    done("compare", *[f"{given}/net"] * 2, f"--out={place}/plots")
    assert (here / name / "plots" / "firing.png").stat().st_size > 1000

    rows = ("--seeds", 1, "--rows", "float")
    done("study", f"{given}/small.py", *rows, f"--out={place}/study")
    done("report", f"{given}/study")
    done("report", *[f"{given}/study"] * 2, f"--out={place}/both")
    for folder in ("study", "both"):
        results = json.loads((here / name / folder / "results.json").read_text())
        assert [row["name"] for row in results["rows"]] == ["float"]
        assert (here / name / folder / "report.html").stat().st_size > 1000

    two = ("prepare", "cifar10", f"--data-dir={place}/sets")
    assert "published MD5" in done(*two, f"--archive={place}/archive.tar.gz")
    assert "was kept" in done(*two)
    read = sets.load("cifar10", data_dir=Path(place) / "sets").train
    assert_same_images(read.images, archive[2]["train"]["image"])

    assert os.listdir(here) == [name]
    # Libraries keep what they like under a dot.
    assert not [x for x in os.listdir(here.parent / "home") if x[0] != "."]


def assert_same_images(found, expected):
    """In whichever order."""
    assert sorted(x.tobytes() for x in found) == sorted(x.tobytes() for x in expected)


@pytest.mark.parametrize("typed", COMMANDS, ids=lambda typed: " ".join(typed[:3])[:40])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_a_name_that_is_too_long_for_a_file_system_is_one_sentence(
    here, archive, typed, absolute
):
    name = "é" * 200
    place = str(here / name) if absolute else name
    fill(here, archive)
    before = tree(here)
    sentence = refused(*(word.format(place) for word in typed))
    assert "éé" in sentence
    assert tree(here) == before


@pytest.mark.parametrize("typed", COMMANDS, ids=lambda typed: " ".join(typed[:3])[:40])
def test_a_name_that_is_no_text_is_one_sentence(here, archive, typed):
    """Such bytes can be a file's name, but neither TFDS nor a report can hold them."""
    fill(here, archive)
    fill(here / "\udcff", archive)
    before = tree(here)
    sentence = refused(*(word.format("\udcff") for word in typed))
    assert "no UTF-8" in sentence
    assert tree(here) == before


def test_a_network_whose_checkpoint_was_removed_is_trained_again(here):
    """As the sentence about a damaged one advises."""
    train = ("train", "--data=digits", "--out=net", *NETWORK)
    first = done(*train)
    (here / "net" / "checkpoint").rename("away")
    assert done(*train) == first
    assert done("evaluate", "net") == done("evaluate", "away")
