"""The table of networks in its four forms, read back cell by cell."""

import csv
import io
import re

import pytest
import rich.console

from jsnnq.report import tables
from jsnnq.report.results import read
from tests.studies import (
    HOSTILE,
    KNOWN,
    KNOWN_BINARY,
    PAPER,
    ROWS,
    SMALL,
    binary,
    cells,
    find,
    restart,
    small,
    study,
)


def csv_lines(results):
    return list(csv.DictReader(io.StringIO(tables.as_csv(read(results)))))


def markdown(results, name):
    return cells(tables.markdown(read(results)), name)


def terminal(results, width=100):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(tables.terminal(read(results), "title", "caption"))
    return console.file.getvalue()


def test_csv_has_one_line_per_row_with_nested_keys_dotted():
    results, _, _ = study(ROWS[4:9], SMALL)
    lines = csv_lines(results)
    assert len(lines) == len(results["rows"]) == 9
    for line in lines:
        row = next(
            row
            for row in results["rows"]
            if row["name"] == line["name"] and row["seed"] == int(line["seed"])
        )
        assert float(line["accuracy"]) == row["accuracy"]
        assert float(line["cost.events_per_layer.first"]) == 9.4e3 / 3
        assert line["config.network.name"] == "sew_resnet8"
        assert line["dataset"] == "digits"
        if row["emd"]:
            assert float(line["emd.layers.first"]) == row["emd"]["layers"]["first"]
            ratio = row["emd"]["mean"] / results["drift"]["mean"]
            assert float(line["ratio"]) == pytest.approx(ratio, rel=1e-12)
            assert line["control"] == "drift"
        else:
            assert line["emd.mean"] == line["ratio"] == line["reading"] == ""


def test_csv_reads_each_row_and_leaves_float_networks_unjudged():
    readings = {line["name"]: line["reading"] for line in csv_lines(small()[0])}
    assert readings == {
        "float": "",
        "float-finetuned": "",
        "weights-uniform-clip10-2bit": "keeps accuracy, changes behaviour",
        "weights-lqnet-clip10-2bit": "keeps accuracy and behaviour",
        "membrane-uniform-signed-2bit": "loses accuracy and changes behaviour",
        "membrane-lqnet-2bit": "loses accuracy, keeps behaviour",
    }


def test_rows_from_scratch_are_read_against_the_floor():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    restart(row, "scratch")
    row["accuracy"], row["emd"]["mean"] = 0.99, 0.0104
    results["floor"]["mean"] = 0.010
    found = markdown(results, row["name"])
    assert found["Against"] == "1.0× floor"
    assert found["Reading"] == "keeps accuracy and behaviour"  # range to 0.0107
    restart(row, "post-training")  # Which has no control.
    found = markdown(results, row["name"])
    assert (found["Against"], found["EMD"]) == ("–", "0.0104")


def test_seeds_are_averaged_with_their_range():
    results, _, _ = study(KNOWN[:1], SMALL, seeds=3)
    rows = [row for row in results["rows"] if row["name"] == KNOWN[0][0]]
    for row, accuracy, emd in zip(rows, (0.98, 0.97, 0.993), (1, 2, 6), strict=True):
        row["accuracy"], row["emd"]["mean"] = accuracy, emd / 1000
    found = markdown(results, KNOWN[0][0])
    assert found["Seeds"] == "3"
    assert found["Acc. %"] == "98.1 (97.0–99.3)"
    assert found["EMD"] == "0.0030 (0.0010–0.0060)"
    assert found["Against"] == f"{0.003 / results['drift']['mean']:.1f}× drift"


def test_numbers_are_printed_in_their_units():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["dead"], row["saturated"] = 0.6666, 0.0123
    row["cost"] |= {"acs": 1_234_567.0, "macs": 999_999.0, "events": 12.0}
    row["cost"] |= {"weight_bits": 8192 * 1500, "state_bits": 4096}
    found = markdown(results, row["name"])
    expected = {"Dead %": "66.7", "Satur. %": "1.2", "ACs": "1.23M", "MACs": "1.00M"}
    expected |= {"Events": "12.0", "Weights KiB": "1,500.0", "State KiB": "0.5"}
    assert {key: found[key] for key in expected} == expected


def test_the_terminal_table_fits_80_columns_with_one_line_per_network():
    results, _, _ = study()
    lines = terminal(results, 80).splitlines()
    assert max(map(len, lines)) <= 80
    for name in ("float", "float-finetuned", *(name for name, _, _ in ROWS)):
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    line = next(line for line in lines if "uniform-unsigned-4bit" in line)
    row = find(results, "membrane-uniform-unsigned-4bit")
    expected = [f"{100 * row['accuracy']:.1f}", f"{row['emd']['mean']:.4f}"]
    ratio = row["emd"]["mean"] / results["drift"]["mean"]
    expected += [f"{ratio:.1f}×", "drift", f"{100 * row['dead']:.1f}"]
    assert line.split()[1:6] == expected
    assert line.split()[-1] == f"{row['cost']['weight_bits'] / 8192:.1f}"


