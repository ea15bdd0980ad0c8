"""A network to disk and back; a run that was stopped; two networks compared."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from scipy import special, stats

from experiments.stompp.base import binary
from jsnnq.analysis import describe
from jsnnq.analysis.evaluate import evaluate, forget
from jsnnq.analysis.firing import Counts
from jsnnq.config import (
    STE,
    LQNet,
    Mint,
    SnnTorch,
    StoMPP,
    Uniform,
    kernels,
    neurons,
    to_dict,
)
from jsnnq.data import batches, sets
from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint
from jsnnq.study import build, run
from jsnnq.study.saved import compare_saved, load_network, save_network
from jsnnq.training import divergence, loop, resume, step
from jsnnq.training.monitor import read_curve
from jsnnq.workflow.state import calibration_images
from tests.tiny import BINARY, SMALL, assert_same, changed, digits

MINT = (("layer.*sn.?", Mint(4, shared=True)),)
QUANTIZED = {
    "uniform": {"weights": kernels(Uniform(2)), "membranes": neurons(Uniform(4))},
    "from data": {
        "weights": kernels(Uniform(3, clip="max", channelwise=True)),
        "membranes": neurons(Uniform(4, clip="percentile", grid="unsigned")),
    },
    "lqnet": {
        "weights": ((".*", LQNet(2)),),  # without a clip: infinity in its state
        "membranes": neurons(LQNet(2)),
    },
    "snntorch": {"membranes": neurons(SnnTorch(2, upper=1.0))},  # 0 is a level
    "mint": {"weights": kernels(Mint(4)), "membranes": neurons(Mint(3))},
    "mint shared": {"weights": kernels(Mint(4)), "membranes": MINT},
    "float": {},
}


def post_training(**quantizers):
    return dataclasses.replace(SMALL, start="post-training", **quantizers)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """The checkpoint of a float network as it starts."""
    path = tmp_path_factory.mktemp("parent") / "checkpoint"
    stored(path.parent, SMALL)
    return path


def started(config, parent=None, seed=0):
    program = build.program(config, digits())
    return program, run.start(program, config, digits(), seed, parent)


def stored(folder, config, parent=None, seed=0):
    """A network as it starts, kept as `execute` keeps it."""
    variables = started(config, parent, seed)[1].variables
    network = build.network(config, digits().classes)
    path = folder / "checkpoint"
    save_network(path, network, variables, config, digits(), seed=seed)
    return variables


def arrays(tree):
    """Numbers as arrays, so that trees of both can be compared."""
    return jax.tree.map(np.asarray, tree)


# To disk and back.


@pytest.mark.parametrize("name", QUANTIZED)
def test_every_quantizer_loads_back_bit_for_bit(name, parent, tmp_path):
    config = post_training(**QUANTIZED[name])
    variables = stored(tmp_path / name, config, parent)
    found = load_network(tmp_path / name)
    assert_same(found.variables, variables)
    assert found.config == config
    assert found.seed == 0
    assert found.label == name
    assert found.dataset.name == "digits"
    program = build.program(config, digits())
    assert found.network == program.network
    if "mint" in name:
        leaves = jax.tree_util.tree_leaves_with_path(found.variables["params"])
        assert any("alpha" in jax.tree_util.keystr(path) for path, _ in leaves)


@pytest.mark.filterwarnings("ignore:bernoulli masks lag")
@pytest.mark.parametrize(
    "quantizer",
    [StoMPP(), StoMPP(law="bernoulli"), STE(scaled=True)],
    ids=["stompp", "stompp with masks", "scaled signs"],
)
def test_a_binary_network_loads_back_without_its_data_sets_steps(quantizer, tmp_path):
    plain = dataclasses.replace(quantizer, scaled=False)
    row = binary(BINARY, quantizer, plain)
    variables = stored(tmp_path, row, seed=3)
    found = load_network(tmp_path)
    assert (found.config, found.seed) == (row, 3)
    assert_same(found.variables, variables)
    before = evaluate(build.program(row, digits()).network, variables, digits())
    after = evaluate(found.network, found.variables, digits())
    assert after.accuracy == before.accuracy
    assert after.loss == before.loss
    # By hand, on pixels.
    images, labels = digits().test.read(np.arange(len(digits().test)))
    logits, _ = found.network.apply(found.variables, found.inputs(images))
    logits = np.mean(logits, axis=0)
    losses = special.logsumexp(logits, axis=-1) - logits[np.arange(len(labels)), labels]
    np.testing.assert_allclose(np.mean(losses), after.loss, rtol=1e-5)


def test_networks_that_do_not_spike_have_no_firing_to_compare(tmp_path):
    stored(tmp_path, BINARY)
    net = load_network(tmp_path)
    with pytest.raises(InputError, match="do not spike.*two spiking networks"):
        compare_saved(net, net)


def test_a_row_from_a_checkpoint_starts_as_its_parent(parent):
    tuned = dataclasses.replace(SMALL, start="checkpoint")
    _, state = started(tuned, parent, seed=4)
    known, _ = checkpoint.restore(parent)
    jax.tree.map(np.testing.assert_array_equal, state.params, known["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, known["batch_stats"])
    assert int(state.step) == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_a_row_from_scratch_starts_from_its_seed():
    one, again, other = (started(SMALL, seed=seed)[1] for seed in (1, 1, 2))
    assert_same(one, again)
    kernel = lambda state: np.asarray(state.params["conv1"]["kernel"])
    assert np.any(kernel(one) != kernel(other))


def test_a_post_training_row_is_measured_stored_and_not_trained(
    parent, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "fit_rows", None)
    config = post_training(**QUANTIZED["mint"])
    program = build.program(config, digits())
    row, evaluation = run.execute(
        program, config, digits(), tmp_path, seed=3, parent=parent, quiet=True
    )
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "firing.npz"}
    assert (row["kind"], row["start"]) == ("quantized", "post-training")
    assert row["seed"] == 3
    found = load_network(tmp_path)
    assert found.label == tmp_path.name
    again = evaluate(found.network, found.variables, found.dataset)
    assert_same(arrays(again._asdict()), arrays(evaluation._asdict()))
    described = describe.describe(
        found.network, found.variables, again, found.dataset.image_shape
    )
    assert described.items() <= row.items()
    bits = describe.weight_bits(found.network, found.variables)
    assert row["cost"]["weight_bits"] == sum(bits.values())
    spikes = sum(int(counts.sum()) for counts in evaluation.counts.values())
    assert row["cost"]["events"] == pytest.approx(spikes / 360)
    json.dumps(row)
    record = Counts.load(tmp_path / "firing.npz")
    assert_same(record, evaluation.counts)


@pytest.mark.parametrize(("start", "devices"), [("scratch", 2), ("checkpoint", 1)])
def test_what_was_compiled_ahead_is_not_compiled_again(
    tmp_path, parent, caplog, monkeypatch, start, devices
):
    monkeypatch.setattr("jsnnq.workflow.fit._WORTH_SHARING", 1)
    # A batch of its own, so that no other test has compiled for it.
    training = dataclasses.replace(SMALL.training, epochs=1, batch=96 + 2 * devices)
    row = {"start": start, "training": training, "weights": kernels(Uniform(2))}
    config = dataclasses.replace(SMALL, **row)
    program = build.program(config, digits(), jax.devices()[:devices])
    forget(program.network)

    def compiled(function, *arguments, **options):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            function(*arguments, **options)
        text = [record.getMessage() for record in caplog.records]
        said = [line for line in text if line.startswith("Finished XLA compilation")]
        return {name for name in ("step", "count") if any(name in one for one in said)}

    ahead = compiled(run.compile_ahead, program, config, digits())
    given = {"seed": 0, "parent": None if start == "scratch" else parent, "quiet": True}
    after = compiled(run.execute, program, config, digits(), tmp_path, **given)
    assert (ahead, after) == ({"step", "count"}, set())


def test_a_network_for_other_classes_does_not_fit(parent):
    few = dataclasses.replace(digits(), classes=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "load", lambda name, data_dir: few)
        with pytest.raises(InputError, match="10 classes apart and digits has 7"):
            load_network(parent)


@pytest.mark.parametrize("start", ["checkpoint", "post-training"])
def test_a_row_without_the_checkpoint_it_starts_from_is_refused(start, tmp_path):
    config = dataclasses.replace(SMALL, start=start)
    program = build.program(config, digits())
    with pytest.raises(InputError, match=f"starts from '{start}' and no checkpoint"):
        run.start(program, config, digits(), 0)
    with pytest.raises(InputError, match="take start='scratch'"):
        run.train_one(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_calibration_sees_the_first_images_of_the_runs_own_order():
    key = step.keys(5).order
    order = np.asarray(batches.epoch_order(key, 0, 1437))[:20]
    pixels = digits().train.images[order] / 16.0
    expected = (pixels - digits().mean[0]) / digits().std[0]
    found = calibration_images(digits(), 20, key)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(calibration_images(digits(), 10_000, key)) == 1437


# A run that was stopped.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run.train_one(SMALL, folder, quiet=True)


def stop_after_the_first_epoch(monkeypatch):
    """Ctrl-C once the first epoch's state is on disk, or would be."""
    real = loop.fit_rows

    def fit_rows(*arguments, on_epoch, **options):
        def stop(states):
            on_epoch(states)
            raise KeyboardInterrupt

        return real(*arguments, on_epoch=stop, **options)

    monkeypatch.setattr(loop, "fit_rows", fit_rows)


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_a_stopped_run_ends_as_one_that_was_not(whole, tmp_path, monkeypatch, every):
    folder, expected = whole
    with monkeypatch.context() as patch:
        patch.setattr(resume, "SAVE_EVERY_S", every)
        stop_after_the_first_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            run.train_one(SMALL, tmp_path, quiet=True)
    saved = (tmp_path / "partial").exists()
    assert saved == (every == 0)
    spent = checkpoint.read_metadata(tmp_path / "partial")["wall_s"] if saved else 0
    row = run.train_one(SMALL, tmp_path, quiet=True)
    assert row["wall_s"] > spent
    assert {**row, "wall_s": 0} == {**expected, "wall_s": 0}
    found, _ = checkpoint.restore(tmp_path / "checkpoint")
    known, _ = checkpoint.restore(folder / "checkpoint")
    assert_same(found, known)
    fired = (Counts.load(at / "firing.npz") for at in (tmp_path, folder))
    assert_same(*map(arrays, fired))
    assert not (tmp_path / "partial").exists()
    # What was done twice is there once; what was not done twice was not.
    losses = lambda at: [(p["step"], p["loss"]) for p in read_curve(at / "log.jsonl")]
    assert losses(tmp_path) == losses(folder)
    assert losses(folder)[-1][0] == 22
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == (12 if saved else 12 + 6)


def test_a_finished_run_is_read_and_not_repeated(whole, monkeypatch):
    folder, expected = whole
    monkeypatch.setattr(run, "execute", None)
    assert run.train_one(SMALL, folder, quiet=True) == json.loads(json.dumps(expected))
    other = changed(SMALL, "training.rate", 0.02)
    with pytest.raises(InputError, match="config.training.rate was 0.01, is 0.02"):
        run.train_one(other, folder, quiet=True)


def test_a_run_of_an_older_version_is_known_again(whole, tmp_path, monkeypatch):
    folder, expected = whole
    shutil.copytree(folder, tmp_path / "run")
    identity = json.loads((folder / "run.json").read_text())
    del identity["config"]["activations"]  # which there were not always
    (tmp_path / "run" / "run.json").write_text(json.dumps(identity))
    monkeypatch.setattr(run, "execute", None)
    again = run.train_one(SMALL, tmp_path / "run", quiet=True)
    assert again == json.loads(json.dumps(expected))


def test_a_network_that_version_0_1_stored_is_read(whole, tmp_path):
    """Its folder has the row and how pixels are seen, and no network's settings."""
    new = load_network(whole[0])
    metadata = {
        "config": to_dict(SMALL),
        "seed": 0,
        "label": "made before",
        "mean": [0.25],
        "std": [0.5],
    }
    checkpoint.save(tmp_path / "checkpoint", new.variables, metadata)
    old = load_network(tmp_path)
    assert old.network == new.network
    assert (old.label, old.config) == ("made before", SMALL)
    assert_same(old.variables, new.variables)
    pixels = old.dataset.test.images[:3]
    want = (pixels / 16 - 0.25) / 0.5
    np.testing.assert_allclose(old.inputs(pixels), want, atol=1e-6)


def test_a_diverged_run_is_not_done_and_keeps_its_last_good_state(
    tmp_path, monkeypatch
):
    _, state = started(SMALL)

    def fit_rows(*_, **__):
        return [divergence.Diverged("training stopped at step 7", 7, state)]

    monkeypatch.setattr(loop, "fit_rows", fit_rows)
    with pytest.raises(divergence.Diverged):
        run.train_one(SMALL, tmp_path, quiet=True)
    kept, metadata = checkpoint.restore(tmp_path / "last_good", state)
    assert metadata == {"step": 7}
    assert_same(kept, state)
    assert not (tmp_path / "row.json").exists()
    assert not (tmp_path / "checkpoint").exists()


# Two networks.


@pytest.mark.parametrize("unit", ["neuron", "channel"])
def test_a_comparison_is_scipys(whole, parent, unit):
    a, b = load_network(whole[0]), load_network(parent)
    found = compare_saved(a, b, unit=unit)
    for name in found["firing"][0]:
        rates = [one[name] / 720 for one in found["firing"]]
        if unit == "channel":
            rates = [one.mean(axis=(0, 1)) for one in rates]
        x, y = (one.ravel() for one in rates)
        emd = stats.wasserstein_distance(x, y)
        assert found["emd"]["layers"][name] == pytest.approx(emd, abs=1e-6)
        apart = np.abs(x - y).mean()
        assert found["matched"]["layers"][name] == pytest.approx(apart, abs=1e-6)
    assert found["emd"]["mean"] > 0
    assert found["rows"][0]["accuracy"] == whole[1]["accuracy"]


def test_a_float_network_is_compared_with_its_quantized_one(whole, tmp_path):
    stored(tmp_path, post_training(**QUANTIZED["uniform"]), whole[0] / "checkpoint")
    found = compare_saved(load_network(whole[0]), load_network(tmp_path))
    float_row, row = found["rows"]
    assert row["cost"]["weight_bits"] < float_row["cost"]["weight_bits"]
    assert found["emd"]["mean"] > 0


@pytest.mark.parametrize(
    "network",
    [{"width": 2.0}, {"name": "sew_resnet8", "width": 0.0625}, {"stem": "imagenet"}],
)
def test_networks_of_other_architectures_are_refused(parent, tmp_path, network):
    network = dataclasses.replace(SMALL.network, **network)
    stored(tmp_path, changed(SMALL, "network", network))
    pair = [load_network(parent), load_network(tmp_path)]
    for networks in (pair, pair[::-1]):
        with pytest.raises(InputError, match="one architecture"):
            compare_saved(*networks)
