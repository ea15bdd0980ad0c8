"""Reports of made-up studies and comparisons, read back from the files."""

import copy
import dataclasses
import errno
import html
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import pytest
import rich.console

from jsnnq.config import LQNet, Run, from_dict, kernels, to_dict
from jsnnq.errors import InputError
from jsnnq.report import page, tables
from jsnnq.report.results import read
from tests.studies import (
    HOSTILE,
    KNOWN,
    PAPER,
    ROWS,
    SMALL,
    binary,
    binary_study,
    cells,
    comparison,
    exactly,
    find,
    runs,
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


class Report(NamedTuple):
    """A report as it was written: its Markdown, its page, and all files."""

    text: str
    page: str
    files: list


@pytest.fixture
def report(tmp_path):
    def write(results, firing=(), curves=(), out="", **seen):
        out, seen = tmp_path / out, seen | {"firing": dict(firing)}
        files = page.write(out, results, curves=dict(curves), **seen)
        made = ((out / f"report.{kind}").read_bytes() for kind in ("md", "html"))
        return Report(*(one.decode() for one in made), files)

    return write


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


def test_an_unfinished_study_is_reported_and_says_what_is_missing(report):
    results, _, _ = small()
    results["planned"] = runs(results)
    results |= dict.fromkeys(("floor", "drift", "floor_range", "drift_range"))
    results["rows"] = [results["rows"][0], *results["rows"][4:6]]
    results["rows"][-1]["emd"] = None
    found = report(results)
    names = {path.name for path in found.files}
    assert {"accuracy_emd.png", "emd_layers.png", "cost.png"} <= names
    assert not {"firing.png", "firing_layers.png", "curves.png"} & names
    text = found.text
    missing = text[text.index("## Missing") : text.index("## All networks")]
    assert "Not finished: float/seed1, float-finetuned/seed0" in missing
    assert "How the neurons fire; How the neurons fire, layer by layer; T" in missing
    assert "No verdict: no quantized network has a control" in text


@pytest.mark.parametrize("kept", ["none", "float", "quantized"])
def test_a_study_without_float_or_quantized_rows_is_reported(kept, report):
    results, firing, curves = study(KNOWN[:1], SMALL)
    results["rows"] = [row for row in results["rows"] if row["kind"] == kept]
    assert "No verdict: no " in report(results, firing, curves).text


def test_a_row_without_finite_numbers_is_shown_without_them(report):
    results, _, curves = study(KNOWN[:2], SMALL)
    row = results["rows"][-1]
    row |= {"accuracy": math.nan, "emd": None, "matched": None}
    curves[Run(row["name"], 0)][-1]["loss"] = math.nan
    text = report(json.loads(json.dumps(results)), curves=curves).text
    found = cells(text.splitlines(), row["name"])
    assert {found[key] for key in ("Acc. %", "EMD", "Matched", "Against")} == {"–"}
    assert found["Reading"] == "not judged, without a control"


def test_synthetic_data_is_flagged_everywhere(report):
    results, _, _ = study(KNOWN[:1], SMALL, dataset="synthetic")
    found = report(results)
    for said in (found.text, _terminal(results)):
        assert "SYNTHETIC DATA" in said
    assert "<title>Quantization study on synthetic [SYNTHETIC DATA" in found.page
    assert 'class="flag"' in found.page
    assert "SYNTHETIC" not in _terminal(small()[0])


def _terminal(results, width=100):
    return _printed(page.table(results), width)


def _printed(table, width=100):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_a_hostile_name_is_printed_and_nothing_more(report):
    results, firing, curves = study(KNOWN[:1], SMALL, dataset=HOSTILE)
    find(results, KNOWN[0][0])["name"] = HOSTILE
    results["planned"] = [{"name": HOSTILE, "seed": 1}]
    results["paper"] = {HOSTILE: {"accuracy": 0.5, "grade": HOSTILE, "of": HOSTILE}}
    side = {"name": HOSTILE, "values": [0.5], "unit": "%", "ratio": None}
    claim = {"words": HOSTILE, "reading": "shows", "evidence": [side], "why": HOSTILE}
    results["claims"] = [claim]
    for records in (firing, curves):
        records[Run(HOSTILE, 0)] = records.pop(Run(KNOWN[0][0], 0))
    text, source, _ = report(results, firing, curves)
    assert source.count("<script>") == 1  # our own
    assert "&lt;script&gt;window.hacked" in source
    assert "&amp;" not in source  # Nothing is escaped twice.
    shown = _shown(source)
    for said in (
        f"Quantization study on {HOSTILE}",
        f"Not finished: {HOSTILE}/seed1.",
        f"no target: {HOSTILE}.",
        f"{HOSTILE} {HOSTILE} 50.0 %: {HOSTILE}",
    ):
        assert said in shown
    assert "<script>" not in text
    assert "&amp;" not in text
    assert HOSTILE in _terminal(results, 300)


def _shown(text):
    """The words of a page, without its head and its scripts."""
    text = re.sub(r"(?s)<(head|script|style)>.*?</\1>", " ", text)
    text = re.sub(r"</?(td|th|li|p|h\d|dt|dd)\b[^>]*>", "\n", text)
    lines = html.unescape(re.sub(r"<[^>]*>", "", text)).splitlines()
    return "\n".join(filter(None, (" ".join(line.split()) for line in lines)))


def test_the_input_is_left_alone(tmp_path):
    results, firing, curves = study(KNOWN[:1], SMALL)
    results |= {"planned": runs(results), "claims": CLAIMS}
    copies = copy.deepcopy((results, curves))
    page.write(tmp_path, results, firing=firing, curves=curves)
    page.table(results)
    page.markdown(results, {})
    assert (results, curves) == copies


def test_a_file_in_the_way_is_refused_and_kept(tmp_path):
    out = tmp_path / "taken"
    out.write_text("mine")
    for made in (
        lambda: page.write(out, {"schema": 2, "rows": []}, firing={}, curves={}),
        lambda: page.write_comparison(out, comparison(), ("a", "b")),
    ):
        with pytest.raises(InputError, match="cannot write .*taken.*you may write to"):
            made()
    assert out.read_text() == "mine"


def test_two_networks_are_compared_layer_by_layer_in_the_terminal():
    found = comparison()
    lines = _printed(page.layer_table(found, ("[a]", "b"))).splitlines()
    numbers = {line[:22].strip(): line[22:].split() for line in lines}
    emd, matched = found["emd"], found["matched"]
    for layer in SMALL:
        rates = [r[layer].sum() / (1024 * 1440) for r in found["firing"]]
        expected = [*rates, emd["layers"][layer], matched["layers"][layer]]
        assert numbers[layer] == [f"{number:.4f}" for number in expected]
    views = {"mean over layers": "mean", "weighted by neurons": "weighted"}
    for words, key in (views | {"largest": "max"}).items():
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


def _side(name, *values, **more):
    return {"name": name, "values": values, "unit": "%", "ratio": None, **more}


def _claim(words, reading, *sides, why=""):
    return {"words": words, "reading": reading, "evidence": sides, "why": why}


CLAIMS = [
    _claim(
        "BNN, ResNet-18: forward > global > reverse",
        "shows",
        _side("forward", 0.65, 0.67),
        _side("global", 0.60, 0.64),
    ),
    _claim(
        "R&D: few bits <keep> it",
        "cannot be decided here",
        _side("2-bit, clip 10", 0.75, 0.76, ratio=18.04, control="drift"),
        _side("4-bit", 0.9, None),
        why="the seeds of 2-bit & 4-bit overlap",
    ),
    _claim("the gain grows", "does not show", _side("ResNet-50", 0.03, unit="points")),
]


@pytest.mark.parametrize("made", [small, lambda: (binary(), {}, {})])
def test_without_claims_nobody_speaks_of_them(made, report):
    results, firing, curves = made()
    for claims in ({}, {"claims": []}):
        text, source, _ = report(results | claims, firing, curves)
        for said in (_shown(source), text, _terminal(results | claims)):
            assert not re.search("claim|cannot be decided|does not show", said.lower())


@pytest.mark.parametrize("made", [small, lambda: (binary(), {}, {})])
def test_each_claim_is_shown_once_with_its_reading_and_its_evidence(made, report):
    text, source, _ = report(made()[0] | {"claims": CLAIMS})
    (section,) = re.findall('(?s)<section id="claims">(.*?)</section>', source)
    assert "<strong>R&amp;D: few bits &lt;keep&gt; it</strong>" in section
    assert _shown(section).splitlines() == [
        "What the papers claim, and whether it shows here",
        "Shows (1)",
        "BNN, ResNet-18: forward > global > reverse forward 66.0 % (65.0 to 67.0); "
        "global 62.0 % (60.0 to 64.0)",
        "Cannot be decided here (1)",
        "R&D: few bits <keep> it 2-bit, clip 10 75.5 % (75.0 to 76.0), 18× drift; "
        "4-bit diverged (1 of 2 seeds): the seeds of 2-bit & 4-bit overlap",
        "Does not show (1)",
        "the gain grows ResNet-50 +3.0 points",
    ]
    classes = re.findall('<div class="reading ([a-z]+)">', section)
    assert classes == ["same", "open", "drowned"]
    for claim in CLAIMS:
        assert _shown(source).count(claim["words"]) == 1
    _, told = text.split("## Claims of the paper\n\n")
    lines = told.split("\n\n")[0].splitlines()
    assert lines == [
        "- BNN, ResNet-18: forward &gt; global &gt; reverse: SHOWS. Forward 66.0 % "
        "(65.0 to 67.0); global 62.0 % (60.0 to 64.0).",
        "- R&amp;D: few bits &lt;keep&gt; it: CANNOT BE DECIDED HERE. 2-bit, clip 10 "
        "75.5 % (75.0 to 76.0), 18× drift; 4-bit diverged (1 of 2 seeds): the seeds of "
        "2-bit &amp; 4-bit overlap.",
        "- the gain grows: DOES NOT SHOW. ResNet-50 +3.0 points.",
    ]
    assert [text.count(line) for line in lines] == [1, 1, 1]


# What changes with one setting


def _compared(found):
    """The tables of the page and of the Markdown report, by setting, as lists."""
    text, page, _ = found
    (section,) = re.findall('(?s)<section id="comparisons">(.*?)</section>', page)
    in_page = {}
    for table in re.findall("(?s)<table.*?</table>", section):
        rows = re.findall("(?s)<tr>(.*?)</tr>", table)
        cells = [re.findall(r"(?s)<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
        (setting, *head), *lines = [[html.unescape(c) for c in row] for row in cells]
        in_page[setting] = [head, *lines]
    in_markdown = {}
    pattern = r"(?s)## What changes with the (\w+)\n\n(\|.*?)\n\n"
    for setting, table in re.findall(pattern, text):
        head, ruler, *lines = (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()
        )
        assert ruler == ["---", *["---:"] * (len(head) - 1)]  # Else it is no table.
        in_markdown[setting] = [head[1:], *lines]
    return section, in_page, in_markdown


def test_networks_that_differ_in_bits_or_clip_stand_side_by_side(report):
    rows = [*ROWS[:3], ("weights-uniform-clip10-4bit", 0.5, 2.8), ROWS[8]]
    results = exactly(rows, seeds=1)
    lost = {"name": "weights-uniform-clip10-4bit", "seed": 7}
    config = find(results, lost["name"])["config"]
    results["diverged"] = [lost | {"config": config}]
    section, in_page, in_markdown = _compared(report(results))
    one, ten = "98.5 %, 1.9× drift", "75.4 %, 16× drift"
    gone = "diverged (1 of 2 seeds)"
    assert in_page == {
        "bits": [
            ["2-bit", "4-bit"],
            ["weights, uniform, clip 1", one, "98.9 %, 0.9× drift"],
            ["weights, uniform, clip 10", ten, gone],
        ],
        "clip": [
            ["clip 1", "clip 10"],
            ["weights, uniform, 2-bit", one, ten],
            ["weights, uniform, 4-bit", "98.9 %, 0.9× drift", gone],
        ],
    }
    assert in_markdown == in_page
    # By bits, then by clip; where one seed diverged the other keeps the accuracy.
    by_bits, by_clip = "silent same drowned open", "silent drowned same open"
    read_as = re.findall('<td class="([a-z]+)">', section)
    assert " ".join(read_as) == f"{by_bits} {by_clip}"


def test_a_place_in_a_comparison_stays_empty_where_there_is_no_row(report):
    results, _, _ = study([row for row in ROWS if "weights-lqnet" in row[0]], SMALL)
    results["drift"] = None
    quantizers = [LQNet(2, clip=1.0), LQNet(2), LQNet(4, clip=1.0), LQNet(4, clip=0.5)]
    for number, quantizer in enumerate(quantizers):
        row = results["rows"][4 + number]
        config = from_dict(row["config"])
        changed = dataclasses.replace(config, weights=kernels(quantizer))
        row |= {"accuracy": 0.9 + number / 100, "config": to_dict(changed)}
    section, in_page, in_markdown = _compared(report(results))
    assert in_page["bits"] == in_markdown["bits"]
    assert in_page["bits"] == [
        ["2-bit", "4-bit"],
        ["weights, LQ-Net, clip 1", "90.0 %", "92.0 %"],
    ]
    lines = [
        ["clip 0.5", "clip 1", "no clip"],
        ["weights, LQ-Net, 2-bit", "", "90.0 %", "91.0 %"],
        ["weights, LQ-Net, 4-bit", "93.0 %", "92.0 %", ""],
    ]
    assert in_page["clip"] == lines
    assert in_markdown["clip"] == [[cell or "–" for cell in line] for line in lines]
    assert set(re.findall('<td class="([a-z]+)">', section)) == {"open"}


def test_methods_and_orders_of_binary_networks_stand_side_by_side(report):
    section, in_page, in_markdown = _compared(report(binary()))
    assert in_page["order"] == [
        ["forward", "global", "reverse"],
        [
            "BNN, ResNet-18",
            "66.0 % (65.0 to 67.0)",
            "62.0 % (60.0 to 64.0)",
            "25.0 % (20.0 to 30.0)",
        ],
        ["BWN, ResNet-18", "90.5 % (90.2 to 90.8)", "", "90.2 % (89.9 to 90.5)"],
    ]
    assert in_page.keys() == in_markdown.keys() == {"method", "order"}
    methods = dict(zip(*in_page["method"][:2], strict=False))
    assert in_page["method"][0] == in_markdown["method"][0]
    assert in_page["method"][1][2] == "66.0 % (65.0 to 67.0)"  # of StoMPP
    assert list(methods)[:2] == ["STE", "StoMPP"]
    for word in ("behaviour", "colour", 'class="open'):
        assert word not in section  # They are not judged.


def test_without_two_that_differ_in_one_setting_nothing_is_compared(report):
    text, source, _ = report(study(ROWS[:1], SMALL)[0])
    assert '<section id="comparisons">' not in source
    for said in (text, source):
        assert "What changes with" not in said


# Names mean nothing


def _renamed(results, names):
    """The same study, whose rows are called otherwise."""
    copied = json.loads(json.dumps(results))
    for one in (*copied["rows"], *copied["planned"], *copied["diverged"]):
        one["name"] = names[one["name"]]
    copied["paper"] = {names[name]: said for name, said in copied["paper"].items()}
    return copied


def _named(results, lost):
    """A study of which one run diverged and one is not finished, with its paper."""
    results["planned"] = [*runs(results), {"name": lost.name, "seed": 5}]
    gone = [row for row in results["rows"] if (row["name"], row["seed"]) == lost]
    results["rows"] = [row for row in results["rows"] if row not in gone]
    results["diverged"] = [lost._asdict() | {"config": gone[0]["config"]}]
    names = dict.fromkeys(row["name"] for row in results["rows"])
    results["paper"] = {name: {"accuracy": 0.5, "grade": "S"} for name in names}
    # The word is said elsewhere too.
    return _renamed(results, {name: name for name in names} | {"float": "float-alone"})


def _written(found, results):
    """Every text that is made of results."""
    return {
        "csv": found.files[0].read_text(encoding="utf-8"),
        "report": found.text,
        "page": re.sub('base64,[^"]*', "", found.page),
        "markdown": "\n".join(tables.markdown(read(results))),
        "terminal": _terminal(results, 120),
    }


@pytest.mark.parametrize(
    "results",
    [
        _named(study(KNOWN, SMALL, seeds=2)[0], Run(KNOWN[1][0], 1)),
        _named(binary(), Run("bnn-reverse-r18", 1)),
    ],
    ids=["spiking", "binary"],
)
def test_rows_that_are_called_otherwise_are_read_to_the_same(results, report):
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    # As long as before, so that tables have the same columns, and in another order.
    opaque = {
        name: f"row{17 + len(names) - number}".ljust(len(name), "x")
        for number, name in enumerate(names)
    }
    renamed = _renamed(results, opaque)
    before = _written(report(results, out="before"), results)
    after = _written(report(renamed, out="after"), renamed)
    for kind, text in before.items():
        for name in sorted(names, key=len, reverse=True):
            assert name in text, kind
            text = text.replace(name, opaque[name])
        assert after[kind] == text, kind


def test_results_of_the_schema_before_are_reported_alike(report):
    new = _named(study(KNOWN, SMALL, seeds=2)[0], Run(KNOWN[1][0], 1))
    texts = lambda found: [f"{run['name']}/seed{run['seed']}" for run in found]
    old = new | {"schema": 1}
    old |= {key: texts(new[key]) for key in ("planned", "diverged")}
    before = _written(report(old, out="old"), old)
    after = _written(report(new, out="new"), new)
    # It is not known what the row that diverged was like, so its other seed is alone.
    for kind in ("csv", "markdown", "terminal"):
        assert before[kind] == after[kind]
    until = "## What changes with"
    assert before["report"].partition(until)[0] == after["report"].partition(until)[0]
    said = f"Diverged, so that there is no result: {KNOWN[1][0]}/seed1."
    assert said in after["report"]


def test_sentences_have_no_blanks_where_none_belong(report):
    binary, curves, looks = binary_study(paper=PAPER)
    binary["planned"] = [*runs(binary), {"name": "bwn-ste-r18", "seed": 5}]
    for text, source, _ in (
        report(study(ROWS[4:9], SMALL)[0]),
        report(binary | {"claims": CLAIMS}, curves=curves, looks=looks),
    ):
        for said in (text, _shown(source)):
            assert not re.search(r" [.,;:)]|\( |[.;:]{2}|\n\n\n", said)
        assert not re.search(r"[ \t]\n", text)
        assert "  " not in text


def test_a_study_of_binary_networks_is_reported_without_a_word_on_firing(report):
    results, curves, looks = binary_study(paper=PAPER)
    results |= {"planned": runs(results), "claims": CLAIMS[:1]}
    text, _, files = report(results, curves=curves, looks=looks)
    names = {path.name for path in files}
    assert {"accuracy_methods.png", "inside_bnn_resnet-18.png"} <= names
    for word in ("EMD", "drift", "Missing", "firing", "neuron"):
        assert word not in text
    claims = text[text.index("## Claims of the paper") : text.index("## All networks")]
    assert "forward &gt; global &gt; reverse: SHOWS. Forward 66.0 % (65.0" in claims
    found = cells(text.splitlines(), "bnn-stompp-r18")
    assert found["Paper %"] == "53.8 (CIFAR-100, S)"


def test_an_unfinished_study_of_binary_networks_names_its_rows(report):
    results = binary({"float-r18": [0.9]})
    results["planned"] = [*runs(results), {"name": "bnn-ste-r18", "seed": 0}]
    text = report(results).text
    assert "No verdict: no binary network is finished." in text
    assert "Not finished: bnn-ste-r18/seed0." in text
    assert "Without data for these plots: Accuracy by method; Training." in text


def test_the_terminal_says_verdict_and_claims_of_binary_networks():
    results = binary(paper=PAPER) | {"claims": CLAIMS}
    words = " ".join(_terminal(results, 80).split())
    assert "Binary networks on digits" in words
    assert "StoMPP 66.0 %, +5.0 points on STE" in words
    assert "BNN, ResNet-18: forward > global > reverse: SHOWS. Forward 66" in words
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
        page.write(tmp_path, {"schema": 2, "rows": []}, firing={}, curves={})
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".*"))
    assert len(names) == 3  # csv, Markdown, page
    assert all(name.startswith(".") for name in names)  # drafts, renamed when whole


def test_importing_the_room_loads_neither_matplotlib_nor_jinja2():
    code = "import sys, jsnnq.report.page; "
    code += "print({'matplotlib', 'jinja2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr
