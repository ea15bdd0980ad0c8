"""Which pictures belong to a study, and what is said beside them."""

import dataclasses
import io

import matplotlib.image
import numpy as np
import pytest

from jsnnq.config import Run, StoMPP, from_dict, kernels, to_dict
from jsnnq.report.plots import gallery
from jsnnq.report.results import read
from tests.studies import binary, binary_study, looks, small


def files(made):
    return [picture.file for picture in gallery.draw(made)]


@pytest.fixture(scope="module")
def whole():
    results, curves, seen = binary_study()
    return gallery.draw(read(results, curves=curves, looks=seen))


def test_a_study_of_binary_networks_has_pictures_of_its_own(whole):
    assert [picture.file for picture in whole] == [
        "accuracy_methods.png",
        "inside_bnn_resnet-18.png",
        "inside_bwn_resnet-18.png",
        "curves.png",
        "cost.png",
    ]
    assert [picture.main for picture in whole] == [True, False, False, False, False]


def test_each_picture_is_drawn_for_light_and_dark_paper_and_says_how_to_read_it(whole):
    for picture in whole:
        light, dark = (
            matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]
            for png in (picture.light, picture.dark)
        )
        assert light.shape == dark.shape
        assert light.shape[1] == 1190  # 8.5 inches
        assert np.median(light) > 0.9 > 0.2 > np.median(dark[:5])
        assert len(picture.caption) > 20
    assert "BWN, ResNet-18" in whole[2].title
    assert "bwn-stompp-r18: 90.5 %, +2.0 points on STE" in whole[2].alt
    assert "blockade" in whole[1].caption


def test_what_was_not_looked_into_is_not_missing():
    made = read(binary())
    assert files(made) == ["accuracy_methods.png", "cost.png"]
    assert gallery.undrawn(made) == ["Training"]


def test_a_spiking_study_shows_the_inside_where_there_were_looks():
    results, _, _ = small()
    assert not any("inside" in file for file in files(read(results)))
    row = results["rows"][-1]
    rules = {"weights": kernels(StoMPP(scaled=True)), "membranes": ()}
    row["config"] = to_dict(dataclasses.replace(from_dict(row["config"]), **rules))
    made = read(results, looks={Run(row["name"], 0): looks()})
    assert "inside_weights_sew_resnet8.png" in files(made)
    assert "How the neurons fire" in gallery.undrawn(made)


def test_two_widths_of_a_network_have_files_of_their_own():
    rows = {"bnn-stompp-r18": [0.5], "bnn-stompp-wide-r18": [0.6]}
    configs = {"bnn-stompp-wide-r18": {"network.width": 2.0}}
    seen = {Run(name, 0): looks() for name in rows}
    made = read(binary(rows, configs=configs), looks=seen)
    assert files(made)[1:3] == [
        "inside_bnn_resnet-18-width-1.0.png",
        "inside_bnn_resnet-18-width-2.0.png",
    ]
