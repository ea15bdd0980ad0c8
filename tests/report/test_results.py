"""Rows grouped by experiment and read against their control."""

import json

import pytest

from jsnnq.config import STE, Run, StoMPP, from_dict
from jsnnq.errors import InputError
from jsnnq.report import numbers, results
from tests.studies import (
    DRIFT,
    KNOWN,
    KNOWN_BINARY,
    SMALL,
    binary,
    find,
    restart,
    runs,
    signs,
    small,
    study,
)


def _readings(found):
    made = results.read(found)
    return {group.name: made.reading(group).words for group in made.groups}


def test_exactly_one_point_is_kept_and_the_end_of_the_range_is_no_change():
    found, _, _ = study(KNOWN[:1], SMALL)
    name = KNOWN[0][0]
    row = find(found, name)
    row["accuracy"], row["emd"]["mean"] = 0.98, 0.0049
    assert _readings(found)[name] == "keeps accuracy and behaviour"
    assert _readings(found)["float"] == _readings(found)["float-finetuned"] == "–"
    row["accuracy"], row["emd"]["mean"] = 0.9799, 0.00491
    assert _readings(found)[name] == "loses accuracy and changes behaviour"


def test_accuracy_is_held_against_that_of_the_control():
    """A float network that gained by its fine-tuning asks more of the others."""
    found, name = small()[0], "weights-uniform-clip10-2bit"
    find(found, name)["accuracy"] = 0.985
    assert _readings(found)[name] == "keeps accuracy, changes behaviour"
    for row in found["rows"]:
        if row["kind"] == "control":
            row["accuracy"] = 0.999
    assert _readings(found)[name] == "loses accuracy and changes behaviour"
    made = results.read(found)
    assert made.base("checkpoint") == pytest.approx(0.999)
    assert made.base("scratch") == made.base("post-training") == made.reference


@pytest.mark.parametrize(
    ("start", "word", "ratio"),
    [("checkpoint", "drift", 4.0), ("scratch", "floor", 2.0), ("post-training", "", 0)],
)
def test_a_row_is_held_against_the_control_of_its_start(start, word, ratio):
    found, _, _ = study(KNOWN[:1], SMALL)
    found["drift"]["mean"], found["floor"]["mean"] = 0.005, 0.01
    row = find(found, KNOWN[0][0])
    restart(row, start)
    row["emd"]["mean"] = 0.02
    made = results.read(found)
    (group,) = made.quantized
    control = made.control(group.start)
    if word:
        assert control.word == word
        assert made.ratio(group) == pytest.approx(ratio)
    else:
        assert control is made.ratio(group) is None
        assert made.reading(group).words == "not judged, without a control"


def test_the_float_networks_are_the_reference_and_without_them_the_best():
    found, _, _ = small()
    assert results.read(found).reference == pytest.approx((0.989 + 0.991) / 2)
    found["rows"] = found["rows"][2:]
    best = max(row["accuracy"] for row in found["rows"])
    made = results.read(found)
    assert made.reference == best
    assert {made.reading(g).code for g in made.quantized} == {"open"}


def test_seeds_of_a_row_are_one_group_and_starts_are_not():
    found, _, _ = study(KNOWN[:1], SMALL, seeds=3)
    rows = [row for row in found["rows"] if row["kind"] == "quantized"]
    for row, accuracy in zip(rows, (0.9, None, 0.8), strict=True):
        row["accuracy"] = accuracy
    (group,) = results.read(found).quantized
    assert group.values("accuracy") == [0.9, 0.8]
    assert group.mean("accuracy") == pytest.approx(0.85)
    assert group.mean("nothing.here") is None
    emds = [row["emd"]["layers"]["second"] for row in rows]
    assert group.layers()["second"] == pytest.approx(sum(emds) / 3)
    assert group.runs == [Run(KNOWN[0][0], seed) for seed in range(3)]
    restart(rows[0], "scratch")
    assert len(results.read(found).quantized) == 2


def test_groups_stand_float_control_then_by_family_clip_and_bits():
    found, _, _ = study()
    found["rows"].reverse()
    assert [group.name for group in results.read(found).groups] == [
        "float",
        "float-finetuned",
        *(f"weights-lqnet-clip{clip}-{b}bit" for clip in (1, 10) for b in (2, 4)),
        *(f"weights-uniform-clip{clip}-{b}bit" for clip in (1, 10) for b in (2, 4)),
        "membrane-lqnet-2bit",
        *(f"membrane-uniform-signed-{b}bit" for b in (2, 4)),
        *(f"membrane-uniform-unsigned-{b}bit" for b in (2, 4)),
        "both-lqnet-2bit",
        "both-uniform-2bit",
    ]


