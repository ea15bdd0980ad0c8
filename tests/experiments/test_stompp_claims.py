"""What the papers claim, on studies in which it shows, does not, or is open."""

import pytest

from experiments.stompp.claims import CLAIMS
from jsnnq.report.comparisons import FAILS, SHOWS, hold
from jsnnq.report.comparisons import UNDECIDED as OPEN
from jsnnq.report.results import read
from tests.studies import DEEP, KNOWN_BINARY, binary, find

ALONE = "one seed decides nothing"
OVERLAP = "the seeds of {} and {} overlap".format


def answers(accuracies, diverged=(), **options):
    """What is said of all claims; those that diverged are (name, seed)."""
    results = binary(accuracies, **options)
    results["diverged"] = [
        {"name": name, "seed": seed, "config": find(results, name)["config"]}
        for name, seed in diverged
    ]
    results["rows"] = [
        row for row in results["rows"] if (row["name"], row["seed"]) not in diverged
    ]
    return hold(read(results), CLAIMS)


def held(*args, **options):
    """The same by what is claimed, each of which is said once."""
    found = answers(*args, **options)
    by_words = {answer.words: answer for answer in found}
    assert len(by_words) == len(found)
    return by_words


ORDER = {
    "bnn": "BNN, ResNet-18: forward > global > reverse",
    "bwn": "BWN, ResNet-18: the order does not matter",
}


def order(forward, other_global, reverse, place="bnn"):
    rows = {"stompp": forward, "global": other_global, "reverse": reverse}
    rows = {f"{place}-{m}-r18": values for m, values in rows.items() if values}
    return held(rows)[ORDER[place]]


MISSING = "orders other than forward and reverse are missing"


def sides(answer):
    """What it is decided by: percent, or points, of every seed."""
    return {
        side["name"]: [value and round(100 * value, 6) for value in side["values"]]
        for side in answer.evidence
    }


def test_an_order_shows_if_every_seed_lies_above_every_seed():
    found = order([0.7, 0.8], [0.5, 0.6], [0.2, 0.4])
    assert (found.reading, found.why) == (SHOWS, "")
    values = {"forward": [0.7, 0.8], "global": [0.5, 0.6], "reverse": [0.2, 0.4]}
    assert found.evidence == [
        {"name": name, "values": seeds, "unit": "%", "ratio": None}
        for name, seeds in values.items()
    ]


@pytest.mark.parametrize(
    ("rows", "reading", "why"),
    [
        (([0.5, 0.6], [0.7, 0.8], [0.1, 0.2]), FAILS, "global lies above forward"),
        (([0.5, 0.6], [0.59, 0.7], [0.1, 0.2]), OPEN, OVERLAP("forward", "global")),
        (([0.7, 0.8], [0.6], [0.2, 0.4]), OPEN, ALONE),
        (([0.7], [0.6], [0.2]), OPEN, ALONE),
        (([0.7, 0.8], [], [0.2, 0.4]), OPEN, MISSING),
        (([0.3, 0.4], [], [0.5, 0.6]), FAILS, "reverse lies above forward"),
        # Orders of which one has one seed, where others are exchanged.
        (([0.3, 0.4], [0.35], [0.5, 0.6]), FAILS, "reverse lies above forward"),
        # Forward overlaps with global, global with reverse, and yet reverse leads.
        (
            ([0.50, 0.52], [0.51, 0.56], [0.53, 0.55]),
            FAILS,
            "reverse lies above forward",
        ),
    ],
)
def test_an_order_that_fails_or_is_open_says_why(rows, reading, why):
    found = order(*rows)
    assert (found.reading, found.why) == (reading, why)


def test_nothing_is_said_of_rows_that_are_not_there():
    assert held({"bnn-stompp-r18": [0.5, 0.6], "bnn-stompp-r50": [0.5, 0.6]}) == {}


@pytest.mark.parametrize(
    ("forward", "reverse", "reading", "why"),
    [
        ([0.900, 0.905], [0.895, 0.900], SHOWS, ""),
        ([0.90, 0.90], [0.89, 0.89], SHOWS, ""),
        ([0.90, 0.92], [0.89, 0.91], OPEN, OVERLAP("forward", "reverse")),
        ([0.90, 0.95], [0.905, 0.946], OPEN, OVERLAP("reverse", "forward")),
        # Means that are equal do not make seeds agree.
        ([0.90, 0.95], [0.905, 0.945], OPEN, OVERLAP("reverse", "forward")),
        (
            [0.904, 0.910],
            [0.898, 0.903],
            OPEN,
            "forward lies above reverse by less than one point",
        ),
        ([0.90, 0.91], [0.86, 0.87], FAILS, "forward lies above reverse"),
        ([0.86, 0.87], [0.90, 0.91], FAILS, "reverse lies above forward"),
        ([0.80, 0.90], [0.76, 0.82], OPEN, OVERLAP("forward", "reverse")),
        ([0.90], [0.90], OPEN, ALONE),
    ],
)
def test_that_order_does_not_matter(forward, reverse, reading, why):
    found = order(forward, [], reverse, "bwn")
    assert (found.reading, found.why) == (reading, why)


DEPTH = "BNN: the gain of StoMPP on STE grows with depth"


def test_a_gain_that_grows_with_depth():
    found = held(DEEP)[DEPTH]
    assert (found.reading, found.why) == (SHOWS, "")
    # All pairs of seeds, the deepest network first.
    assert list(sides(found).items()) == [
        ("ResNet-50", [15, 14, 17, 16]),
        ("ResNet-18", [3, 2, 4, 3]),
    ]
    assert {side["unit"] for side in found.evidence} == {"points"}


SINGLE = {name: values[:1] for name, values in DEEP.items()}


@pytest.mark.parametrize(
    ("rows", "reading", "why"),
    [
        (
            DEEP | {"bnn-stompp-r50": [0.40, 0.41]},
            FAILS,
            "ResNet-18 lies above ResNet-50",
        ),
        (
            DEEP | {"bnn-stompp-r50": [0.43, 0.45]},
            OPEN,
            OVERLAP("ResNet-50", "ResNet-18"),
        ),
        (SINGLE, OPEN, ALONE),
        (DEEP | {"bnn-ste-r50": [0.40]}, OPEN, ALONE),  # as few of the estimator
    ],
    ids=["shrinks", "overlaps", "one seed", "one seed of the estimator"],
)
def test_a_gain_that_does_not_grow_with_depth_says_why(rows, reading, why):
    found = held(rows)[DEPTH]
    assert (found.reading, found.why) == (reading, why)


def test_one_depth_decides_nothing_about_depth():
    assert DEPTH not in held({name: v for name, v in DEEP.items() if "r18" in name})


def test_the_gain_of_both_together_is_a_claim_of_its_own():
    both = {name.replace("stompp", "stompp+ste"): v for name, v in DEEP.items()}
    assert list(held(both)) == [DEPTH.replace("StoMPP", "StoMPP+STE")]
    found = held(DEEP | both | {"bnn-stompp+ste-r50": [0.40, 0.41]})
    assert found[DEPTH].reading == SHOWS
    assert found[DEPTH.replace("StoMPP", "StoMPP+STE")].reading == FAILS


def test_networks_without_a_number_of_layers_have_no_depth():
    mobile = {name.replace("r50", "mobilenetv2"): v for name, v in DEEP.items()}
    assert DEPTH not in held(mobile)
    assert held(DEEP | mobile)[DEPTH].evidence == held(DEEP)[DEPTH].evidence


LEADS = "BNN, ResNet-18: StoMPP > STE"
BOTH_LEAD = "BNN, ResNet-18: StoMPP+STE > StoMPP and STE"


def test_stompp_beside_the_estimator():
    rows = {**KNOWN_BINARY, "bnn-stompp-r50": [0.5, 0.6]}
    found = held(rows)
    assert found[LEADS].reading == SHOWS
    assert sides(found[LEADS]) == {"STE": [60, 62], "StoMPP": [65, 67]}
    assert found[BOTH_LEAD].reading == SHOWS
    assert set(sides(found[BOTH_LEAD])) == {"STE", "StoMPP", "StoMPP+STE"}
    assert not any("ResNet-50" in words for words in found)
    split = held(rows | {"bnn-stompp+ste-r18": [0.66, 0.72]})[BOTH_LEAD]
    assert split.reading == OPEN
    assert split.why == OVERLAP("StoMPP+STE", "StoMPP")
    behind = held(rows | {"bnn-stompp+ste-r18": [0.50, 0.59]})[BOTH_LEAD]
    assert behind.reading == FAILS
    assert behind.why.endswith(" lies above StoMPP+STE")


def test_an_estimator_that_leads_is_said():
    found = held({"bnn-ste-r18": [0.7, 0.8], "bnn-stompp-r18": [0.5, 0.6]})[LEADS]
    assert (found.reading, found.why) == (FAILS, "STE lies above StoMPP")


