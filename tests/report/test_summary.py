"""The sentences of the verdict, on studies with known findings."""

import json

import pytest

from jsnnq.config import STE, StoMPP
from jsnnq.report import summary
from jsnnq.report.results import read
from tests.studies import (
    DEEP,
    DRIFT,
    HOSTILE,
    KNOWN,
    KNOWN_BINARY,
    ROWS,
    SMALL,
    binary,
    find,
    restart,
    runs,
    signs,
    small,
    study,
)


def words(results):
    """Everything that is said of a study."""
    made = read(results)
    said = [summary.say("verdict", made), summary.say("controls", made)]
    return " ".join([*said, *caveats(results), *missing(results)])


def verdict(results):
    return summary.say("verdict", read(results))


def caveats(results):
    return [summary.say("caveat", *one) for one in summary.caveats(read(results))]


def missing(results, undrawn=()):
    found = summary.missing(read(results), undrawn)
    return [summary.say("missing", *one) for one in found]


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
    text = words(study(KNOWN[1:2], SMALL)[0])
    assert "In 1 of 1 quantized networks" in text
    assert "none of these does the firing move further than fine-tu" in text
    text = words(study(KNOWN[2:], SMALL)[0])
    assert "None of the 2 quantized networks stays within 1 point" in text


def test_what_a_row_is_held_against_is_said():
    results, _, _ = study(KNOWN[:2], SMALL)
    first, second = results["rows"][-2:]
    restart(first, "scratch")
    first["accuracy"], first["emd"]["mean"] = 0.99, 0.03
    assert "further than another seed moves it" in words(results)
    second["emd"]["mean"] = 0.03
    assert "In 2 of 2 quantized" in words(results)
    assert "further than its control." in words(results)


def test_post_training_rows_have_no_control():
    results, _, _ = study(KNOWN[:2], SMALL)
    for row in results["rows"][-2:]:
        restart(row, "post-training")
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
    restart(row, start)
    row["accuracy"], row["emd"]["mean"] = accuracy, emd
    made = read(results)
    assert summary.say("item", made, made.quantized[0]) == expected


def test_what_is_missing_is_named():
    results, _, _ = small()
    results["planned"] = runs(results)
    assert missing(results) == []
    results |= dict.fromkeys(("floor", "drift", "floor_range", "drift_range"))
    results["rows"] = [results["rows"][0], *results["rows"][4:6]]
    results["rows"][-1]["emd"] = None
    assert missing(results, ["Training", "What it costs"]) == [
        "Not finished: float/seed1, float-finetuned/seed0, float-finetuned/seed1, "
        "membrane-uniform-signed-2bit/seed0, membrane-lqnet-2bit/seed0.",
        "Without an EMD: weights-lqnet-clip10-2bit/seed0.",
        "The drift, the control of rows from checkpoint, is not measured.",
        "Without data for these plots: Training; What it costs.",
    ]


def test_what_diverged_is_not_waited_for():
    results, _, _ = small()
    *results["rows"], lost = results["rows"]
    run = {"name": lost["name"], "seed": 0}
    results["planned"] = [*runs(results), run]
    results["diverged"] = [{**run, "config": lost["config"]}]
    said = "Diverged, so that there is no result: membrane-lqnet-2bit/seed0."
    assert missing(results) == [said]
    results["rows"].append(lost)  # It was repeated, and went well.
    assert missing(results) == []


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
    title = lambda results: summary.say("title", read(results))
    assert title(small()[0]) == "Quantization study on digits"
    assert title(small(dataset="Synthetic 8x8")[0]) == (
        "Quantization study on Synthetic 8x8 "
        "[SYNTHETIC DATA: random images, not a real data set]"
    )
    assert summary.say("heading", "Two networks", "", False) == "Two networks"


def test_what_is_said_of_a_hostile_name_is_plain_text():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row |= {"name": HOSTILE, "emd": None}
    assert missing(results)[-1] == f"Without an EMD: {HOSTILE}/seed0."


# Binary networks


def test_of_binary_networks_nobody_speaks_of_controls():
    text = words(binary())
    assert "StoMPP 66.0 %, +5.0 points on STE" in text
    for word in ("EMD", "drift", "floor", "control", "firing", "No quantized"):
        assert word not in text
    assert summary.lists(read(binary())) == []
    assert summary.say("title", read(binary())) == "Binary networks on digits"
    assert missing(binary()) == []


def test_binary_rows_that_are_not_finished_are_named():
    results = binary()
    results["planned"] = runs(results)
    assert missing(results) == []
    results["rows"] = [r for r in results["rows"] if r["kind"] != "float"][1:]
    assert missing(results, ["Training"]) == [
        "Not finished: float-r18/seed0, float-r18/seed1, bnn-ste-r18/seed0.",
        "Without data for these plots: Training.",
    ]


def test_what_forbids_to_believe_a_study_of_binary_networks():
    assert [kind for kind, _ in summary.caveats(read(binary()))] == ["choices"]
    single = {name: values[:1] for name, values in KNOWN_BINARY.items()}
    configs = {name: {"network.width": 0.25} for name in single}
    paper = {
        "bnn-ste-r18": {"accuracy": 0.489, "grade": "S", "of": "CIFAR-100"},
        "bwn-ste-r18": {"accuracy": 0.7, "grade": "P"},
        "no such row": {"accuracy": 0.7, "grade": "R"},
    }
    *said, choices, grades, others = caveats(binary(single, paper, configs=configs))
    assert choices.startswith("Where the papers are silent: ")
    assert [*said, grades, others] == [
        "Every binary network was trained with one seed only, and one seed decides "
        "nothing.",
        "Not of the published width: ResNet-18 has 0.25 times the channels.",
        "Values of the paper are from the paper itself (P) and summaries by others "
        "(S).",
        "Some were published for something else than this study, and show a direction "
        "and no target: CIFAR-100.",
    ]


def test_readings_of_what_the_papers_leave_open_stand_beside_the_result():
    rule = {"method": "stompp", "law": "soft", "refresh": 100, "schedule": "cubic"}
    rule |= {"masks": "position", "scaled": False}
    lists = {"weights": [["a", rule]], "activations": [["b", {**rule, "refresh": 7}]]}
    configs = {"bnn-stompp-r18": lists}
    configs["bnn-ste-r18"] = signs(STE("identity"), STE("clipped"))
    rows = {name: KNOWN_BINARY[name] for name in ("float-r18", *configs)}
    (said,) = caveats(binary(rows, configs=configs))
    assert said == (
        "Where the papers are silent: mask law soft; refresh 100, 7; schedule cubic; "
        "masks of activations by position; scaled signs False; STE's gradient of "
        "weights identity; STE's gradient of activations clipped; what shortcuts carry "
        "quantized."
    )
    assert caveats(binary({"float-r18": [0.9, 0.9]})) == []


def test_a_binary_network_in_a_few_words():
    made = read(binary())
    said = {group.name: summary.say("item", made, group) for group in made.groups}
    assert said["float-r18"] == "92.5 %"
    assert said["bnn-reverse-r18"] == "25.0 %, −36.0 points on STE"


def test_published_values_of_a_spiking_study_name_their_grade():
    results, _, _ = study(KNOWN[:1], SMALL)
    assert "Values of the paper" not in words(results)
    results["paper"] = {KNOWN[0][0]: {"accuracy": 0.7, "emd": 0.01, "grade": "S"}}
    assert "Values of the paper are from summaries by others (S)." in words(results)


# The verdict on binary networks


def test_the_verdict_counts_points_on_the_estimator_the_best_first():
    # Means: 71, 66, 62, 61, 25 and 92.5.
    assert verdict(binary()) == (
        "BNN, ResNet-18 (2 seeds): StoMPP+STE 71.0 %, +10.0 points on STE; StoMPP "
        "66.0 %, +5.0 points on STE; StoMPP global 62.0 %, +1.0 points on STE; STE "
        "61.0 %; StoMPP reverse 25.0 %, −36.0 points on STE; full precision 92.5 %."
    )


def test_the_verdict_says_how_many_seeds_there_are():
    rows = {"bnn-ste-r18": [0.50, 0.60], "bnn-stompp-r18": [0.48, 0.55, 0.59]}
    assert verdict(binary(rows)) == (
        "BNN, ResNet-18 (2 to 3 seeds): STE 55.0 %; StoMPP 54.0 %, −1.0 points on STE."
    )
    rows["bnn-global-r18"] = [0.1]
    assert verdict(binary(rows)).startswith("BNN, ResNet-18 (1 to 3 seeds): STE")
    single = {name: values[:1] for name, values in rows.items()}
    assert verdict(binary(single)).startswith("BNN, ResNet-18 (1 seed): STE 50.0 %;")


def test_every_network_has_its_sentence_the_shallow_first():
    rows = dict(reversed(DEEP.items())) | {"bnn-ste-mobilenetv2": [0.5]}
    assert verdict(binary(rows)) == (
        "BNN, ResNet-18 (2 seeds): StoMPP 63.5 %, +3.0 points on STE; STE 60.5 %. "
        "BNN, ResNet-50 (2 seeds): StoMPP 56.0 %, +15.5 points on STE; STE 40.5 %. "
        "BNN, MobileNetV2 (1 seed): STE 50.0 %."
    )


def test_binary_weights_are_the_verdict_where_there_is_nothing_else():
    rows = {name: v for name, v in KNOWN_BINARY.items() if not name.startswith("bnn")}
    found = verdict(binary(rows))
    assert found.startswith("BWN, ResNet-18 (2 seeds): StoMPP 90.5 %, +2.0 points on")
    found = verdict(binary(rows | {"bnn-ste-r50": [0.4]}))
    assert found == "BNN, ResNet-50 (1 seed): STE 40.0 %."


def test_recipes_are_told_apart():
    """Each has an estimator of its own, and full precision of its own if there is."""
    rows = {"bnn-ste-lr0.1-r18": [0.5], "bnn-stompp-lr0.1-r18": [0.6]}
    rows |= {"bnn-ste-adam-r18": [0.7], "bnn-stompp-adam-r18": [0.72]}
    rows |= {"float-r18": [0.9], "float-adam-r18": [0.91]}
    configs = {name: {"training.optimizer": "adam"} for name in rows if "adam" in name}
    assert verdict(binary(rows, configs=configs)) == (
        "BNN, ResNet-18, sgd (1 seed): StoMPP 60.0 %, +10.0 points on STE; "
        "STE 50.0 %; full precision 90.0 %. "
        "BNN, ResNet-18, adam (1 seed): StoMPP 72.0 %, +2.0 points on STE; "
        "STE 70.0 %; full precision 91.0 %."
    )
    rows = {name: values for name, values in DEEP.items() if "r18" in name}
    configs = {"bnn-ste-r18": {"training.rate": 0.01}}
    assert "points" not in verdict(binary(rows, configs=configs))


def test_other_estimators_are_a_method_like_others():
    alone = {"bnn-ste-r18": [0.6], "bnn-ste-identity-r18": [0.4]}
    assert verdict(binary(alone)) == (
        "BNN, ResNet-18 (1 seed): STE 60.0 %; STE identity 40.0 %, −20.0 points on STE."
    )


def test_variants_are_told_by_their_settings_and_many_are_summed_up():
    rows = {"a": [0.5], "b": [0.6], "c": [0.4]}
    rows = {f"bnn-stompp-{name}-r18": values for name, values in rows.items()}
    settings = ({"schedule": "linear", "refresh": 10}, {}, {"law": "full"})
    made = [signs(StoMPP(**each)) for each in settings]
    configs = dict(zip(rows, made, strict=True))
    assert verdict(binary(rows, configs=configs)) == (
        "BNN, ResNet-18 (1 seed): StoMPP 60.0 %; StoMPP, schedule linear, refresh 10 "
        "50.0 %; StoMPP, law full 40.0 %."
    )
    for refresh in (1, 2, 3):
        rows[f"bnn-stompp-{refresh}-r18"] = [0.41]
        configs[f"bnn-stompp-{refresh}-r18"] = signs(StoMPP(refresh=refresh))
    assert "StoMPP, refresh 3 41.0 %;" in verdict(binary(rows, configs=configs))
    rows = {**rows, "bnn-ste-r18": [0.39, 0.41], "float-r18": [0.9]}
    assert verdict(binary(rows, configs=configs)) == (
        "BNN, ResNet-18 (1 to 2 seeds): 7 methods lie between StoMPP, law full 40.0 %, "
        "+0.0 points on STE and StoMPP 60.0 %, +20.0 points on STE; full precision "
        "90.0 %."
    )


