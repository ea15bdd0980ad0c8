"""The sentences of the verdict, on studies with known findings."""

import pytest

from jsnnq.report import summary
from jsnnq.report.results import read
from tests.studies import DRIFT, KNOWN, KNOWN_BINARY, SMALL, binary, find, small, study


def words(results, planned=()):
    """Everything that is said of a study."""
    made = read(results, planned=planned)
    said = [summary.finding(made), summary.controls(made)]
    return " ".join([*said, *summary.caveats(made), *summary.missing(made)])


def test_the_verdict_counts_and_names_the_silent_change():
    results, _, _ = small()
    row = find(results, "weights-uniform-clip10-2bit")
    row["accuracy"], row["emd"]["mean"] = 0.9876, 2.04 * DRIFT
    results["drift"]["mean"] = DRIFT
    text = words(results)
    assert (
        "In 1 of 4 quantized networks the accuracy stays within 1 point of the float "
        "network that was fine-tuned as long (99.0 %) while the firing moves further "
        "than fine-tuning without quantization moves it. The clearest case is "
        "weights-uniform-clip10-2bit (98.8 %, 2.0× drift)." in text
    )
    assert "moves its firing by an EMD of 0.0045 (0.0041 to 0.0049)." in text
    assert "a float network by 0.0100 (0.0095 to 0.0107)." in text


def test_the_verdict_says_when_nothing_changes_and_when_nothing_keeps():
    results, _, _ = study(KNOWN[1:2], SMALL)
    assert "In 1 of 1 quantized networks" in words(results)
    assert "none of these does the firing move further than fine-tu" in words(results)
    results, _, _ = study(KNOWN[2:], SMALL)
    assert "None of the 2 quantized networks stays within 1 point" in words(results)


def test_what_a_row_is_held_against_is_said():
    results, _, _ = study(KNOWN[:2], SMALL)
    find(results, KNOWN[0][0]).update(start="scratch", accuracy=0.99)
    find(results, KNOWN[0][0])["emd"]["mean"] = 0.03
    assert "further than another seed moves it" in words(results)
    find(results, KNOWN[1][0])["emd"]["mean"] = 0.03
    assert "In 2 of 2 quantized" in words(results)
    assert "further than its control." in words(results)


def test_post_training_rows_have_no_control():
    results, _, _ = study(KNOWN[:2], SMALL)
    for row in results["rows"][-2:]:
        row["start"] = "post-training"
    text = words(results)
    assert "No verdict: no quantized network has a control" in text
    assert "Post-training rows train nothing" in text
    assert "is not measured" not in text


def test_what_spread_forbids_to_conclude_is_said():
    results, _, _ = study(KNOWN[:1], SMALL)
    assert "points of accuracy apart" not in words(results)
    results["rows"][0]["accuracy"] = 0.975
    assert "lie 1.6 points of accuracy apart, so one point decides" in words(results)
    results["floor_range"] = None
    results["floor"]["mean"] = 0.0123
    assert "a float network by 0.0123 (measured once)." in words(results)
    assert "one seed only" in words(results)
    assert "one seed only" not in words(study(KNOWN[:1], SMALL, seeds=3)[0])


def test_every_quantized_network_is_listed_once_the_farthest_first():
    made = read(study()[0])
    found = summary.lists(made)
    listed = [group.name for _, groups in found for group in groups]
    assert sorted(listed) == sorted(group.name for group in made.quantized)
    for reading, groups in found:
        assert {made.reading(group) for group in groups} == {reading}
        emds = [group.mean("emd.mean") for group in groups]
        assert emds == sorted(emds, reverse=True)


@pytest.mark.parametrize(
    ("accuracy", "emd", "start", "expected"),
    [
        (0.9, 0.02, "checkpoint", "90.0 %, 4.0× drift"),
        (0.9, 0.02, "post-training", "90.0 %, EMD 0.0200"),
        (0.9, None, "checkpoint", "90.0 %"),
        (None, 0.02, "scratch", "2.0× floor"),
    ],
)
def test_a_network_in_a_few_words(accuracy, emd, start, expected):
    results, _, _ = study(KNOWN[:1], SMALL)
    results["drift"]["mean"], results["floor"]["mean"] = 0.005, 0.01
    row = find(results, KNOWN[0][0])
    row["start"], row["accuracy"], row["emd"]["mean"] = start, accuracy, emd
    made = read(results)
    assert summary.item(made, made.quantized[0]) == expected