def test_nothing_is_claimed_of_estimators_of_binary_weights():
    rows = {name: v for name, v in KNOWN_BINARY.items() if name.startswith("bwn")}
    assert list(held(rows)) == [ORDER["bwn"]]


def test_a_seed_that_diverged_lies_below_all_others():
    rows = {"bnn-ste-r18": [0.5, 0.6], "bnn-stompp-r18": [0.7, 0.8]}
    assert held(rows)[LEADS].reading == SHOWS
    once = held(rows, [("bnn-stompp-r18", 1)])[LEADS]
    assert (once.reading, once.why) == (OPEN, OVERLAP("StoMPP", "STE"))
    assert sides(once) == {"STE": [50, 60], "StoMPP": [None, 70]}
    twice = held(rows, [("bnn-stompp-r18", 0), ("bnn-stompp-r18", 1)])[LEADS]
    assert (twice.reading, twice.why) == (FAILS, "STE lies above StoMPP")


def test_recipes_are_told_apart():
    slow = {"bnn-ste-lr0.05-r18": [0.38, 0.39], "bnn-stompp-lr0.05-r18": [0.43, 0.44]}
    fast = {"bnn-ste-r18": [0.60, 0.62], "bnn-stompp-r18": [0.50, 0.52]}
    configs = {name: {"training.rate": 0.05} for name in slow}
    assert list(held(slow, configs=configs)) == [LEADS]
    found = answers(slow | fast, configs=configs)
    assert [(one.words, one.reading, sides(one)) for one in found] == [
        (LEADS, SHOWS, {"STE": [38, 39], "StoMPP": [43, 44]}),
        (LEADS, FAILS, {"STE": [60, 62], "StoMPP": [50, 52]}),
    ]


def masks(**settings):
    rule = {"method": "stompp", "order": "forward", "schedule": "cubic", "refresh": 100}
    rule |= settings
    return {"weights": [["conv", rule]], "activations": [["act", rule]]}


SCHEDULE = "BNN, ResNet-18, StoMPP: the schedule does not matter"


def test_what_is_said_not_to_matter_of_masks():
    configs = {
        "bnn-stompp-linear-r18": masks(schedule="linear"),
        "bnn-stompp-cubic-r18": masks(),
        "bnn-stompp-refresh10-r18": masks(refresh=10),
        "bnn-stompp-global-linear-r18": masks(order="global", schedule="linear"),
        "bnn-stompp-global-cubic-r18": masks(order="global"),
    }
    values = ([0.50, 0.505], [0.504, 0.508], [0.60, 0.61], [0.4, 0.41], [0.4, 0.404])
    found = held(dict(zip(configs, values, strict=True)), configs=configs)
    of_masks = {words: x.reading for words, x in found.items() if "matter" in words}
    assert of_masks == {
        SCHEDULE: SHOWS,
        "BNN, ResNet-18, StoMPP: the refresh of masks does not matter": FAILS,
        "BNN, ResNet-18, StoMPP global: the schedule does not matter": SHOWS,
    }
    assert list(sides(found[SCHEDULE]).items()) == [
        ("cubic", [50.4, 50.8]),
        ("linear", [50, 50.5]),
    ]


def test_orders_are_claimed_of_stompp_without_the_estimator():
    rows = dict.fromkeys(("bnn-stompp-r18", "bnn-reverse-r18"), [0.5, 0.6])
    for settings, claims in (({}, [ORDER["bnn"]]), ({"surrogate": "clipped"}, [])):
        made = [masks(**settings), masks(order="reverse", **settings)]
        configs = dict(zip(rows, made, strict=True))
        assert list(held(rows, configs=configs)) == claims


def test_what_differs_besides_depth_is_said():
    configs = {name: {"network.width": 0.125} for name in DEEP if "r50" in name}
    found = held(DEEP, configs=configs)[DEPTH]
    assert (found.reading, found.why) == (SHOWS, "they differ in width too")
    overlap = DEEP | {"bnn-stompp-r50": [0.43, 0.45]}
    found = held(overlap, configs=configs)[DEPTH]
    assert found.reading == OPEN
    assert found.why.endswith(" overlap; they differ in width too")


def test_rows_of_another_recipe_are_not_compared():
    configs = {"bnn-global-r18": {"training.rate": 0.01}}
    found = held(KNOWN_BINARY, configs=configs)[ORDER["bnn"]]
    assert (found.reading, found.why) == (OPEN, MISSING)
    configs = {"bnn-ste-r18": {"training.rate": 0.01}}
    assert list(held(KNOWN_BINARY, configs=configs)) == [ORDER["bnn"], ORDER["bwn"]]
