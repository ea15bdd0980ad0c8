"""Reports of made-up studies with known findings, read back from the files."""

import copy
import csv
import errno
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import rich.console

from jsnnq import report
from jsnnq.errors import InputError

LAYERS8 = (
    "stem",
    "stage0.block0.neuron0",
    "stage0.block0.neuron1",
    "stage1.block0.neuron0",
    "stage1.block0.neuron1",
    "stage1.block0.shortcut",
    "stage2.block0.neuron0",
    "stage2.block0.neuron1",
    "stage2.block0.shortcut",
)
# Name, accuracy lost in points, EMD over drift: papers.md 1.4 and the prototype on
# digits of issue 2, section 8.
ROWS = (
    ("weights-uniform-clip1-2bit", 0.5, 1.9),
    ("weights-uniform-clip1-4bit", 0.1, 0.9),
    ("weights-uniform-clip10-2bit", 23.6, 15.7),
    ("weights-uniform-clip10-4bit", 1.5, 2.8),
    ("weights-lqnet-clip1-2bit", 0.4, 1.05),
    ("weights-lqnet-clip1-4bit", -0.1, 0.92),
    ("weights-lqnet-clip10-2bit", 0.5, 1.08),
    ("weights-lqnet-clip10-4bit", -0.1, 0.95),
    ("membrane-uniform-signed-2bit", 8.1, 3.1),
    ("membrane-uniform-signed-4bit", 0.6, 1.4),
    ("membrane-uniform-unsigned-2bit", 3.3, 2.2),
    ("membrane-uniform-unsigned-4bit", 0.2, 1.0),
    ("membrane-lqnet-2bit", 0.8, 1.6),
    ("both-uniform-2bit", 9.5, 4.0),
    ("both-lqnet-2bit", 4.0, 2.5),
)
DRIFT = 0.0045
FLOOR = 0.010


def study(rows=ROWS, layers=LAYERS8, seeds=1, dataset="digits", seed=0):
    """results.json, firing and curves of a finished study on checkpoints."""
    rng = np.random.default_rng(seed)
    profile = rng.lognormal(0.0, 0.5, len(layers))
    profile /= profile.mean()
    float_counts = {layer: _counts(rng, 0.06) for layer in layers}

    def row(name, kind, start, seed, accuracy, ratio):
        layer_emds = ratio * DRIFT * profile * rng.lognormal(0, 0.2, len(layers))
        bits = int(name[-4]) if kind == "quantized" else 32
        rate = 0.062 * (1 + 0.02 * ratio * rng.normal())
        weight_bits = 32 if name.startswith("membrane") else bits
        state_bits = 32 if name.startswith("weights") else bits
        return {
            "name": name,
            "kind": kind,
            "start": start,
            "config": {"network": {"name": "sew_resnet8", "width": 0.25}, "bits": bits},
            "seed": seed,
            "accuracy": float(accuracy),
            "emd": None if ratio == 0 else distances(layers, layer_emds),
            "matched": None if ratio == 0 else distances(layers, 2.2 * layer_emds),
            "mean_rate": float(rate),
            "dead": float(0.66 + 0.01 * rng.normal()),
            "saturated": float(0.004 + 0.0005 * ratio),
            "cost": {
                "sparsity": 1 - float(rate),
                "acs": float(2.1e6 * rate / 0.062),
                "macs": 3.1e5,
                "dense": 2.4e7,
                "weight_bits": 78_000 * weight_bits + 12_000,
                "state_bits": 19_000 * state_bits,
                "events": float(9.4e3 * rate / 0.062),
                "events_per_layer": {layer: 9.4e3 / len(layers) for layer in layers},
                "policy": "neurobench",
            },
            "wall_s": 10.5,
        }

    made = [row("float", "float", "scratch", s, 0.989 + 0.002 * s, 0) for s in (0, 1)]
    made += [
        row("float-finetuned", "control", "checkpoint", s, 0.990, r)
        for s, r in ((0, 0.92), (1, 1.08))
    ]
    for name, lost, ratio in rows:
        for s in range(seeds):
            accuracy = 0.99 - lost / 100 + 0.001 * rng.normal()
            jitter = ratio * (1 + 0.03 * rng.normal())
            made.append(row(name, "quantized", "checkpoint", s, accuracy, jitter))
    results = {
        "schema": 1,
        "provenance": {
            "jax": "0.10.2",
            "device": "cpu",
            "commit": None,
            "command": "jsnnq study",
            "dataset": dataset,
        },
        "floor": distances(layers, FLOOR * profile),
        "drift": distances(layers, DRIFT * profile),
        "floor_range": {"mean": [0.0095, 0.0107]},
        "drift_range": {"mean": [0.0041, 0.0049]},
        "rows": made,
    }
    firing, curves = {}, {}
    for each in made:
        moved = each["emd"]["mean"] if each["emd"] else 0.0
        counts = float_counts
        if moved:
            counts = {
                layer: _moved(rng, float_counts[layer], each["emd"]["layers"][layer])
                for layer in layers
            }
        key = f"{each['name']}/seed{each['seed']}"
        firing[key] = {"counts": counts, "timesteps": 4, "images": 360}
        epochs = 15 if each["kind"] == "float" else 6
        curves[key] = _curve(rng, epochs, each["accuracy"])
    return results, firing, curves


def distances(layers, values):
    """The five views of an EMD, from those of the layers."""
    return {
        "mean": float(np.mean(values)),
        "weighted": float(0.9 * np.mean(values)),
        "max": float(np.max(values)),
        "pooled": float(0.7 * np.mean(values)),
        "layers": dict(zip(layers, map(float, values), strict=True)),
    }


def _counts(rng, rate):
    rates = np.clip(rng.gamma(0.25, rate / 0.25, (8, 8, 16)), 0, 1)
    return rng.binomial(4 * 360, rates)


def _moved(rng, counts, distance):
    shift = rng.gamma(0.5, 2 * distance * 4 * 360, counts.shape)
    return np.clip(counts + np.where(counts > 20, shift, 0), 0, 1440).astype(int)


def _curve(rng, epochs, accuracy):
    return [
        {
            "step": 12 * (epoch + 1),
            "epoch": epoch + 1,
            "loss": float((1.8 * 0.72**epoch + 0.02 * rng.random()) / accuracy**4),
            "accuracy": float(accuracy - 0.5 * 0.6**epoch),
            "images_per_s": 1500.0,
        }
        for epoch in range(epochs)
    ]


SMALL = ("first", "second", "third")
KNOWN = (  # the four readings, far from every border
    ("weights-uniform-clip10-2bit", 0.2, 2.0),
    ("weights-lqnet-clip10-2bit", 0.2, 0.8),
    ("membrane-uniform-signed-2bit", 8.0, 3.0),
    ("membrane-lqnet-2bit", 5.0, 0.8),
)


def small(**options):
    """A study that is drawn in a second."""
    return study(KNOWN, SMALL, **options)


def words(results, planned=()):
    """The Markdown report without plots."""
    return report._markdown(report._study(results, {}, {}, planned), [])


def find(results, name):
    return next(row for row in results["rows"] if row["name"] == name)


def cells(text, name):
    """The cells of a network in the Markdown table, by heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    return dict(zip(head, next(row for row in rows if row[0] == name), strict=True))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A whole study, written once: folder, what was returned, results."""
    results, firing, curves = study(ROWS[4:9], SMALL)
    out = tmp_path_factory.mktemp("study") / "new" / "folder"
    before = dict(matplotlib.rcParams)
    files = report.write(out, results, firing=firing, curves=curves)
    assert dict(matplotlib.rcParams) == before
    return out, files, results


def test_write_makes_every_file_and_leaves_nothing_else(written):
    out, files, _ = written
    plots = ("accuracy_emd", "emd_layers", "firing", "firing_layers", "curves", "cost")
    expected = {out / "results.csv", out / "report.md", out / "report.html"}
    expected |= {out / "plots" / f"{name}.png" for name in plots}
    assert set(files) == expected
    assert {path for path in out.rglob("*") if path.is_file()} == expected


def test_plots_are_pictures_of_some_size(written):
    out, _, _ = written
    for path in out.glob("plots/*.png"):
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[1] > 1000
        assert pixels[..., :3].std() > 0.05, path.name


def test_csv_has_one_line_per_row_with_nested_keys_dotted(written):
    out, _, results = written
    text = (out / "results.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == len(results["rows"]) == 9
    for line in lines:
        row = next(
            row
            for row in results["rows"]
            if row["name"] == line["name"] and row["seed"] == int(line["seed"])
        )
        assert float(line["accuracy"]) == row["accuracy"]
        assert float(line["cost.events_per_layer.first"]) == 9.4e3 / 3
        assert line["config.network.name"] == "sew_resnet8"
        assert line["dataset"] == "digits"
        if row["emd"]:
            assert float(line["emd.layers.first"]) == row["emd"]["layers"]["first"]
            ratio = row["emd"]["mean"] / results["drift"]["mean"]
            assert float(line["ratio"]) == pytest.approx(ratio, rel=1e-12)
            assert line["control"] == "drift"
        else:
            assert line["emd.mean"] == line["ratio"] == line["reading"] == ""


def test_each_network_is_read_by_accuracy_and_by_its_control():
    results, _, _ = small()
    readings = {line["name"]: line["reading"] for line in _csv_lines(results)}
    assert readings == {
        "float": "",
        "float-finetuned": "",
        "weights-uniform-clip10-2bit": "keeps accuracy, changes behaviour",
        "weights-lqnet-clip10-2bit": "keeps accuracy and behaviour",
        "membrane-uniform-signed-2bit": "loses accuracy and changes behaviour",
        "membrane-lqnet-2bit": "loses accuracy, keeps behaviour",
    }


def _csv_lines(results):
    text = report._csv(report._study(results, {}, {}, ()))
    return list(csv.DictReader(io.StringIO(text)))


def test_the_verdict_counts_and_names_the_silent_change():
    results, _, _ = small()
    row = find(results, "weights-uniform-clip10-2bit")
    row["accuracy"], row["emd"]["mean"] = 0.9876, 2.04 * DRIFT
    results["drift"]["mean"] = DRIFT
    text = words(results)
    assert (
        "In 1 of 4 quantized networks the accuracy stays within 1 point of the float "
        "network (99.0 %) while the firing moves further than fine-tuning without "
        "quantization moves it. The clearest case is weights-uniform-clip10-2bit "
        "(98.8 %, 2.0× drift)." in text
    )
    assert "moves its firing by an EMD of 0.0045 (0.0041 to 0.0049)." in text
    assert "a float network by 0.0100 (0.0095 to 0.0107)." in text


def test_the_verdict_says_when_nothing_changes_and_when_nothing_keeps():
    results, _, _ = study(KNOWN[1:2], SMALL)
    assert "In 1 of 1 quantized networks" in words(results)
    assert "none of these does the firing move further than fine-tu" in words(results)
    results, _, _ = study(KNOWN[2:], SMALL)
    assert "None of the 2 quantized networks stays within 1 point" in words(results)


def test_exactly_one_point_is_kept_and_the_end_of_the_range_is_no_change():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["accuracy"], row["emd"]["mean"] = 0.98, 0.0049
    assert _csv_lines(results)[-1]["reading"] == "keeps accuracy and behaviour"
    row["accuracy"], row["emd"]["mean"] = 0.9799, 0.00491
    assert _csv_lines(results)[-1]["reading"] == "loses accuracy and changes behaviour"


def test_rows_from_scratch_are_read_against_the_floor():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["start"], row["accuracy"], row["emd"]["mean"] = "scratch", 0.99, 0.0104
    results["floor"]["mean"] = 0.010
    found = cells(words(results), row["name"])
    assert found["Against"] == "1.0× floor"
    assert found["Reading"] == "keeps accuracy and behaviour"  # range to 0.0107
    row["emd"]["mean"] = 0.03
    assert "further than another seed moves it" in words(results)


def test_post_training_rows_have_no_control():
    results, _, _ = study(KNOWN[:2], SMALL)
    for row in results["rows"][-2:]:
        row["start"] = "post-training"
    text = words(results)
    found = cells(text, KNOWN[0][0])
    assert found["Against"] == "–"
    assert found["EMD"] == f"{find(results, KNOWN[0][0])['emd']['mean']:.4f}"
    assert "No verdict: no quantized network has a control" in text
    assert "Post-training rows train nothing" in text
    assert "is not measured" not in text


def test_seeds_are_averaged_with_their_range():
    results, _, _ = study(KNOWN[:1], SMALL, seeds=3)
    rows = [row for row in results["rows"] if row["name"] == KNOWN[0][0]]
    for row, accuracy, emd in zip(rows, (0.98, 0.97, 0.993), (1, 2, 6), strict=True):
        row["accuracy"], row["emd"]["mean"] = accuracy, emd / 1000
    found = cells(words(results), KNOWN[0][0])
    assert found["Seeds"] == "3"
    assert found["Acc. %"] == "98.1 (97.0–99.3)"
    assert found["EMD"] == "0.0030 (0.0010–0.0060)"
    assert found["Against"] == f"{0.003 / results['drift']['mean']:.1f}× drift"
    assert "one seed only" not in words(results)
    assert "one seed only" in words(small()[0])


def test_what_spread_forbids_to_conclude_is_said():
    results, _, _ = study(KNOWN[:1], SMALL)
    assert "points of accuracy apart" not in words(results)
    results["rows"][0]["accuracy"] = 0.975
    assert "lie 1.6 points of accuracy apart, so one point decides" in words(results)
    results["floor_range"] = None
    results["floor"]["mean"] = 0.0123
    assert "a float network by 0.0123 (measured once)." in words(results)


def test_numbers_are_printed_in_their_units():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["dead"], row["saturated"] = 0.6666, 0.0123
    row["cost"] |= {"acs": 1_234_567.0, "macs": 999_999.0, "events": 12.0}
    row["cost"] |= {"weight_bits": 8192 * 1500, "state_bits": 4096}
    found = cells(words(results), row["name"])
    expected = {"Dead %": "66.7", "Satur. %": "1.2", "ACs": "1.23M", "MACs": "1.00M"}
    expected |= {"Events": "12.0", "Weights KiB": "1,500.0", "State KiB": "0.5"}
    assert {key: found[key] for key in expected} == expected


def test_an_unfinished_study_is_reported_and_says_what_is_missing(tmp_path):
    results, _, _ = small()
    planned = [f"{row['name']}/seed{row['seed']}" for row in results["rows"]]
    results |= dict.fromkeys(("floor", "drift", "floor_range", "drift_range"))
    results["rows"] = [results["rows"][0], *results["rows"][4:6]]
    results["rows"][-1]["emd"] = None
    files = report.write(tmp_path, results, firing={}, curves={}, planned=planned)
    names = {path.name for path in files}
    assert {"accuracy_emd.png", "emd_layers.png", "cost.png"} <= names
    assert not {"firing.png", "firing_layers.png", "curves.png"} & names
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    missing = text[text.index("## Missing") : text.index("## All networks")]
    assert "Not finished: float/seed1, float-finetuned/seed0" in missing
    assert "membrane-lqnet-2bit/seed0" in missing
    assert "float/seed0" not in missing
    assert "Without an EMD: weights-lqnet-clip10-2bit/seed0." in missing
    assert "The drift, the control of rows from checkpoint, is not" in missing
    assert "floor" not in missing
    assert "How the neurons fire; How the neurons fire, layer by layer; T" in missing
    assert "No verdict: no quantized network has a control" in text


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ([], "No verdict: no quantized network is finished."),
        (["float"], "No verdict: no quantized network is finished."),
        (["quantized"], "No verdict: no float network is finished"),
    ],
)
def test_a_study_without_float_or_quantized_rows_is_reported(kept, sentence, tmp_path):
    results, firing, curves = study(KNOWN[:1], SMALL)
    results["rows"] = [row for row in results["rows"] if row["kind"] in kept]
    report.write(tmp_path, results, firing=firing, curves=curves)
    assert sentence in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_row_without_finite_numbers_is_shown_without_them(tmp_path):
    results, _, curves = study(KNOWN[:2], SMALL)
    row = results["rows"][-1]
    row |= {"accuracy": math.nan, "emd": None, "matched": None}
    curves[f"{row['name']}/seed0"][-1]["loss"] = math.nan
    results = json.loads(json.dumps(results))
    report.write(tmp_path, results, firing={}, curves=curves)
    found = cells((tmp_path / "report.md").read_text(encoding="utf-8"), row["name"])
    assert {found[key] for key in ("Acc. %", "EMD", "Matched", "Against")} == {"–"}
    assert found["Reading"] == "not judged, without a control"