def test_what_is_missing_is_named():
    results, _, _ = small()
    planned = [f"{row['name']}/seed{row['seed']}" for row in results["rows"]]
    assert summary.missing(read(results, planned=planned)) == []
    results |= dict.fromkeys(("floor", "drift", "floor_range", "drift_range"))
    results["rows"] = [results["rows"][0], *results["rows"][4:6]]
    results["rows"][-1]["emd"] = None
    missing = summary.missing(read(results, planned=planned), ["Training"])
    assert missing == [
        "Not finished: float/seed1, float-finetuned/seed0, float-finetuned/seed1, "
        "membrane-uniform-signed-2bit/seed0, membrane-lqnet-2bit/seed0.",
        "Without an EMD: weights-lqnet-clip10-2bit/seed0.",
        "The drift, the control of rows from checkpoint, is not measured.",
        "Without data for these plots: Training.",
    ]


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ([], "No verdict: no quantized network is finished."),
        (["float"], "No verdict: no quantized network is finished."),
        (["quantized"], "No verdict: no float network is finished"),
    ],
)
def test_without_float_or_quantized_rows_there_is_no_verdict(kept, sentence):
    results, _, _ = study(KNOWN[:1], SMALL)
    results["rows"] = [row for row in results["rows"] if row["kind"] in kept]
    assert sentence in words(results)


def test_the_heading_flags_synthetic_data():
    assert summary.title(read(small()[0])) == "Quantization study on digits"
    assert "SYNTHETIC DATA" in summary.title(read(small(dataset="Synthetic 8x8")[0]))
    assert summary.heading("Two networks", "") == "Two networks"


# Binary networks


def test_of_binary_networks_nobody_speaks_of_controls():
    text = words(binary())
    assert "BNN, ResNet-18 (2 seeds): StoMPP 66.0 %, 5.0 points above STE" in text
    for word in ("EMD", "drift", "floor", "control", "firing", "No quantized"):
        assert word not in text
    assert summary.lists(read(binary())) == []
    assert summary.title(read(binary())) == "Binary networks on digits"
    assert summary.missing(read(binary())) == []


def test_binary_rows_that_are_not_finished_are_named():
    planned = [f"{name}/seed{s}" for name in KNOWN_BINARY for s in (0, 1)]
    results = binary()
    assert summary.missing(read(results, planned=planned)) == []
    results["rows"] = [r for r in results["rows"] if r["kind"] != "float"][1:]
    assert summary.missing(read(results, planned=planned), ["Training"]) == [
        "Not finished: float-r18/seed0, float-r18/seed1, bnn-ste-r18/seed0.",
        "Without data for these plots: Training.",
    ]


def test_what_forbids_to_believe_a_study_of_binary_networks():
    assert summary.caveats(read(binary())) == []
    single = {name: values[:1] for name, values in KNOWN_BINARY.items()}
    configs = {name: {"network.width": 0.25} for name in single}
    paper = {
        "bnn-ste-r18": {"accuracy": 0.489, "grade": "S", "of": "CIFAR-100"},
        "bwn-ste-r18": {"accuracy": 0.7, "grade": "P"},
        "no such row": {"accuracy": 0.7, "grade": "R"},
    }
    assert summary.caveats(read(binary(single, paper, configs=configs))) == [
        "Every binary network was trained with one seed only, and one seed decides "
        "nothing.",
        "Not of the published width: ResNet-18 has 0.25 times the channels.",
        "Values of the paper are from summaries by others (S) and the paper itself "
        "(P).",
        "Some were published for something else than this study, and show a direction "
        "and no target: CIFAR-100.",
    ]


def test_readings_of_what_the_papers_leave_open_stand_beside_the_result():
    rule = {"method": "stompp", "law": "soft", "refresh": 100, "schedule": "cubic"}
    rule |= {"masks": "position", "scaled": False}
    lists = {"weights": [["a", rule]], "activations": [["b", {**rule, "refresh": 7}]]}
    ste = {"weights": [["a", {"method": "ste", "gradient": "identity"}]]}
    ste["activations"] = [["b", {"method": "ste", "gradient": "clipped"}]]
    configs = {"bnn-stompp-r18": lists, "bnn-ste-r18": ste}
    assert summary.choices(read(binary(configs=configs))) == (
        "mask law soft; refresh 100, 7; schedule cubic; masks of activations by "
        "position; scaled signs False; STE's gradient of weights identity; STE's "
        "gradient of activations clipped; what shortcuts carry quantized"
    )
    caveats = summary.caveats(read(binary(configs=configs)))
    assert any(one.startswith("Where the papers are silent: mask") for one in caveats)


def test_a_binary_network_in_a_few_words():
    made = read(binary())
    said = {group.name: summary.item(made, group) for group in made.groups}
    assert said["float-r18"] == "92.5 %"
    assert said["bnn-reverse-r18"] == "25.0 %, −36.0 points on STE"


def test_published_values_of_a_spiking_study_name_their_grade():
    results, _, _ = study(KNOWN[:1], SMALL)
    assert "Values of the paper" not in words(results)
    results["paper"] = {KNOWN[0][0]: {"accuracy": 0.7, "emd": 0.01, "grade": "S"}}
    assert "Values of the paper are from summaries by others (S)." in words(results)


def test_what_shows_stands_first():
    rows = {**KNOWN_BINARY, "bnn-stompp-r18": [0.55, 0.67]}
    found = summary.claims(read(binary(rows)))
    assert [claim.reading.words for claim in found] == ["shows"] * 2 + [
        "cannot be decided here"
    ] * 2
