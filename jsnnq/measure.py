"""What is measured of a network, and of how far apart two are."""

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from jsnnq import cost, emd, firing, footprint
from jsnnq.errors import InputError, choose
from jsnnq.evaluate import Evaluation, evaluate
from jsnnq.footprint import as_dict, distances
from jsnnq.networks import quantize
from jsnnq.networks.resnet import ResidualNetwork
from jsnnq.stored import Network


def describe(
    network: ResidualNetwork,
    variables: Mapping[str, Any],
    evaluation: Evaluation,
    image_shape: tuple[int, int, int],
    policy: str = "neurobench",
) -> dict[str, Any]:
    """Accuracy, firing and deployment cost of an evaluated network, as JSON values.

    Args:
        network: the network.
        variables: its parameters and collections.
        evaluation: what was counted while it was evaluated.
        image_shape: `H W C`.
        policy: how joins of blocks are charged; see `cost.POLICIES`.

    Returns:
        `accuracy`, the shares of `firing.Shares`, `cost` as in
        `cost.deployment_cost`. Where nothing spikes, what is said of firing is None.
    """
    seen: dict[str, Any] = {
        "timesteps": evaluation.timesteps,
        "images": evaluation.images,
    }
    fired = dict.fromkeys(firing.Shares._fields)
    if evaluation.counts:
        fired = firing.summary(evaluation.counts, **seen)._asdict()
    neurons = {name: counts.size for name, counts in evaluation.counts.items()}
    spent = cost.deployment_cost(
        network.synapses(),
        quantize.kernels(network, variables),
        evaluation.counts,
        evaluation.nonzero,
        evaluation.total,
        **seen,
        image_shape=image_shape,
        weight_bits=quantize.weight_bits(network, variables),
        state_bits=quantize.state_bits(network, variables, neurons),
        graded=evaluation.graded,
        policy=policy,
    )
    return {
        "accuracy": evaluation.accuracy,
        **{name: fired[name] for name in firing.Shares._fields},
        "cost": spent._asdict(),
    }


def compare(
    a: Network, b: Network, *, unit: str = "neuron", mesh: Mesh | None = None
) -> dict[str, Any]:
    """How far the firing of B is from that of A, on the data set of A.

    Args:
        a: a network.
        b: another of the same architecture.
        unit: `neuron` or `channel`; see `firing.rates`.
        mesh: the devices that share a batch, from `parallel.mesh`; None is one.

    Returns:
        `rows`, `describe` of A and of B; `firing`, the records of both; `emd` and
        `matched` as in `results.json`; `dataset` and `unit`.

    Raises:
        InputError: the two are not of one architecture, they do not spike, or the unit
            is unknown.
    """
    shapes = [_kernel_shapes(one) for one in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{a.label} and {b.label} have other kernels ({_unlike(*shapes)}): "
            "only networks of one architecture can be compared"
        )
    if not a.config.spikes:
        raise InputError(
            f"{a.label} and {b.label} do not spike, so there is no firing to compare: "
            "give the checkpoints of two spiking networks"
        )
    choose("unit", unit, emd.UNITS)
    evaluations = [
        evaluate(one.network, one.variables, a.dataset, mesh=mesh) for one in (a, b)
    ]
    firing_of = [footprint.of(one) for one in evaluations]
    return {
        "rows": [
            describe(one.network, one.variables, evaluation, a.dataset.image_shape)
            for one, evaluation in zip((a, b), evaluations, strict=True)
        ],
        "firing": firing_of,
        "dataset": a.dataset.note,
        "unit": unit,
        "emd": as_dict(distances(emd.compare, *firing_of, unit=unit)),
        "matched": as_dict(distances(emd.compare_matched, *firing_of, unit=unit)),
    }


def _kernel_shapes(found):
    kernels = quantize.kernels(found.network, found.variables)
    return {path: kernel.shape for path, kernel in kernels.items()}


def _unlike(one, other):
    name = next(n for n in {**one, **other} if one.get(n) != other.get(n))
    return f"{name} is {one.get(name)} and {other.get(name)}"
