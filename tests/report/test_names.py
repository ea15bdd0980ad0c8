"""What the names of rows say, and how networks are told apart."""

import pytest

from jsnnq import binary
from jsnnq.config import TrainingConfig
from jsnnq.report import names

R18 = {"name": "resnet18", "width": 1.0}


@pytest.mark.parametrize(
    ("name", "network", "label"),
    [
        ("bnn-stompp-r18", "resnet18", ("bnn", "stompp", "", "r18")),
        ("bwn-stompp+ste-r50", "resnet50", ("bwn", "stompp+ste", "", "r50")),
        (
            "bnn-stompp-cubic-r100-r18",
            "resnet18",
            ("bnn", "stompp", "cubic r100", "r18"),
        ),
        ("bnn-ste-lr0.05-r18", "resnet18", ("bnn", "ste", "lr0.05", "r18")),
        ("bnn-ste-r18-wide", "resnet18", ("bnn", "ste", "wide", "r18")),
        (
            "bnn-ste-depthwise-mobilenetv2",
            "mobilenetv2",
            ("bnn", "ste", "depthwise", "mobilenetv2"),
        ),
        # An experiment in small keeps its names and not its networks.
        (
            "bnn-reverse-r50",
            "resnet_tiny",
            ("bnn", "reverse", "", "r50 (resnet_tiny)"),
        ),
        ("bnn-ste-identity-r18", "resnet18", ("bnn", "ste-identity", "", "r18")),
        ("adam", "resnet18", ("", "adam", "", "r18")),
        ("bnn", "resnet18", ("", "bnn", "", "r18")),
        ("", "resnet18", ("", "", "", "r18")),
    ],
)
def test_names_of_binary_networks(name, network, label):
    found = names.read(name, "quantized", {"name": network})
    assert (found.place, found.method, found.detail, found.network) == label
    assert (found.clip, found.bits) == ("", None)


def test_float_networks_have_neither_place_nor_method():
    found = names.read("float-clip-r18", "float", R18)
    assert found == ("", "float", "clip", "", None, "r18")


def test_spiking_names_are_read_as_before():
    network = {"name": "sew_resnet8", "neuron": {}}
    found = names.read("weights-stompp+ste", "quantized", network)
    assert found[:3] == ("weights", "stompp+ste", "")
    found = names.read("weights-lqnet-2bit-finetuned", "quantized", network)
    assert found == ("weights", "lqnet", "finetuned", "", 2, "sew_resnet8")
    found = names.read("bnn-ste-r18", "quantized", network)
    assert (found.place, found.method) == ("", "bnn")


def test_rows_of_the_experiments_are_understood():
    base = binary.network("resnet34", "digits", TrainingConfig())
    rows = binary.rows(base, bnn=binary.METHODS, bwn=binary.METHODS)
    labels = [names.read(n, row.kind, {"name": "resnet34"}) for n, row in rows.items()]
    found = {label[:3] for label in labels}
    expected = {(p, m, "") for p in names.BINARY_PLACES for m in names.STEPPED}
    assert found == expected | {("", "float", "")}
    assert {label.network for label in labels} == {"r34"}


@pytest.mark.parametrize(
    ("word", "printed", "depth"),
    [
        ("r18", "ResNet-18", 18),
        ("r50, width 0.25", "ResNet-50, width 0.25", 50),
        ("r50 (resnet_tiny)", "r50 (resnet_tiny)", 50),
        ("mobilenetv2", "MobileNetV2", None),
        ("sew_resnet8", "sew_resnet8", None),
    ],
)
def test_networks_are_printed_and_ordered_by_depth(word, printed, depth):
    assert names.network(word) == printed
    assert names.depth(word) == depth


def test_what_differs_tells_networks_apart_that_are_called_alike():
    narrow = {**R18, "width": 0.25}
    assert names.tell_apart("r18", R18, [R18, R18]) == "r18"
    assert names.tell_apart("r18", narrow, [R18, narrow]) == "r18, width 0.25"


def test_methods_and_places_in_words():
    said = [names.method(word) for word in (*names.STEPPED, "adam")]
    assert said[:4] == ["STE", "STE identity", "StoMPP", "StoMPP+STE"]
    assert said[4:] == ["StoMPP global", "StoMPP reverse", "adam"]
    assert [names.place(word) for word in ("bnn", "weights")] == ["BNN", "weights"]