def test_a_hostile_name_is_printed_and_nothing_more():
    results, _, _ = study(KNOWN[:1], SMALL)
    find(results, KNOWN[0][0])["name"] = HOSTILE
    lines = tables.markdown(read(results))
    assert "<script>" not in "".join(lines)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    storage = f"{find(results, HOSTILE)['cost']['weight_bits'] / 8192:.1f}"
    shown = terminal(results, 300).splitlines()
    assert any(re.match(rf" *{re.escape(HOSTILE)} .*{storage} *$", s) for s in shown)


def said(results, name):
    """What the page says of a network, by heading."""
    made = read(results)
    (group,) = [group for group in made.groups if group.name == name]
    return {one.title: one.cell(made, group) for one in tables.columns(made)}


@pytest.mark.parametrize(
    ("known_as", "family", "bits", "clip"),
    [
        ("weights-lqnet-2bit", "weights, LQ-Net", "2", "–"),
        ("weights-uniform-clip10-4bit", "weights, uniform", "4", "10"),
        ("weights-uniform-clipmax-4bit", "weights, uniform", "4", "max"),
        ("membrane-uniform-unsigned-2bit", "membranes, uniform", "2", "1"),
        ("both-lqnet-4bit", "weights and membranes, LQ-Net", "4", "1"),
    ],
)
def test_a_network_is_shown_by_its_config_whatever_it_is_called(
    known_as, family, bits, clip
):
    results, _, _ = study([(known_as, 0.1, 1.0)], SMALL)
    for name in (known_as, "w2", "membrane-mint-clip7-8bit", "float-r18"):
        results["rows"][-1]["name"] = name
        found = said(results, name)
        texts = [found[title].text for title in ("Network", "Family", "Bits", "Clip")]
        assert texts == [name, family, bits, clip]


def test_what_is_not_said_is_sorted_last():
    """The page sorts what is empty below everything else."""
    found = said(study(ROWS[:1], SMALL)[0], "float")
    for title in ("EMD", "Against", "Bits", "Clip"):
        assert found[title] == ("–", "", "")


# Binary networks


def test_binary_networks_are_read_against_the_estimator_and_full_precision():
    found = markdown(binary(paper=PAPER), "bnn-stompp-r18")
    assert found == {
        "Network": "bnn-stompp-r18",
        "Acc. %": "66.0 (65.0–67.0)",
        "On STE": "+5.0",  # 66.0 - 61.0
        "To float": "−26.5",  # 66.0 - 92.5
        "Paper %": "53.8 (CIFAR-100, S)",
        "Seeds": "2",
        "ACs": "300k",
        "MACs": "4.00k",
        "Weights KiB": "40.0",
        "Time s": "12.0",
    }
    found = markdown(binary(paper=PAPER), "float-r18")
    assert found["On STE"] == found["To float"] == found["Paper %"] == "–"


def test_published_values_have_columns_only_where_there_are_some():
    assert "Paper %" not in markdown(binary(), "bnn-ste-r18")
    results, _, _ = study(KNOWN[:1], SMALL)
    assert not {"Paper %", "Paper EMD"} & set(markdown(results, KNOWN[0][0]))
    results["paper"] = {KNOWN[0][0]: {"accuracy": 0.737, "emd": 0.0136, "grade": "S"}}
    found = markdown(results, KNOWN[0][0])
    assert found["Paper %"] == "73.7 (S)"
    assert found["Paper EMD"] == "0.0136 (S)"
    assert markdown(results, "float")["Paper EMD"] == "–"


def test_the_csv_of_binary_networks_compares_each_seed():
    lines = {f"{x['name']}/{x['seed']}": x for x in csv_lines(binary(paper=PAPER))}
    line = lines["bnn-stompp-r18/0"]
    assert float(line["gain"]) == pytest.approx(0.65 - 0.61)
    assert float(line["gap"]) == pytest.approx(0.65 - 0.925)
    assert float(line["paper.accuracy"]) == 0.538
    assert line["paper.of"] == "CIFAR-100"
    assert lines["bnn-ste-r18/0"]["gain"] == lines["bnn-ste-r18/0"]["paper.of"] == ""
    assert not {"control", "ratio", "reading", "emd.mean"} & set(line)
    assert len(lines) == sum(map(len, KNOWN_BINARY.values()))


def test_binary_networks_fit_80_columns_with_their_range():
    rows = {**KNOWN_BINARY, "bnn-stompp+ste-mobilenetv2": [0.4, 0.5]}
    lines = terminal(binary(rows, PAPER), 80).splitlines()
    assert max(map(len, lines)) <= 80
    line = next(line for line in lines if "bnn-stompp-r18" in line)
    assert line.split() == [
        *("bnn-stompp-r18", "66.0", "65.0–67.0", "+5.0", "−26.5", "53.8", "2"),
        *("300k", "4.00k", "40.0"),
    ]
