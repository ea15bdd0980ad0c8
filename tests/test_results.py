"""Rows grouped by experiment and read against their control."""

import pytest

from jsnnq import results
from jsnnq.errors import InputError

from .studies import DRIFT, KNOWN, ROWS, SMALL, find, small, study


def _readings(found):
    made = results.read(found)
    return {group.name: made.reading(group).words for group in made.groups}


def test_each_network_is_read_by_accuracy_and_by_its_control():
    assert _readings(small()[0]) == {
        "float": "–",
        "float-finetuned": "–",
        "weights-uniform-clip10-2bit": "keeps accuracy, changes behaviour",
        "weights-lqnet-clip10-2bit": "keeps accuracy and behaviour",
        "membrane-uniform-signed-2bit": "loses accuracy and changes behaviour",
        "membrane-lqnet-2bit": "loses accuracy, keeps behaviour",
    }


def test_exactly_one_point_is_kept_and_the_end_of_the_range_is_no_change():
    found, _, _ = study(KNOWN[:1], SMALL)
    name = KNOWN[0][0]
    row = find(found, name)
    row["accuracy"], row["emd"]["mean"] = 0.98, 0.0049
    assert _readings(found)[name] == "keeps accuracy and behaviour"
    row["accuracy"], row["emd"]["mean"] = 0.9799, 0.00491
    assert _readings(found)[name] == "loses accuracy and changes behaviour"


@pytest.mark.parametrize(
    ("start", "word", "ratio"),
    [("checkpoint", "drift", 4.0), ("scratch", "floor", 2.0), ("post-training", "", 0)],
)
def test_a_row_is_held_against_the_control_of_its_start(start, word, ratio):
    found, _, _ = study(KNOWN[:1], SMALL)
    found["drift"]["mean"], found["floor"]["mean"] = 0.005, 0.01
    row = find(found, KNOWN[0][0])
    row["start"], row["emd"]["mean"] = start, 0.02
    made = results.read(found)
    (group,) = made.quantized
    control = made.control(group.start)
    if not word:
        assert control is None
        assert made.ratio(group) is None
        assert made.reading(group).words == "not judged, without a control"
    else:
        assert control.word == word
        assert made.ratio(group) == pytest.approx(ratio)


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
    rows[0]["start"] = "scratch"
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


@pytest.mark.parametrize(
    ("name", "family", "setting"),
    [
        ("weights-uniform-clip10-2bit", "weights, uniform", "2-bit, clip 10"),
        ("membrane-uniform-signed-4bit", "membrane, uniform", "4-bit, signed"),
        ("both-lqnet-8bits", "both, LQ-Net", "8-bit"),
        ("mint", "MINT", "mint"),
        ("weights-snntorch-a-b-clip0.5", "weights, snnTorch", "a b, clip 0.5"),
        ("something new", "something new", "something new"),
        ("", "", ""),
    ],
)
def test_a_name_says_what_is_quantized_and_how(name, family, setting):
    found, _, _ = study(ROWS[:1], SMALL)
    find(found, ROWS[0][0])["name"] = name
    (group,) = results.read(found).quantized
    assert (group.family, group.setting) == (family, setting)


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
        (results.amount(1_234_567.0), "1.23M"),
        (results.amount(999_999.0), "1.00M"),
        (results.amount(999.4), "999"),
        (results.amount(0.01234), "0.0123"),
        (results.kib(8192 * 1500), "1,500.0"),
        (results.times(9.949), "9.9×"),
        (results.times(9.95), "10×"),
        (results.percent(0.98765), "98.8"),
        (results.distance(0.00449), "0.0045"),
    ],
)
def test_numbers_are_printed_with_the_digits_that_matter(printed, expected):
    assert printed == expected


@pytest.mark.parametrize("given", [{"schema": 2, "rows": []}, {}])
def test_another_schema_is_refused(given):
    with pytest.raises(InputError, match="results of schema .* reads schema 1: make"):
        results.read(given)