def test_the_range_of_a_control_is_said():
    found, _, _ = small()
    made = results.read(found)
    assert made.control("checkpoint").span == "0.0041 to 0.0049"
    del found["drift_range"]
    found["drift"]["mean"] = DRIFT
    control = made.control("checkpoint")
    assert (control.low, control.mean, control.high) == (DRIFT,) * 3
    assert control.span == "measured once"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (numbers.amount(1_234_567.0), "1.23M"),
        (numbers.amount(999_999.0), "1.00M"),
        (numbers.amount(999.4), "999"),
        (numbers.amount(0.01234), "0.0123"),
        (numbers.kib(8192 * 1500), "1,500.0"),
        (numbers.times(9.949), "9.9×"),
        (numbers.times(9.95), "10×"),
        (numbers.percent(0.98765), "98.8"),
        (numbers.distance(0.00449), "0.0045"),
    ],
)
def test_numbers_are_printed_with_the_digits_that_matter(printed, expected):
    assert printed == expected


@pytest.mark.parametrize(
    ("given", "schema"), [({"schema": 3}, "3"), ({"schema": "1"}, "'1'"), ({}, None)]
)
def test_another_schema_is_refused_in_one_sentence(given, schema):
    with pytest.raises(InputError) as refused:
        results.read({"rows": [], **given})
    assert str(refused.value) == (
        f"results of schema {schema} were given, this jsnnq reads schemas 1 and 2: "
        "make the report with the jsnnq that ran the study"
    )


def test_results_of_the_schema_before_are_read_to_the_same():
    """It wrote runs as text, and neither what diverged looked like nor claims."""
    new = small()[0]
    name = "row/seed of a kind"  # A name may hold what a text ends with.
    find(new, KNOWN[3][0])["name"] = name
    lost = Run(name, 12)
    new["planned"] = [*runs(new), lost._asdict()]
    new["diverged"] = [lost._asdict() | {"config": find(new, name)["config"]}]
    old = json.loads(json.dumps(new)) | {"schema": 1}
    old["planned"] = [f"{run['name']}/seed{run['seed']}" for run in new["planned"]]
    old["diverged"] = [f"{name}/seed12"]
    new["claims"] = []
    one, other = results.read(old), results.read(new)
    assert one.planned == other.planned
    assert one.planned[-2:] == (Run(name, 0), Run(name, 12))
    assert one.diverged.keys() == other.diverged.keys() == {lost}
    assert one.diverged[lost] is None
    assert other.diverged[lost] == from_dict(find(new, name)["config"])
    assert one.groups == other.groups
    assert one.rows() == other.rows()


def test_what_diverged_is_a_row_that_lost_everything():
    found, _, _ = small()
    row = find(found, KNOWN[0][0])
    found["rows"].remove(row)
    other = find(found, KNOWN[1][0])
    found["diverged"] = [
        {"name": row["name"], "seed": 0, "config": row["config"]},
        {"name": other["name"], "seed": 5, "config": other["config"]},
    ]
    made = {one.config: one for one in results.read(found).rows()}
    assert len(made) == len(KNOWN)
    lost, half = (made[from_dict(one["config"])] for one in (row, other))
    for one, seeds in ((lost, [0]), (half, [5, 0])):
        assert list(one.accuracies) == list(one.emds) == seeds
        assert one.accuracies[seeds[0]] == -float("inf")
        assert one.emds[seeds[0]] == float("inf")
    assert lost.reading.words == "loses accuracy and changes behaviour"
    assert half.accuracies[0] == other["accuracy"]
    assert half.reading.words == "not judged, without a control"  # Seeds disagree.


# Binary networks


def named(found):
    """A study that was read, and its groups by name."""
    made = results.read(found)
    return made, {group.name: group for group in made.groups}


def test_a_study_is_binary_if_nothing_in_it_spikes():
    assert results.read(binary()).is_binary
    assert not results.read(small()[0]).is_binary
    assert not results.read({"schema": 2, "rows": []}).is_binary


def test_binary_networks_have_no_control_and_are_not_judged_by_one():
    made = results.read(binary())
    assert {made.reading(group).words for group in made.groups} == {"–"}
    assert {made.control(group.start) for group in made.groups} == {None}


def test_a_gain_is_read_against_the_estimator_of_the_same_place():
    made, groups = named(binary())
    gains = {name: made.gain(group) for name, group in groups.items()}
    assert gains["bnn-stompp-r18"] == pytest.approx(0.66 - 0.61)
    assert gains["bwn-stompp-r18"] == pytest.approx(0.905 - 0.885)
    assert gains["bnn-reverse-r18"] == pytest.approx(0.25 - 0.61)
    assert gains["bnn-ste-r18"] is gains["float-r18"] is None
    assert made.estimator(groups["bwn-reverse-r18"]) == groups["bwn-ste-r18"]
    assert made.gap(groups["bnn-stompp-r18"]) == pytest.approx(0.66 - 0.925)
    assert made.gap(groups["float-r18"]) is None