def test_synthetic_data_is_flagged_everywhere(tmp_path):
    results, _, _ = study(KNOWN[:1], SMALL, dataset="synthetic")
    report.write(tmp_path, results, firing={}, curves={})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in words(results)
    assert "SYNTHETIC DATA" in _terminal(results)
    assert "<title>Quantization study on synthetic [SYNTHETIC DATA" in page
    assert 'class="flag"' in page
    for each in (words(small()[0]), _terminal(small()[0])):
        assert "SYNTHETIC" not in each


def _terminal(results, width=100):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(report.table(results))
    return console.file.getvalue()


def test_the_terminal_table_fits_80_columns_with_one_line_per_network():
    results, _, _ = study()
    lines = _terminal(results, 80).splitlines()
    assert max(map(len, lines)) <= 80
    for name in ("float", "float-finetuned", *(name for name, _, _ in ROWS)):
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    line = next(line for line in lines if "uniform-unsigned-4bit" in line)
    row = find(results, "membrane-uniform-unsigned-4bit")
    expected = [f"{100 * row['accuracy']:.1f}", f"{row['emd']['mean']:.4f}"]
    ratio = row["emd"]["mean"] / results["drift"]["mean"]
    expected += [f"{ratio:.1f}×", "drift", f"{100 * row['dead']:.1f}"]
    assert line.split()[1:6] == expected
    assert line.split()[-1] == f"{row['cost']['weight_bits'] / 8192:.1f}"


