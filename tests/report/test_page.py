"""Reports of made-up studies and comparisons, read back from the files."""

import copy
import errno
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
import rich.console

from jsnnq.errors import InputError
from jsnnq.report import page
from jsnnq.report.results import read
from tests.studies import (
    HOSTILE,
    KNOWN,
    ROWS,
    SMALL,
    binary,
    binary_study,
    cells,
    comparison,
    find,
    small,
    study,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A whole study, written once: folder, what was returned, results."""
    results, firing, curves = study(ROWS[4:9], SMALL)
    out = tmp_path_factory.mktemp("study") / "new" / "folder"
    before = dict(matplotlib.rcParams)
    files = page.write(out, results, firing=firing, curves=curves)
    assert dict(matplotlib.rcParams) == before
    return out, files, results


def test_write_makes_every_file_and_leaves_nothing_else(written):
    out, files, _ = written
    plots = ("accuracy_emd", "emd_layers", "firing", "firing_layers", "curves", "cost")
    expected = {out / "results.csv", out / "report.md", out / "report.html"}
    expected |= {out / "plots" / f"{name}.png" for name in plots}
    assert set(files) == expected
    assert "SYNTHETIC" not in (out / "report.md").read_text(encoding="utf-8")
    assert {path for path in out.rglob("*") if path.is_file()} == expected


def test_plots_are_pictures_of_some_size(written):
    out, _, _ = written
    for path in out.glob("plots/*.png"):
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[1] > 1000
        assert pixels[..., :3].std() > 0.05, path.name


def test_an_unfinished_study_is_reported_and_says_what_is_missing(tmp_path):
    results, _, _ = small()
    planned = [f"{row['name']}/seed{row['seed']}" for row in results["rows"]]
    results |= dict.fromkeys(("floor", "drift", "floor_range", "drift_range"))
    results["rows"] = [results["rows"][0], *results["rows"][4:6]]
    results["rows"][-1]["emd"] = None
    files = page.write(tmp_path, results, firing={}, curves={}, planned=planned)
    names = {path.name for path in files}
    assert {"accuracy_emd.png", "emd_layers.png", "cost.png"} <= names
    assert not {"firing.png", "firing_layers.png", "curves.png"} & names
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    missing = text[text.index("## Missing") : text.index("## All networks")]
    assert "Not finished: float/seed1, float-finetuned/seed0" in missing
    assert "membrane-lqnet-2bit/seed0" in missing
    assert "float/seed0" not in missing
    assert "Without an EMD: weights-lqnet-clip10-2bit/seed0." in missing
    assert "The drift, the control of rows from checkpoint, is not" in missing
    assert "floor" not in missing
    assert "How the neurons fire; How the neurons fire, layer by layer; T" in missing
    assert "No verdict: no quantized network has a control" in text


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ([], "No verdict: no quantized network is finished."),
        (["float"], "No verdict: no quantized network is finished."),
        (["quantized"], "No verdict: no float network is finished"),
    ],
)
def test_a_study_without_float_or_quantized_rows_is_reported(kept, sentence, tmp_path):
    results, firing, curves = study(KNOWN[:1], SMALL)
    results["rows"] = [row for row in results["rows"] if row["kind"] in kept]
    page.write(tmp_path, results, firing=firing, curves=curves)
    assert sentence in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_row_without_finite_numbers_is_shown_without_them(tmp_path):
    results, _, curves = study(KNOWN[:2], SMALL)
    row = results["rows"][-1]
    row |= {"accuracy": math.nan, "emd": None, "matched": None}
    curves[f"{row['name']}/seed0"][-1]["loss"] = math.nan
    results = json.loads(json.dumps(results))
    page.write(tmp_path, results, firing={}, curves=curves)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    found = cells(text.splitlines(), row["name"])
    assert {found[key] for key in ("Acc. %", "EMD", "Matched", "Against")} == {"–"}
    assert found["Reading"] == "not judged, without a control"


def test_synthetic_data_is_flagged_everywhere(tmp_path):
    results, _, _ = study(KNOWN[:1], SMALL, dataset="synthetic")
    page.write(tmp_path, results, firing={}, curves={})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in _terminal(results)
    assert "<title>Quantization study on synthetic [SYNTHETIC DATA" in text
    assert 'class="flag"' in text
    assert "SYNTHETIC" not in _terminal(small()[0])


def _terminal(results, width=100):
    return _printed(page.table(results), width)


def _printed(table, width=100):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_a_hostile_name_is_printed_and_nothing_more(tmp_path):
    results, firing, curves = study(KNOWN[:1], SMALL, dataset=HOSTILE)
    key = f"{KNOWN[0][0]}/seed0"
    find(results, KNOWN[0][0])["name"] = HOSTILE
    firing[f"{HOSTILE}/seed0"] = firing.pop(key)
    curves[f"{HOSTILE}/seed0"] = curves.pop(key)
    page.write(tmp_path, results, firing=firing, curves=curves, planned=[HOSTILE])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1  # our own
    assert "&lt;script&gt;window.hacked" in text
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    lines = _terminal(results, 300).splitlines()
    storage = f"{find(results, HOSTILE)['cost']['weight_bits'] / 8192:.1f}"
    assert any(re.match(rf" *{re.escape(HOSTILE)} .*{storage} *$", s) for s in lines)


def test_the_input_is_left_alone():
    results, firing, curves = study(KNOWN[:1], SMALL)
    copies = copy.deepcopy((results, curves))
    page._page(read(results, firing, curves), [])
    page.table(results)
    assert (results, curves) == copies


def test_another_schema_is_refused(tmp_path):
    message = "results of schema 2 were given, this jsnnq reads schema 1"
    with pytest.raises(InputError, match=message):
        page.write(tmp_path, {"schema": 2, "rows": []}, firing={}, curves={})
    with pytest.raises(InputError, match="schema None"):
        page.table({})


def test_a_file_in_the_way_is_refused_and_kept(tmp_path):
    out = tmp_path / "taken"
    out.write_text("mine")
    with pytest.raises(
        InputError, match="cannot write .*taken.*folder you may write to"
    ):
        page.write(out, {"schema": 1, "rows": []}, firing={}, curves={})
    with pytest.raises(
        InputError, match="cannot write .*taken.*folder you may write to"
    ):
        page.write_comparison(out, comparison(), ("a", "b"))
    assert out.read_text() == "mine"


def test_two_networks_are_compared_layer_by_layer_in_the_terminal():
    found = comparison()
    lines = _printed(page.layer_table(found, ("[a]", "b"))).splitlines()
    numbers = {line[:22].strip(): line[22:].split() for line in lines}
    emd, matched = found["emd"], found["matched"]
    for layer in SMALL:
        rates = [r["counts"][layer].sum() / (1024 * 1440) for r in found["firing"]]
        expected = [*rates, emd["layers"][layer], matched["layers"][layer]]
        assert numbers[layer] == [f"{number:.4f}" for number in expected]
    for words, key in (
        ("mean over layers", "mean"),
        ("weighted by neurons", "weighted"),
        ("largest", "max"),
    ):
        assert numbers[words] == [f"{emd[key]:.4f}", f"{matched[key]:.4f}"]
    whole = [row["mean_rate"] for row in found["rows"]]
    expected = [*whole, emd["pooled"], matched["pooled"]]
    assert numbers["all neurons pooled"] == [f"{number:.4f}" for number in expected]
    text = " ".join(" ".join(lines).split())
    a, b = (f"{100 * row['accuracy']:.1f}" for row in found["rows"])
    assert f"A: [a]: accuracy {a} %" in text
    assert f"B: b: accuracy {b} %" in text


def test_a_comparison_is_written_whole(tmp_path):
    found = comparison() | {"dataset": "synthetic"}
    files = page.write_comparison(tmp_path / "new", found, ("a", "b"))
    names = ["comparison.json", "emd_layers.png", "firing.png"]
    assert [path.name for path in files] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    stored = json.loads(files[0].read_text(encoding="utf-8"))
    assert stored.pop("names") == ["a", "b"]
    assert stored == {key: found[key] for key in found if key != "firing"}
    assert "SYNTHETIC DATA" in _printed(page.layer_table(found, ("a", "b")))
    for path in files[1:]:
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05


PAPER = {"bnn-stompp-r18": {"accuracy": 0.538, "grade": "S", "of": "CIFAR-100"}}


def test_a_study_of_binary_networks_is_reported_without_a_word_on_firing(tmp_path):
    results, curves, looks = binary_study(paper=PAPER)
    files = page.write(tmp_path, results, firing={}, curves=curves, looks=looks)
    names = [path.name for path in files]
    assert {"accuracy_methods.png", "inside_bnn_r18.png"} <= set(names)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for word in ("EMD", "drift", "Missing", "firing", "neuron"):
        assert word not in text
    claims = text[text.index("## Claims of the paper") : text.index("## All networks")]
    assert "forward &gt; global &gt; reverse: SHOWS. Forward 66.0 % (65.0" in claims
    assert "BWN, ResNet-18: the order does not matter: SHOWS." in claims
    assert "grows with depth" not in claims  # There is one depth only.
    found = cells(text.splitlines(), "bnn-stompp-r18")
    assert found["Paper %"] == "53.8 (CIFAR-100, S)"


def test_an_unfinished_study_of_binary_networks_names_its_rows(tmp_path):
    results = binary({"float-r18": [0.9]})
    planned = ["float-r18/seed0", "bnn-ste-r18/seed0"]
    page.write(tmp_path, results, firing={}, curves={}, planned=planned)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "No verdict: no binary network is finished." in text
    assert "Not finished: bnn-ste-r18/seed0." in text
    assert "Without data for these plots: Accuracy by method; Training." in text


def test_the_terminal_says_finding_and_claims_of_binary_networks():
    words = " ".join(_terminal(binary(paper=PAPER), 80).split())
    assert "Binary networks on digits" in words
    assert "StoMPP 66.0 %, 5.0 points above STE (61.0 %)" in words
    assert "BNN, ResNet-18: forward > global > reverse: SHOWS." in words
    assert "Values of the paper are from summaries by others (S)." in words


def test_runs_without_commit_and_command_are_counted():
    results = binary()
    rows = results["rows"]
    for row in rows:
        row["made"] = {"commit": "abc", "command": "jsnnq study"}
    assert "not recorded:" not in page.markdown(results, {})
    rows[0]["made"] = rows[3]["made"] = {"commit": None, "command": ""}
    said = f"- not recorded: commit and command of 2 of {len(rows)} runs"
    assert said in page.markdown(results, {})


def test_a_full_disk_leaves_the_old_page_and_no_drafts(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    write_bytes, names = Path.write_bytes, []

    def full(path, content):
        names.append(path.name)
        if "html" in path.name:
            write_bytes(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device.*give a folder"):
        page.write(tmp_path, {"schema": 1, "rows": []}, firing={}, curves={})
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".*"))
    assert len(names) == 3  # csv, Markdown, page
    assert all(name.startswith(".") for name in names)  # drafts, renamed when whole


def test_importing_the_room_loads_neither_matplotlib_nor_jinja2():
    code = "import sys, jsnnq.report.page; "
    code += "print({'matplotlib', 'jinja2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr
