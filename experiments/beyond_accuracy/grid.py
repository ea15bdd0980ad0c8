"""The grid of arXiv 2604.14487 for networks of full width, and what may cure LQ-Net."""

import dataclasses
from typing import Any

from jsnnq.config import Config, LQNet, NetworkConfig, TrainingConfig, neurons
from jsnnq.study.default import rows


def learned_membranes(tuned: Config) -> dict[str, Config]:
    """What may make LQ-Net on the membrane unstable at 2 bits, one thing each.

    Without the ridge, with a basis that moves within the timesteps, without both, and
    with a basis that follows each batch at once, or ten times as slowly.

    Args:
        tuned: the float network, fine-tuned.
    """
    changes: dict[str, dict[str, Any]] = {
        "noridge": {"ridge": 0.0},
        "timestep": {"follow": "timestep"},
        "timestep-noridge": {"follow": "timestep", "ridge": 0.0},
        "fast": {"average": 0.0},
        "slow": {"average": 0.99},
    }
    return {
        f"membrane-lqnet-{name}-2bit": dataclasses.replace(
            tuned, membranes=neurons(LQNet(2, clip=1.0, **change))
        )
        for name, change in changes.items()
    }


def complete(network: str, data: str) -> dict[str, Config]:
    """The paper's whole grid for a network of full width, on an accelerator.

    Beside it what may cure LQ-Net on the membrane, see `learned_membranes`.

    The paper's recipe is not known: 200 epochs of SGD with a cosine schedule for the
    float network, and 30 more at a tenth of the rate for every other row.

    Args:
        network: `sew_resnet8` or `sew_resnet18`.
        data: name of a data set.
    """
    recipe = TrainingConfig(
        epochs=200,
        batch=128,
        optimizer="sgd",
        rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
    )
    found = rows(
        Config(
            data=data,
            network=NetworkConfig(name=network, dtype="bfloat16"),
            training=recipe,
        ),
        dataclasses.replace(recipe, epochs=30, rate=0.01),
        bits=(2, 4, 6, 8),
        lqnet_membranes=(2, 4, 6, 8),
        both=(2, 4),
        both_lqnet=(2, 4),
    )
    return found | learned_membranes(found["float-finetuned"])
