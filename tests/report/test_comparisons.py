"""Families of rows that differ in one setting, and how claims are held against them."""

import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnnq.config import (
    BinaryNetworkConfig,
    Config,
    LQNet,
    Mint,
    StoMPP,
    TrainingConfig,
    Uniform,
    kernels,
    neurons,
    to_dict,
)
from jsnnq.report.comparisons import (
    FAILS,
    SHOWS,
    UNDECIDED,
    Claim,
    answer,
    anywhere,
    by_size,
    everywhere,
    evidence,
    families,
    hold,
    lies_above,
    somewhere,
)
from jsnnq.report.results import Control, Row, read
from tests import studies

DRIFT = Control("drift", 0.01, 0.008, 0.012)


def weights(quantizer, **others):
    return Config(weights=kernels(quantizer), **others)


def row(config, accuracies=(0.8, 0.9), ratio=1.0, control=DRIFT):
    """A row of seeds 0, 1, ..., at so many times the control."""
    values = dict(enumerate(accuracies))
    emds = {
        seed: math.inf if math.isinf(x) else 0.01 * ratio for seed, x in values.items()
    }
    return Row(config, "Net", control, values, dict.fromkeys(values, 0.9), emds)


def found(configs, setting):
    """Families of these configs, each as the numbers of its rows by value."""
    rows = [row(config) for config in configs]
    position = {id(each): number for number, each in enumerate(rows)}
    return [
        {value: position[id(each)] for value, each in family.rows.items()}
        for family in families(rows, setting)
    ]


# Families


def test_rows_that_differ_in_one_setting_are_a_family_by_its_value():
    """What is alike but for it `meaning` knows."""
    configs = [weights(Uniform(bits)) for bits in (8, 2, 4)]
    (family,) = families([row(config) for config in configs], "bits")
    assert family.setting == "bits"
    assert family.shared == ("weights", "uniform", "clip 1")
    assert [*family.rows] == [2, 4, 8]
    assert family.rows[2].config == configs[1]


def test_numbers_stand_by_size_then_words_then_what_is_not_set():
    clips = ("max", 10.0, None, 0.5, "percentile", 2.0)
    assert by_size(clips) == [0.5, 2.0, 10.0, "max", "percentile", None]
    assert by_size([10, 0.0, 2]) == [0.0, 2, 10]
    made = [*map(LQNet, [2] * 3, [10.0, None, 2.0])]
    assert found(map(weights, made), "clip") == [{2.0: 2, 10.0: 0, None: 1}]
    made = [Uniform(2, clip=clip) for clip in ("max", 10.0, 2.0)]
    assert found(map(weights, made), "clip") == [{2.0: 2, 10.0: 1, "max": 0}]


def test_rows_with_the_setting_nowhere_or_with_several_values_are_in_no_family():
    made = [
        Config(weights=kernels(Uniform(one)), membranes=neurons(Uniform(other)))
        for one, other in ((2, 4), (2, 2), (4, 4))
    ]
    assert found(made, "bits") == [{2: 1, 4: 2}]
    assert found([weights(Mint(2)), weights(Mint(2, squash=False))], "clip") == []


def test_of_equal_rows_the_first_counts_and_one_is_no_family():
    two, four = weights(Uniform(2)), weights(Uniform(4))
    assert found([two, two], "bits") == []
    assert found([two, two, four, four], "bits") == [{2: 0, 4: 2}]


def test_without_a_setting_every_row_stands_alone():
    two, four = weights(Uniform(2)), weights(Uniform(4))
    assert found([two, four, two], "") == [{"": 0}, {"": 1}, {"": 2}]
    (family,) = families([row(two)], "")
    assert family.shared == ("weights", "uniform", "2-bit", "clip 1")


GRID = [
    weights(Uniform(bits, clip=clip), training=TrainingConfig(rate=rate))
    for bits in (2, 4, 8)
    for clip in (1.0, 10.0, "max")
    for rate in (0.1, 0.3)
]


@settings(deadline=None, max_examples=100)
@given(st.permutations(range(len(GRID))), st.integers(0, len(GRID)))
def test_families_are_all_rows_that_are_alike_in_any_order(order, size):
    chosen = [GRID[number] for number in order[:size]]
    alike = {}
    for number, config in enumerate(chosen):
        (_, quantizer), *_ = config.weights
        rest = (quantizer.clip, config.training.rate)
        alike.setdefault(rest, {})[quantizer.bits] = number
    expected = [members for members in alike.values() if len(members) > 1]
    made = found(chosen, "bits")
    assert sorted(made, key=str) == sorted(
        [dict(sorted(members.items())) for members in expected], key=str
    )
    assert all([*members] == sorted(members) for members in made)


# What several families say


@pytest.mark.parametrize(
    ("readings", "some", "every", "any_one"),
    [
        ({SHOWS}, SHOWS, SHOWS, SHOWS),
        ({FAILS}, FAILS, FAILS, FAILS),
        ({UNDECIDED}, UNDECIDED, UNDECIDED, UNDECIDED),
        ({SHOWS, FAILS}, UNDECIDED, FAILS, SHOWS),
        ({SHOWS, UNDECIDED}, SHOWS, UNDECIDED, SHOWS),
        ({FAILS, UNDECIDED}, FAILS, FAILS, UNDECIDED),
        ({SHOWS, FAILS, UNDECIDED}, UNDECIDED, FAILS, SHOWS),
    ],
)
def test_what_families_say_together(readings, some, every, any_one):
    assert somewhere(readings) == some
    assert everywhere(readings) == every
    assert anywhere(readings) == any_one


def test_every_seed_has_to_lie_above_every_seed():
    numbers = (1.0, 2.0, 3.0)
    pairs = [*itertools.product(numbers, repeat=2)]
    for one, other in itertools.product(pairs, repeat=2):
        above = all(a > b for a in one for b in other)
        found = lies_above(dict(enumerate(one)), dict(enumerate(other)))
        assert found == above


# Claims


def best(reading, setting="bits", over=None, among=lambda row: True, words="it is"):
    """A claim of which every family says the same."""
    return Claim(words, setting, lambda family: reading, among, over)


def by_bits(readings, over):
    """A claim of which rows say something by their clip."""
    said = {f"clip {clip}": reading for clip, reading in readings.items()}
    judge = lambda family: next(said[word] for word in family.shared if word in said)
    return Claim("it is", "bits", judge, lambda row: True, over)


def several(**others):
    """Rows of two bits and two clips, which are two families."""
    return [
        row(weights(Uniform(bits, clip=clip)), **others)
        for clip in (1.0, 10.0)
        for bits in (2, 4)
    ]


def test_each_family_has_an_answer_of_its_own():
    readings = {1: SHOWS, 10: (FAILS, "of this")}
    one, other = by_bits(readings, None)(several())
    assert one[:2] == ("weights, uniform, clip 1: it is", SHOWS)
    assert other[:2] == ("weights, uniform, clip 10: it is", FAILS)
    assert (one.why, other.why) == ("", "of this")
    assert [side["name"] for side in one.evidence] == ["2-bit", "4-bit"]


@pytest.mark.parametrize(
    ("over", "reading", "why"),
    [
        (somewhere, UNDECIDED, ""),
        (everywhere, FAILS, "of this"),
        (anywhere, SHOWS, "of that"),
    ],
)
def test_several_families_have_one_answer_if_that_is_claimed(over, reading, why):
    readings = {1: (SHOWS, "of that"), 10: (FAILS, "of this")}
    (one,) = by_bits(readings, over)(several())
    assert (one.words, one.reading, one.why) == ("it is", reading, why)
    names = [side["name"] for side in one.evidence]
    assert names == [f"clip {c}, {b}-bit" for c in (1, 10) for b in (2, 4)]


@pytest.mark.parametrize(
    ("wide", "over", "readings"),
    [
        (SHOWS, None, [SHOWS]),
        (SHOWS, everywhere, [SHOWS]),
        (None, everywhere, [UNDECIDED]),
    ],
)
def test_what_is_not_claimed_of_a_family_is_not_answered(wide, over, readings):
    found = [*by_bits({1: None, 10: wide}, over)(several())]
    assert [one.reading for one in found] == readings
    if over is None:
        assert found[0].words.startswith("weights, uniform, clip 10")


def test_rows_that_a_claim_is_not_among_are_not_asked():
    narrow = lambda row: row.config.weights[0][1].clip == 1.0
    (one,) = best(SHOWS, among=narrow)(several())
    assert len(one.evidence) == 2
    assert [*best(SHOWS, among=lambda row: False)(several())] == []
    assert [*best(SHOWS, over=somewhere)(several()[:1])] == []


def test_rows_without_a_control_are_decided_by_their_accuracies():
    orders = ("forward", "global")
    network = {"network": BinaryNetworkConfig()}
    made = [Config(**network, weights=(("conv", StoMPP(order=o)),)) for o in orders]
    (one,) = best(SHOWS, "order")([row(config, control=None) for config in made])
    assert one[:2] == ("BWN, Net: it is", SHOWS)
    assert one.evidence == [
        {"name": order, "values": [0.8, 0.9], "unit": "%", "ratio": None}
        for order in orders
    ]


def test_rows_that_words_do_not_tell_apart_are_evidence_all_the_same():
    """Families under two recipes, of which one has one seed."""
    slow, fast = (
        [
            row(weights(Uniform(bits), training=TrainingConfig(rate=rate)), accuracies)
            for bits in (2, 4)
        ]
        for rate, accuracies in ((0.1, (0.5,)), (0.3, (0.8, 0.9)))
    )
    for rows in (slow + fast, fast + slow):
        (one,) = best(SHOWS, over=somewhere)(rows)
        assert one.reading == UNDECIDED
        values = sorted(side["values"] for side in one.evidence)
        assert values == [[0.5], [0.5], [0.8, 0.9], [0.8, 0.9]]


# Evidence


def test_a_row_is_told_in_numbers():
    config = weights(Uniform(2))
    nothing = {"name": "", "values": [0.5], "unit": "%", "ratio": None}
    told = {"values": [0.5, 0.25], "ratio": pytest.approx(2.0), "control": "drift"}
    assert evidence("", row(config, (0.5, 0.25), 2.0)) == nothing | told
    points = evidence("this", row(config, (0.5,), control=None), "points")
    assert points == nothing | {"name": "this", "unit": "points"}
    still = Control("drift", 0.0, 0.0, 0.0)
    assert evidence("", row(config, (0.5,), control=still))["ratio"] is None
    gone = evidence("", row(config, (-math.inf, 0.5)))
    assert (gone["values"], gone["ratio"]) == ([None, 0.5], None)


NUMBERS = st.lists(
    st.one_of(st.floats(0, 1), st.just(-math.inf)), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.sampled_from((SHOWS, FAILS, UNDECIDED)),
    st.sampled_from((None, DRIFT, Control("floor", 0.01, 0.01, 0.01))),
)
def test_answers_are_plain_data_and_open_where_one_measurement_decides(
    accuracies, reading, control
):
    rows = [
        dataclasses.replace(row(each.config, values), control=control)
        for each, values in zip(several(), accuracies, strict=True)
    ]
    made = answer("it is", reading, "so", families(rows, "bits"))
    kept = json.loads(json.dumps(made._asdict(), allow_nan=False))
    assert kept == made._asdict()
    why = "so"  # What is open by itself keeps its reason.
    if reading != UNDECIDED and control:
        if any(len(values) == 1 for values in accuracies):
            reading, why = UNDECIDED, "one seed decides nothing"
        elif control.word == "floor":
            reading, why = UNDECIDED, "a floor that was measured once decides nothing"
    assert made[:2] == ("it is", reading)
    assert made.why == why


# Studies


def spiking(rows, seeds=2):
    """A study whose quantized rows have exactly these EMDs over the drift."""
    return studies.exactly([(name, 0, ratio) for name, ratio in rows], seeds=seeds)


TWO, FOUR = "weights-uniform-clip1-2bit", "weights-uniform-clip1-4bit"
NEAR = [(TWO, 1.0), (FOUR, 1.0)]


def test_what_shows_stands_first_and_what_is_open_last():
    readings = (UNDECIDED, FAILS, SHOWS, FAILS, SHOWS)
    claims = [
        best(reading, over=somewhere, words=f"claim {number}")
        for number, reading in enumerate(readings)
    ]
    made = hold(read(spiking(NEAR)), claims)
    assert [each.words for each in made] == [f"claim {n}" for n in (2, 4, 1, 3, 0)]


def started(start):
    """Rows at 1 times the drift, and the same from another start at 3 times it."""
    results = spiking(NEAR)
    for each in spiking([(TWO, 3.0), (FOUR, 3.0)])["rows"]:
        if each["kind"] == "quantized":
            studies.restart(each, start)
            each["name"] += "-again"
            results["rows"].append(each)
    return read(results)


def test_starts_are_held_apart():
    near = lambda family: (
        SHOWS if all(each.keeps_firing() for each in family.rows.values()) else FAILS
    )
    claim = Claim("near", "bits", near, lambda row: True, everywhere)
    assert [each[:2] for each in hold(started("scratch"), [claim])] == [
        ("near, from checkpoint", SHOWS),
        ("near, from scratch", FAILS),
    ]
    for each in hold(started("scratch"), [claim]):
        assert [side["name"] for side in each.evidence] == ["2-bit", "4-bit"]
    # Without training there is no control, and nothing to hold against it.
    (one,) = hold(started("post-training"), [claim])
    assert one[:2] == ("near", SHOWS)


def test_claims_may_be_any_function_of_the_rows_of_a_start():
    seen = []

    def claim(rows):
        seen.append([each.config.start for each in rows])
        yield answer("any", SHOWS, "", families(rows, "bits"))

    made = hold(started("scratch"), [claim])
    assert sorted(seen) == [["checkpoint"] * 2, ["scratch"] * 2]
    assert len(made) == 2


def test_a_study_of_nothing_has_no_answers():
    assert hold(read(spiking([])), [best(SHOWS, over=somewhere)]) == []
    assert hold(read(spiking(NEAR)), []) == []


def test_a_row_that_diverged_with_every_seed_is_held_by_its_config():
    results = spiking([(TWO, 1.0)])
    config = to_dict(studies.SPIKING[FOUR])
    results["diverged"] = [
        {"name": "gone", "seed": seed, "config": config} for seed in (0, 1)
    ]
    (one,) = hold(read(results), [best(FAILS, over=somewhere)])
    assert one.reading == FAILS
    two, four = one.evidence
    assert (two["name"], two["ratio"]) == ("2-bit", pytest.approx(1.0))
    nothing = {"values": [None, None], "unit": "%", "ratio": None}
    assert four == {"name": "4-bit", **nothing}
    json.dumps(one._asdict(), allow_nan=False)