def test_full_precision_is_that_of_the_same_recipe_where_there_is_one():
    rows = {**KNOWN_BINARY, "float-slow-r18": [0.5]}
    slow = {"training.rate": 0.01}
    configs = {"float-slow-r18": slow, "bnn-global-r18": slow}
    configs["bnn-ste-r18"] = {"training.rate": 0.5}
    made, groups = named(binary(rows, configs=configs))
    peers = {name: made.float_peer(group) for name, group in groups.items()}
    assert peers["bnn-stompp-r18"].name == "float-r18"
    assert peers["bnn-global-r18"].name == "float-slow-r18"
    assert peers["bnn-ste-r18"].name == "float-r18"  # Any will do.


def test_a_gain_needs_the_same_recipe_and_prefers_the_same_detail():
    rows = {"bnn-ste-r18": [0.5], "bnn-ste-scaled-r18": [0.6]}
    rows |= {"bnn-stompp-scaled-r18": [0.8], "bnn-stompp-linear-r18": [0.7]}
    rows |= {"bnn-stompp-adam-r18": [0.9], "bnn-stompp-r50": [0.4]}
    configs = {"bnn-stompp-adam-r18": {"training.optimizer": "adam"}}
    configs["bnn-ste-scaled-r18"] = signs(STE(scaled=True), STE("clipped"))
    configs["bnn-stompp-scaled-r18"] = signs(StoMPP(scaled=True), StoMPP())
    looked = {"training.looks": 99}  # Looking is free.
    configs["bnn-stompp-linear-r18"] = signs(StoMPP(schedule="linear")) | looked
    made, groups = named(binary(rows, configs=configs))
    gains = {name: made.gain(group) for name, group in groups.items()}
    assert gains == {
        "bnn-ste-r18": None,
        "bnn-ste-scaled-r18": pytest.approx(0.1),
        "bnn-stompp-scaled-r18": pytest.approx(0.2),
        "bnn-stompp-linear-r18": pytest.approx(0.2),
        "bnn-stompp-adam-r18": None,
        "bnn-stompp-r50": None,
    }


def test_a_recipe_is_told_where_there_is_another():
    configs = {"bnn-ste-r18": {"training.rate": 0.05, "training.optimizer": "adam"}}
    made, groups = named(binary(configs=configs))
    assert made.trained(groups["bnn-ste-r18"]) == ["adam", "rate 0.05"]
    assert made.trained(groups["bwn-ste-r18"]) == ["sgd", "rate 0.1"]
    made, groups = named(binary(configs={"bnn-ste-r18": {"training.looks": 7}}))
    assert {tuple(made.trained(group)) for group in groups.values()} == {()}


def test_binary_networks_stand_by_depth_place_and_method():
    names = ["bnn-ste-r50", "bwn-stompp-r18", "bnn-global-mobilenetv2", "bnn-odd-r18"]
    names += ["bnn-stompp-linear-r18", *reversed(KNOWN_BINARY)]
    rows = dict.fromkeys(names, [0.1])
    configs = {"bnn-odd-r18": signs(StoMPP(order=(1, 0)))}
    configs["bnn-stompp-linear-r18"] = signs(StoMPP(schedule="linear"))
    made = results.read(binary(rows, configs=configs))
    assert [group.name for group in made.groups] == [
        "float-r18",
        "bnn-ste-r18",
        "bnn-stompp-r18",
        "bnn-stompp-linear-r18",
        "bnn-stompp+ste-r18",
        "bnn-global-r18",
        "bnn-reverse-r18",
        "bnn-odd-r18",
        *(name for name in KNOWN_BINARY if name.startswith("bwn")),
        "bnn-ste-r50",
        "bnn-global-mobilenetv2",
    ]
    networks = dict.fromkeys(group.network for group in made.groups)
    assert list(networks) == ["ResNet-18", "ResNet-50", "MobileNetV2"]


def test_two_widths_of_one_network_are_two_networks():
    rows = {"bnn-ste-r18": [0.5], "bnn-stompp-wide-r18": [0.6]}
    configs = {"bnn-stompp-wide-r18": {"network.width": 2.0}}
    made = results.read(binary(rows, configs=configs))
    networks = [group.network for group in made.groups]
    assert networks == ["ResNet-18, width 1.0", "ResNet-18, width 2.0"]
    assert [made.gain(group) for group in made.groups] == [None, None]
