"""What the papers claim, on studies in which it shows, does not, or is open."""

import pytest

from jsnnq.report import freezing
from jsnnq.report.results import read
from tests.studies import KNOWN_BINARY, binary


def held(accuracies, **options):
    """What is said of each claim: by its words the reading and the reason."""
    found = freezing.hold(read(binary(accuracies, **options)))
    return {claim.words: (claim.reading.words, claim.because) for claim in found}


def order(forward, other_global, reverse, place="bnn"):
    rows = {"stompp": forward, "global": other_global, "reverse": reverse}
    rows = {f"{place}-{m}-r18": values for m, values in rows.items() if values}
    claim = {
        "bnn": "BNN, ResNet-18: forward > global > reverse",
        "bwn": "BWN, ResNet-18: the order does not matter",
    }
    return held(rows)[claim[place]]


SHOWS, FAILS, OPEN = "shows", "does not show", "cannot be decided here"


def test_an_order_shows_if_every_seed_lies_above_every_seed():
    assert order([0.7, 0.8], [0.5, 0.6], [0.2, 0.4]) == (
        SHOWS,
        "forward 75.0 % (70.0 to 80.0), global 55.0 % (50.0 to 60.0), "
        "reverse 30.0 % (20.0 to 40.0)",
    )


@pytest.mark.parametrize(
    ("rows", "reading", "end"),
    [
        (
            ([0.5, 0.6], [0.7, 0.8], [0.1, 0.2]),
            FAILS,
            "global lies above forward",
        ),
        (
            ([0.5, 0.6], [0.59, 0.7], [0.1, 0.2]),
            OPEN,
            "the seeds of forward and global overlap",
        ),
        (([0.7, 0.8], [0.6], [0.2, 0.4]), OPEN, "one seed decides nothing"),
        (([0.7], [0.6], [0.2]), OPEN, "one seed decides nothing"),
        (
            ([0.7, 0.8], [], [0.2, 0.4]),
            OPEN,
            "rows of global order are missing under this recipe; what there is stands "
            "in this order",
        ),
        (
            ([0.3, 0.4], [], [0.5, 0.6]),
            FAILS,
            "reverse lies above forward",
        ),
        (
            ([], [0.5, 0.6], []),
            OPEN,
            "rows of forward and reverse order are missing under this recipe",
        ),
    ],
)
def test_an_order_that_fails_or_is_open_says_why(rows, reading, end):
    found, because = order(*rows)
    assert found == reading
    assert because.endswith(f": {end}")


def test_nothing_is_said_of_rows_that_are_not_there():
    assert held({"bnn-stompp-r18": [0.5, 0.6], "bnn-stompp-r50": [0.5, 0.6]}) == {}


def test_an_order_of_three_fails_where_the_ends_are_exchanged():
    """Forward overlaps with global, global with reverse, and yet reverse leads."""
    found, because = order([0.50, 0.52], [0.51, 0.56], [0.53, 0.55])
    assert found == FAILS
    assert because.endswith(": reverse lies above forward")


@pytest.mark.parametrize(
    ("forward", "reverse", "reading", "end"),
    [
        (
            [0.900, 0.905],
            [0.895, 0.900],
            SHOWS,
            "means at most 0.5 points apart, all seeds within one",
        ),
        (
            [0.90, 0.90],
            [0.89, 0.89],
            SHOWS,
            "means at most 1.0 points apart, all seeds within one",
        ),
        (
            [0.90, 0.92],
            [0.89, 0.91],
            OPEN,
            "means 1.0 points apart, and seeds, which overlap, span 3.0 points",
        ),
        (
            [0.90, 0.95],
            [0.905, 0.945],
            OPEN,
            "means 0.0 points apart, and seeds, which overlap, span 5.0 points",
        ),
        (
            [0.904, 0.910],
            [0.898, 0.903],
            OPEN,
            "0.6 points apart; every seed of forward lies above those of reverse, by "
            "less than one",
        ),
        (
            [0.90, 0.91],
            [0.86, 0.87],
            FAILS,
            "forward and reverse lie 4.0 points apart",
        ),
        (
            [0.80, 0.90],
            [0.76, 0.82],
            OPEN,
            "means 6.0 points apart, and seeds, which overlap, span 14.0 points",
        ),
        ([0.90], [0.90], OPEN, "one seed decides nothing"),
    ],
)
def test_that_order_does_not_matter(forward, reverse, reading, end):
    found, because = order(forward, [], reverse, "bwn")
    assert found == reading
    assert because.endswith(f": {end}")


DEEP = {
    "bnn-ste-r18": [0.60, 0.61],
    "bnn-stompp-r18": [0.63, 0.64],
    "bnn-ste-r50": [0.40, 0.41],
    "bnn-stompp-r50": [0.55, 0.57],
}
DEPTH = "BNN: the gain of StoMPP on STE grows with depth"


def test_a_gain_that_grows_with_depth():
    # All pairs of seeds: 63-61 to 64-60, and 55-41 to 57-40.
    told = "ResNet-50 +15.5 points (+14.0 to +17.0), "
    told += "ResNet-18 +3.0 points (+2.0 to +4.0)"
    assert held(DEEP)[DEPTH] == (SHOWS, told)


def test_a_gain_that_shrinks_with_depth_and_one_that_overlaps():
    reading, because = held(DEEP | {"bnn-stompp-r50": [0.40, 0.41]})[DEPTH]
    assert reading == FAILS
    assert because.endswith(": ResNet-18 lies above ResNet-50")
    reading, because = held(DEEP | {"bnn-stompp-r50": [0.43, 0.45]})[DEPTH]
    assert reading == OPEN
    assert because.endswith(": the seeds of ResNet-50 and ResNet-18 overlap")


def test_one_seed_or_one_depth_decides_nothing_about_depth():
    single = {name: values[:1] for name, values in DEEP.items()}
    reading, because = held(single)[DEPTH]
    assert reading == OPEN
    assert because.endswith("one seed decides nothing")
    shallow = {name: v for name, v in DEEP.items() if "r18" in name}
    assert DEPTH not in held(shallow)


def test_stompp_beside_the_estimator():
    rows = {**KNOWN_BINARY, "bnn-stompp-r50": [0.5, 0.6]}
    found = held(rows)
    assert found["BNN, ResNet-18: StoMPP > STE"] == (
        SHOWS,
        "StoMPP 66.0 % (65.0 to 67.0), STE 61.0 % (60.0 to 62.0)",
    )
    assert found["BNN, ResNet-18: StoMPP+STE > StoMPP and STE"][0] == SHOWS
    assert not any("ResNet-50" in words for words in found)
    reading, because = held(rows | {"bnn-stompp+ste-r18": [0.66, 0.72]})[
        "BNN, ResNet-18: StoMPP+STE > StoMPP and STE"
    ]
    assert reading == OPEN
    assert because.endswith(": the seeds of StoMPP+STE and StoMPP overlap")
    reading, because = held(rows | {"bnn-stompp+ste-r18": [0.50, 0.59]})[
        "BNN, ResNet-18: StoMPP+STE > StoMPP and STE"
    ]
    assert reading == FAILS
    assert because.endswith("lies above StoMPP+STE")


def test_recipes_are_told_apart():
    rows = {
        "bnn-ste-lr0.05-r18": [0.38, 0.39],
        "bnn-stompp-lr0.05-r18": [0.43, 0.44],
    }
    assert list(held(rows)) == ["BNN, ResNet-18, lr0.05: StoMPP > STE"]


def masks(**settings):
    rule = {"method": "stompp", "order": "forward", "schedule": "cubic", "refresh": 100}
    rule |= settings
    return {"weights": [["conv", rule]], "activations": [["act", rule]]}


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
    assert {words: reading for words, (reading, _) in found.items()} == {
        "BNN, ResNet-18: the schedule does not matter": SHOWS,
        "BNN, ResNet-18: the refresh of masks does not matter": FAILS,
        "BNN, ResNet-18, global: the schedule does not matter": SHOWS,
    }
    assert found["BNN, ResNet-18: the schedule does not matter"][1].startswith(
        "cubic 50.6 % (50.4 to 50.8), linear 50.2 % (50.0 to 50.5)"
    )


def test_what_differs_besides_depth_is_said():
    configs = {name: {"network.width": 0.125} for name in DEEP if "r50" in name}
    _, because = held(DEEP, configs=configs)[DEPTH]
    assert because.endswith("; they differ in width too")


