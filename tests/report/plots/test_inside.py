"""The picture of the inside shows the numbers that were seen, and the blockade."""

import copy

import numpy as np
import pytest
from matplotlib.colors import to_hex

from jsnnq.config import Run, StoMPP
from jsnnq.report.plots import inside
from jsnnq.report.results import read
from tests.studies import SIGNS, binary, binary_study, looks, signs

ROWS = ("accuracy", "frozen", "gradient", "zero", "flipped")


def drawn(seen, rows=("bnn-stompp-r18", "bnn-reverse-r18")):
    """The axes of the picture by row and column."""
    made = read(binary(dict.fromkeys(rows, [0.5, 0.6])), looks=seen)
    (kind,) = inside.kinds(made)
    groups = inside.looked(made, *kind)
    figure = inside.draw(made, groups)
    grid = np.array(figure.axes[: 5 * len(groups)]).reshape(5, len(groups))
    return dict(zip(ROWS, grid, strict=True)), figure


@pytest.fixture
def seen():
    return {
        Run("bnn-stompp-r18", 1): looks(),
        Run("bnn-reverse-r18", 0): looks((3, 2, 1, 0), blocked=True),
    }


def values(axes, mesh=0):
    return np.ma.filled(axes.collections[mesh].get_array().astype(float), np.nan)


def colours(axes):
    """What is seen of each cell of the gradients, as colours."""
    meshes = [m for m in axes.collections if hasattr(m, "get_coordinates")]
    grids = [values(axes, axes.collections.index(mesh)) for mesh in meshes]
    found = np.full(grids[0].shape, "", object)
    for mesh, grid in zip(meshes, grids, strict=True):
        for cell in zip(*np.nonzero(np.isfinite(grid)), strict=True):
            assert found[cell] == ""  # no cell is drawn twice
            found[cell] = to_hex(mesh.cmap(mesh.norm(grid[cell])))
    return found


def test_columns_are_methods_and_the_first_seed_that_was_looked_into(seen):
    grid, _ = drawn(seen)
    titles = [axes.get_title() for axes in grid["accuracy"]]
    assert titles == ["StoMPP", "StoMPP reverse"]


def test_the_shares_are_those_that_were_seen(seen):
    grid, _ = drawn(seen)
    known = seen[Run("bnn-stompp-r18", 1)]["looks"]
    for part in ("frozen", "zero", "flipped"):
        expected = [[look["layers"][path][part] for look in known] for path in SIGNS]
        np.testing.assert_allclose(values(grid[part][0]), expected)
    present, binary_now = grid["accuracy"][0].lines[:2]
    assert list(present.get_ydata()) == [100 * look["present"] for look in known]
    assert list(binary_now.get_ydata()) == [100 * look["binary"] for look in known]
    assert list(present.get_xdata()) == list(range(9))


def test_zero_gradients_have_colours_of_their_own(seen):
    grid, _ = drawn(seen)
    forward, reverse = (colours(axes) for axes in grid["gradient"])
    # Forward: layer k is frozen and done from step 2 (k + 1); the rest learns.
    for k in range(4):
        assert set(forward[k, 2 * (k + 1) :]) == {"#000000"}
        assert not {"#000000", "#e3120b"} & set(forward[k, : 2 * (k + 1)])
    # Reverse: from step 2 the last layer is frozen and cuts off all the others.
    assert set(reverse[3, 2:]) == {"#000000"}
    for k in range(3):
        closed = 2 * (4 - k)
        assert set(reverse[k, 2:closed]) == {"#e3120b"}
        assert set(reverse[k, closed:]) == {"#000000"}
        assert not {"#000000", "#e3120b"} & set(reverse[k, :2])


def test_gradients_of_all_methods_share_one_scale(seen):
    grid, _ = drawn(seen)
    norms = {axes.collections[0].norm for axes in grid["gradient"]}
    assert len(norms) == 1


