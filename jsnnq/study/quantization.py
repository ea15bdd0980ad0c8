"""A trained network quantized beside its float control, and how far each has moved.

What `jsnnq quantize` leaves in a folder:

    checkpoint/          the quantized network, as every other room reads it
    control/checkpoint/  the float network that was fine-tuned as long
    quantized/           the log of the fine-tuning, and while it lasts its state
    quantize.json        what was asked for
    result.json          what was found
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsnnq.analysis import emd
from jsnnq.analysis.describe import describe
from jsnnq.analysis.evaluate import BATCH, Evaluation, evaluate
from jsnnq.analysis.firing import Counts
from jsnnq.config import TrainingConfig, to_dict
from jsnnq.data import batches
from jsnnq.data.arrays import DataSet
from jsnnq.errors import InputError, check_integer, check_seed
from jsnnq.networks.network import Network, input_shape
from jsnnq.networks.rules import Rules
from jsnnq.runtime import files, parallel
from jsnnq.study.optimizer import optimizer
from jsnnq.study.recipe import Quantizers
from jsnnq.study.run import tidy
from jsnnq.study.saved import load_network
from jsnnq.workflow.fit import fit
from jsnnq.workflow.freezing import scheduled
from jsnnq.workflow.quantize import calibrate, quantize, rules_of
from jsnnq.workflow.saved import save
from jsnnq.workflow.specification import specify
from jsnnq.workflow.state import State, untrained


def quantize_saved(
    source: Path,
    out: Path,
    quantizers: Quantizers,
    *,
    recipe: TrainingConfig | None,
    control: bool = True,
    seed: int = 0,
    data_name: str | None = None,
    data_dir: str | None = None,
    devices: parallel.Devices = (),
    eval_batch: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Quantizes a network on disk into a folder, or continues where it was stopped.

    Args:
        source: of the trained float network.
        out: folder of what is made; what is refused makes none.
        quantizers: from `jsnnq.study.recipe.quantizers`.
        recipe: of the fine-tuning; None is post-training quantization.
        control: whether the float network is fine-tuned beside it.
        seed: decides the order of images, and what a quantizer draws.
        data_name: other data than the network was trained on.
        data_dir: where prepared data sets lie.
        devices: that share a batch.
        eval_batch: images per call of an evaluation; by default as many as fit.
        quiet: show no progress.

    Returns:
        What is in `result.json`: `float`, `control` and `quantized`, each as `describe`
        has it with mean `rates` by layer; of networks that spike `emd` and `matched`
        from `float` to `quantized`, and `drift`, the same from `float` to `control`.
        Without a control, it and the drift are None.

    Raises:
        InputError: something that is given does not fit; before anything is written.
        Diverged: a loss or gradient was not finite.
    """
    if not quantizers:
        raise InputError(
            "nothing says what is quantized: give --weights, --membranes, "
            "--activations or --rules"
        )
    check_seed(seed)
    if eval_batch is not None:
        check_integer("eval_batch", eval_batch)
    found = load_network(source, data_name=data_name, data_dir=data_dir)
    net, data = found.network, found.dataset
    if net != net.bare:
        raise InputError(
            f"{str(source)!r} is quantized already: give the float network that it was "
            "made from"
        )
    qnet = quantize(net, **dict(quantizers))
    trained = untrained(net, found.variables, data)
    nets = {"quantized": qnet}
    if recipe is None:
        calibrated = calibrate(qnet, trained, data, seed=seed)
        made = lambda name: calibrated
    else:
        if control:
            nets = {"control": net, **nets}
        tuned = _tuning(qnet, data, recipe)
        made = lambda name: tuned(
            nets[name],
            seed=seed,
            start=trained,
            resume=out / name,
            devices=devices,
            quiet=quiet,
        )
    asked = {
        "network": specify(net),
        "quantizers": {place: _said(rules) for place, rules in rules_of(qnet).items()},
        "start": _digest(found.variables),
        "data": data.note,
        "training": None if recipe is None else to_dict(recipe),
        "control": "control" in nets,
        "seed": seed,
    }
    files.claim(out, "quantize.json", asked)
    if (out / "result.json").exists() and (out / "checkpoint").is_dir():
        return files.read_json(out / "result.json")
    with files.held(out):
        mesh = parallel.mesh(devices, eval_batch or BATCH)
        how: Any = {"batch": eval_batch, "mesh": mesh}
        look = lambda net, state: evaluate(net, state.variables, data, **how)
        seen = {"float": look(net, trained)}
        rows: dict[str, Any] = {"control": None}
        rows["float"] = _row(net, trained, seen["float"], data)
        for name, one in nets.items():
            state = made(name)
            seen[name] = look(one, state)
            rows[name] = _row(one, state, seen[name], data)
            place = out if one is qnet else out / name
            about = {"data": found.data_name, "seed": seed}
            save(place / "checkpoint", one, state, about=about)
        result = {**asked, **rows, "emd": None, "matched": None, "drift": None}
        if seen["float"].counts:
            before = seen["float"].counts
            result |= _distances(before, seen["quantized"].counts)
            if "control" in seen:
                result["drift"] = _distances(before, seen["control"].counts)
        files.write_json(out / "result.json", result)
        for name in nets:
            tidy(out / name)
    return result


def _tuning(
    qnet: Network, data: DataSet, recipe: TrainingConfig
) -> Callable[..., State]:
    """Fine-tunes a network by a recipe, which was found to fit the quantized one."""
    batch = check_integer("batch", recipe.batch)
    steps_per_epoch = batches.steps_per_epoch(len(data.train), batch)
    rule = optimizer(recipe, steps_per_epoch)
    layers = qnet.layers(input_shape(data.image_shape))
    scheduled(qnet, layers, recipe.epochs, steps_per_epoch)
    return lambda net, **more: fit(
        net, data, rule, epochs=recipe.epochs, batch=batch, **more
    )


def _said(rules: Rules) -> list[list[str]]:
    """Rules in order, with the settings of their quantizers."""
    return [[pattern, str(quantizer)] for pattern, quantizer in rules.rules]


def _digest(variables: Any) -> str:
    """Of all numbers of a network, which tells it from the same one trained again."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _row(net: Network, state: State, seen: Evaluation, data: DataSet) -> dict[str, Any]:
    rates = seen.counts.rates() if seen.counts else {}
    return {
        **describe(net, state.variables, seen, data.image_shape),
        "rates": {layer: float(each.mean()) for layer, each in rates.items()},
    }


def _distances(before: Counts, after: Counts) -> dict[str, Any]:
    return {
        "emd": emd.compare(before, after).as_data(),
        "matched": emd.compare_matched(before, after).as_data(),
    }