@pytest.mark.parametrize("rows", [{"float-r18": [0.9]}, {"bnn-ste-r18": [None]}])
def test_without_a_finished_binary_network_there_is_no_verdict(rows):
    assert verdict(binary(rows)) == "No verdict: no binary network is finished."


# Claims and comparisons


SIDE = {"name": "clip 10", "values": [0.9, 0.91], "unit": "%", "ratio": None}
POINTS = "+1.0 points (−1.0 to +3.0)"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "clip 10 90.5 % (90.0 to 91.0)"),
        ({"values": [0.9]}, "clip 10 90.0 %"),
        ({"values": [0.9001, 0.9002]}, "clip 10 90.0 %"),
        ({"name": ""}, "90.5 % (90.0 to 91.0)"),
        (
            {"name": "", "ratio": 2.04, "control": "drift"},
            "90.5 % (90.0 to 91.0), 2.0× drift",
        ),
        ({"values": [0.9, None]}, "clip 10 diverged (1 of 2 seeds)"),
        ({"values": [None]}, "clip 10 diverged (1 of 1 seeds)"),
        ({"values": [0.03, -0.01], "unit": "points"}, f"clip 10 {POINTS}"),
    ],
)
def test_a_side_of_a_claim_in_a_few_words(changes, expected):
    assert summary.say("evidence", SIDE | changes) == expected


def test_what_is_compared_stands_by_setting_and_value():
    results, _, _ = study()
    found = {setting: rest for setting, *rest in summary.compared(read(results))}
    assert list(found) == ["bits", "clip", "grid", "method"]
    assert {setting: values for setting, (values, _) in found.items()} == {
        "bits": [2, 4],
        "clip": [1.0, 10.0],
        "grid": ["symmetric", "unsigned"],
        "method": ["LQ-Net", "uniform", "uniform, grid unsigned"],
    }
    _, families = found["clip"]
    assert [(one.shared, list(one.rows)) for one in families] == [
        (("weights", method, f"{bits}-bit"), [1.0, 10.0])
        for method in ("LQ-Net", "uniform")
        for bits in (2, 4)
    ]


def test_families_that_are_called_alike_say_their_start_or_recipe():
    names = ("weights-lqnet-clip1-2bit", "weights-lqnet-clip1-4bit")
    results, _, _ = study([(name, 0.1, 1.0) for name in names], SMALL)
    for row in results["rows"][-2:]:
        again = json.loads(json.dumps(row)) | {"name": row["name"] + "-scratch"}
        restart(again, "scratch")
        results["rows"].append(again)
    assert shared(results) == {
        "bits": [
            "weights, LQ-Net, clip 1, from scratch",
            "weights, LQ-Net, clip 1, from checkpoint",
        ]
    }
    rows = {f"bnn-{x}-{y}-r18": [0.5] for x in ("ste", "stompp") for y in ("a", "b")}
    configs = {name: {"training.rate": 0.05} for name in rows if "-b-" in name}
    assert shared(binary(rows, configs=configs)) == {
        "method": ["BNN, ResNet-18, rate 0.1", "BNN, ResNet-18, rate 0.05"]
    }


def shared(results):
    """What families that are compared have in common, by setting."""
    return {
        setting: [", ".join(family.shared) for family in families]
        for setting, _, families in summary.compared(read(results))
    }


def test_a_method_is_not_compared_with_itself():
    grids = [row for row in ROWS if row[0].startswith("membrane-uniform")]
    results, _, _ = study(grids, SMALL)
    found = [setting for setting, *_ in summary.compared(read(results))]
    assert found == ["bits", "grid"]