def test_rows_of_another_recipe_are_not_compared():
    configs = {"bnn-global-r18": {"training.rate": 0.01}}
    _, because = held(KNOWN_BINARY, configs=configs)[
        "BNN, ResNet-18: forward > global > reverse"
    ]
    assert "rows of global order are missing under this recipe" in because
    study = read(binary(configs={"bnn-ste-r18": {"training.rate": 0.01}}))
    assert "points" not in freezing.finding(study)


# The finding


def test_the_finding_counts_points_on_the_estimator():
    # Means: 61, 66, 71 and 92.5; forward lies above STE with every seed.
    assert freezing.finding(read(binary())) == (
        "BNN, ResNet-18 (2 seeds): StoMPP 66.0 %, 5.0 points above STE (61.0 %); "
        "StoMPP+STE 71.0 %, 10.0 points above STE (61.0 %); full precision 92.5 %."
    )


def test_the_finding_says_below_and_overlap():
    rows = {"bnn-ste-r18": [0.50, 0.60], "bnn-stompp-r18": [0.48, 0.55, 0.59]}
    assert freezing.finding(read(binary(rows))) == (
        "BNN, ResNet-18 (3 seeds): StoMPP 54.0 %, 1.0 points below STE (55.0 %), "
        "though their seeds overlap."
    )
    single = {name: values[:1] for name, values in rows.items()}
    assert "overlap" not in freezing.finding(read(binary(single)))


def test_every_network_has_its_sentence_the_shallow_first():
    rows = dict(reversed(DEEP.items())) | {"bnn-ste-mobilenetv2": [0.5]}
    found = freezing.finding(read(binary(rows)))
    places = [found.index(n) for n in ("ResNet-18", "ResNet-50", "MobileNetV2")]
    assert places == sorted(places)
    assert found.endswith("BNN, MobileNetV2 (1 seed): STE 50.0 %.")


def test_binary_weights_are_the_finding_where_there_is_nothing_else():
    rows = {name: v for name, v in KNOWN_BINARY.items() if not name.startswith("bnn")}
    found = freezing.finding(read(binary(rows)))
    assert found.startswith("BWN, ResNet-18 (2 seeds): StoMPP 90.5 %, 2.0 points above")


def test_details_with_an_estimator_of_their_own_are_told_apart():
    rows = {
        "bnn-ste-lr0.1-r18": [0.5],
        "bnn-stompp-lr0.1-r18": [0.6],
        "bnn-ste-adam-r18": [0.7],
        "bnn-stompp-adam-r18": [0.72],
    }
    configs = {name: {"training.optimizer": "adam"} for name in rows if "adam" in name}
    found = freezing.finding(read(binary(rows, configs=configs)))
    assert "adam (1 seed): StoMPP 72.0 %, 2.0 points above STE (70.0 %)." in found
    assert "lr0.1 (1 seed): StoMPP 60.0 %, 10.0 points above STE (50.0 %)." in found


def test_other_estimators_are_no_finding_where_there_is_stompp():
    rows = {"bnn-ste-identity-r18": [0.4], **KNOWN_BINARY}
    assert freezing.finding(read(binary(rows))) == freezing.finding(read(binary()))
    alone = {"bnn-ste-r18": [0.6], "bnn-ste-identity-r18": [0.4]}
    assert freezing.finding(read(binary(alone))) == (
        "BNN, ResNet-18 (1 seed): STE 60.0 %; STE identity 40.0 %, 20.0 points below "
        "STE (60.0 %)."
    )


def test_variants_without_an_estimator_are_summed_up():
    rows = {
        "bnn-stompp-linear-r10-r18": [0.5],
        "bnn-stompp-cubic-r18": [0.6],
        "bnn-stompp-cosine-r18": [0.4],
    }
    assert freezing.finding(read(binary(rows))) == (
        "BNN, ResNet-18 (1 seed): 3 variants lie between 40.0 % "
        "(bnn-stompp-cosine-r18) and 60.0 % (bnn-stompp-cubic-r18)."
    )


@pytest.mark.parametrize("rows", [{"float-r18": [0.9]}, {"bnn-ste-r18": [None]}])
def test_without_a_finished_binary_network_there_is_no_finding(rows):
    found = freezing.finding(read(binary(rows)))
    assert found == "No verdict: no binary network is finished."