def test_one_exploding_gradient_does_not_hide_the_others(seen):
    many = copy.deepcopy(seen)
    look = many[Run("bnn-stompp-r18", 1)]["looks"][0]
    look["layers"][SIGNS[0]]["gradient"] = 1e30
    norm = drawn(many)[0]["gradient"][0].collections[0].norm
    assert norm.vmax < 100


def test_windows_are_marked_in_their_layer(seen):
    grid, _ = drawn(seen)
    for column, order in enumerate(((0, 1, 2, 3), (3, 2, 1, 0))):
        lines = grid["frozen"][column].collections[1:]
        marks = [segment for line in lines for segment in line.get_segments()]
        found = {(line[0][0], round(line.mean(axis=0)[1])) for line in marks}
        starts = {(2.0 * order.index(k), k) for k in range(4)}
        ends = {(start + 2.0, k) for start, k in starts}
        assert found == starts | ends


def test_what_was_never_frozen_has_no_windows_and_its_layers_by_path():
    known = looks(layers=("head/conv1", "layer10_0/conv1", "layer2_0/conv1", "conv1"))
    known["windows"] = {}
    grid, _ = drawn({Run("bnn-ste-r18", 0): known}, ["bnn-ste-r18"])
    frozen = values(grid["frozen"][0])
    # As made: head first. As drawn: conv1, layer2_0, layer10_0, head.
    as_made = [
        [look["layers"][p]["frozen"] for look in known["looks"]]
        for p in ("conv1", "layer2_0/conv1", "layer10_0/conv1", "head/conv1")
    ]
    np.testing.assert_allclose(frozen, as_made)
    assert len(grid["frozen"][0].collections) == 1


def test_one_look_is_a_picture_too():
    known = looks()
    known["looks"] = known["looks"][:1]
    drawn({Run("bnn-stompp-r18", 0): known}, ["bnn-stompp-r18"])


def test_a_run_without_looks_is_left_out():
    seen = {Run("bnn-ste-r18", 0): {"windows": {}, "looks": []}}
    assert inside.kinds(read(binary(), looks=seen)) == []
    assert inside.kinds(read(binary())) == []


def test_places_and_networks_have_pictures_of_their_own():
    results, _, seen = binary_study()
    made = read(results, looks=seen)
    assert inside.kinds(made) == [("BNN", "ResNet-18"), ("BWN", "ResNet-18")]
    names = [group.name for group in inside.looked(made, "BWN", "ResNet-18")]
    assert names == ["bwn-stompp-r18", "bwn-reverse-r18"]


def test_of_too_many_methods_the_plainest_are_shown():
    settings = [{"refresh": refresh} for refresh in (100, 10, 20, 30, 40)]
    settings += [{"refresh": refresh, "law": "full"} for refresh in (50, 60)]
    rows = [f"bnn-stompp-{number}-r18" for number in range(7)] + ["bnn-global-r18"]
    configs = {row: signs(StoMPP(**x)) for row, x in zip(rows, settings, strict=False)}
    seen = {Run(name, 0): looks() for name in rows}
    made = read(binary(dict.fromkeys(rows, [0.5]), configs=configs), looks=seen)
    shown = [group.name for group in inside.looked(made, "BNN", "ResNet-18")]
    assert shown == [*rows[:5], "bnn-global-r18"]


def test_columns_say_what_was_set_otherwise():
    rows = ["bnn-stompp-r18", "bnn-stompp-soon-r18", "bnn-stompp-adam-r18"]
    configs = {rows[1]: signs(StoMPP(schedule="linear"))}
    configs[rows[2]] = {"training.rate": 0.01}
    seen = {Run(name, 0): looks() for name in rows}
    made = read(binary(dict.fromkeys(rows, [0.5]), configs=configs), looks=seen)
    figure = inside.draw(made, inside.looked(made, "BNN", "ResNet-18"))
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "StoMPP\nrate 0.1",
        "StoMPP\nrate 0.01",
        "StoMPP\nschedule linear\nrate 0.1",
    ]