HOSTILE = "<script>window.hacked = 1</script>|$x_{1}$ [bold]_a_*b* `c`"


def test_a_hostile_name_is_printed_and_nothing_more(tmp_path):
    results, firing, curves = study(KNOWN[:1], SMALL, dataset=HOSTILE)
    key = f"{KNOWN[0][0]}/seed0"
    find(results, KNOWN[0][0])["name"] = HOSTILE
    firing[f"{HOSTILE}/seed0"] = firing.pop(key)
    curves[f"{HOSTILE}/seed0"] = curves.pop(key)
    report.write(tmp_path, results, firing=firing, curves=curves, planned=[HOSTILE])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1  # our own
    assert "&lt;script&gt;window.hacked" in page
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    lines = _terminal(results, 300).splitlines()
    storage = f"{find(results, HOSTILE)['cost']['weight_bits'] / 8192:.1f}"
    assert any(re.match(rf" *{re.escape(HOSTILE)} .*{storage} *$", s) for s in lines)


def test_layers_that_were_not_measured_stay_empty_in_the_heat_map():
    results, _, _ = study(KNOWN[:1], SMALL)
    row = find(results, KNOWN[0][0])
    row["emd"]["layers"] = {"first": 0.003, "third": math.nan, "extra": 0.0}
    first, second, third, extra = _heat_map(results)[-1]
    assert first == pytest.approx(3.0)
    assert math.isnan(second)
    assert math.isnan(third)
    assert extra == pytest.approx(np.nanmin(_heat_map(results)))  # as dark as it gets


def _heat_map(results):
    made = report._study(results, {}, {}, ())
    figure = report._draw_layers(made, report._layered(made), report._LIGHT)
    return np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)


def test_the_heat_map_shows_floor_drift_and_every_network():
    results, _, _ = small()
    wanted = [results["floor"], results["drift"]]
    tuned = [row["emd"] for row in results["rows"][2:4]]
    names = [KNOWN[i][0] for i in (1, 0, 3, 2)]  # by family
    expected = [[each["layers"][layer] for layer in SMALL] for each in wanted]
    expected += [[np.mean([t["layers"][layer] for t in tuned]) for layer in SMALL]]
    expected += [list(find(results, n)["emd"]["layers"].values()) for n in names]
    np.testing.assert_allclose(_heat_map(results), 1000 * np.array(expected))


def test_points_stand_at_emd_and_accuracy():
    results, _, _ = small()
    made = report._study(results, {}, {}, ())
    figure = report._draw_accuracy(made, report._placed(made), report._LIGHT)
    marked = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    found = sorted((*line.get_xdata(), *line.get_ydata()) for line in marked)
    rows = [find(results, name) for name, _, _ in KNOWN]
    expected = [(row["emd"]["mean"], 100 * row["accuracy"] - 99) for row in rows]
    tuned = [row["emd"]["mean"] for row in results["rows"][2:4]]
    expected += [(0.0, 0.0), (np.mean(tuned), 0.0)]
    np.testing.assert_allclose(found, sorted(expected), atol=1e-9)


def test_labels_of_the_default_study_do_not_cover_each_other():
    results, _, _ = study(ROWS[:13])
    made = report._study(results, {}, {}, ())
    figure = report._draw_accuracy(made, report._placed(made), report._LIGHT)
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if "-bit" in text.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 13
    frame = figure.axes[0].get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_histograms_are_those_of_the_counts():
    results, firing, _ = small()
    made = report._study(results, firing, {}, ())
    groups = report._fired(made)
    figure = report._draw_firing(made, groups, report._LIGHT)
    assert len(groups) == 5
    for axes, group in zip(figure.axes, groups, strict=False):
        before, after = (patch.get_data().values for patch in axes.patches)
        for shown, key in ((before, "float/seed0"), (after, f"{group.name}/seed0")):
            counts = np.concatenate([c.ravel() for c in firing[key]["counts"].values()])
            expected, _ = np.histogram(counts / 1440, np.arange(41) / 40)
            np.testing.assert_allclose(shown, expected / counts.size, atol=1e-9)


def test_firing_is_held_against_the_float_network_of_the_same_seed():
    results, firing, _ = study(KNOWN[:1], SMALL, seeds=2)
    other = {layer: 1440 - c for layer, c in firing["float/seed1"]["counts"].items()}
    firing["float/seed1"]["counts"] = other
    del firing[f"{KNOWN[0][0]}/seed0"]
    made = report._study(results, firing, {}, ())
    before = report._firing(made, report._fired(made)[-1]).before
    np.testing.assert_allclose(before["first"], other["first"].ravel() / 1440)


def test_many_layers_are_cut_to_those_that_moved_most():
    layers = tuple(f"layer{i}" for i in range(54))
    results, firing, _ = study(KNOWN[:1], layers)
    emds = find(results, KNOWN[0][0])["emd"]["layers"]
    made = report._study(results, firing, {}, ())
    figure = report._draw_firing_layers(made, report._telling(made), report._LIGHT)
    shown = [axes.get_title(loc="left") for axes in figure.axes]
    most = sorted(layers, key=lambda layer: -emds[layer])[:24]
    assert [title for title in shown if title] == sorted(most, key=layers.index)


def test_bars_add_up_to_the_cost():
    results, _, _ = study(KNOWN[:2], SMALL)
    made = report._study(results, {}, {}, ())
    figure = report._draw_cost(made, report._costed(made), report._LIGHT)
    row = find(results, KNOWN[0][0])  # the last bar of each part
    ends = [
        [bars.patches[-1].get_x() + bars.patches[-1].get_width() for bars in a]
        for a in (axes.containers for axes in figure.axes)
    ]
    acs, macs, events, weights, state = (
        row["cost"][k] for k in ("acs", "macs", "events", "weight_bits", "state_bits")
    )
    assert ends[0] == pytest.approx([acs, acs + macs])
    assert ends[1] == pytest.approx([events])
    assert ends[2] == pytest.approx([weights, weights + state])
    totals = [axes.texts[-1].get_text().strip() for axes in figure.axes]
    assert totals[0] == f"{(acs + macs) / 1e6:.2f}M"
    assert totals[2] == f"{(weights + state) / 8192:,.1f}"


def test_the_input_is_left_alone():
    results, firing, curves = study(KNOWN[:1], SMALL)
    copies = copy.deepcopy((results, curves))
    report._page(report._study(results, firing, curves, ()), [])
    report.table(results)
    assert (results, curves) == copies


def test_another_schema_is_refused(tmp_path):
    message = "results of schema 2 were given, this jsnnq reads schema 1"
    with pytest.raises(InputError, match=message):
        report.write(tmp_path, {"schema": 2, "rows": []}, firing={}, curves={})
    with pytest.raises(InputError, match="schema None"):
        report.table({})


def test_a_file_in_the_way_is_refused_and_kept(tmp_path):
    out = tmp_path / "taken"
    out.write_text("mine")
    with pytest.raises(InputError, match="cannot write the report into .*taken"):
        report.write(out, {"schema": 1, "rows": []}, firing={}, curves={})
    assert out.read_text() == "mine"


def test_a_full_disk_leaves_the_old_page_and_no_drafts(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")
    write_bytes, names = Path.write_bytes, []

    def full(path, content):
        names.append(path.name)
        if "html" in path.name:
            write_bytes(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device.*give a folder"):
        report.write(tmp_path, {"schema": 1, "rows": []}, firing={}, curves={})
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".*"))
    assert len(names) == 3  # csv, Markdown, page
    assert all(name.startswith(".") for name in names)  # drafts, renamed when whole


def test_importing_the_room_loads_neither_matplotlib_nor_jinja2():
    code = "import sys, jsnnq.report; "
    code += "print({'matplotlib', 'jinja2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr
