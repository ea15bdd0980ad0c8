"""How quantization changes what a spiking network does: SEW-ResNet8 on digits.

The study of arXiv 2604.14487 in small: `jsnnq study` runs it. On scikit-learn's real
8x8 digits a float SEW-ResNet8 of a quarter of the width is trained with two seeds,
and fine-tuned from there once per quantizer, clipping range and bit-width, beside the
float control that is fine-tuned with the same steps, rate and data order.

`rows` makes the same grid for any base; experiments on larger sets use it.
"""

import dataclasses
import functools

from jsnnq import renamed
from jsnnq.config import (
    Config,
    LQNet,
    NetworkConfig,
    TrainingConfig,
    Uniform,
    kernels,
    neurons,
)


def rows(
    base: Config,
    fine_tuning: TrainingConfig,
    *,
    bits: tuple[int, ...] = (2, 4),
    clips: tuple[float, ...] = (1.0, 10.0),
    lqnet_membranes: tuple[int, ...] = (2,),
    both: tuple[int, ...] = (2,),
    both_lqnet: tuple[int, ...] = (),
    padded: int | None = None,
) -> dict[str, Config]:
    """The grid: weights, membranes, and both, from the float network's checkpoint.

    Weights: uniform (the `even` grid) and LQ-Net, by clip and bits. Membranes:
    uniform, signed (`symmetric`: the reset value 0 is a level) and unsigned on [-1, 1]
    and [0, 1], by bits, and LQ-Net. Both: uniform weights (clip 1) with unsigned
    membranes, or LQ-Net for both, of equal bits.

    Args:
        base: the float network, trained from scratch.
        fine_tuning: how every other row is trained.
        bits: bit-widths of weights and of uniform membranes.
        clips: clipping ranges of the weights.
        lqnet_membranes: bit-widths of LQ-Net membranes.
        both: bit-widths of uniform weights and membranes together.
        both_lqnet: bit-widths of LQ-Net weights and membranes together.
        padded: of LQ-Net weights, whose bit-widths then share a compilation; worth it
            where compiling takes longer than training.
    """
    tuned = dataclasses.replace(base, training=fine_tuning, start="checkpoint")

    def row(**quantizers):
        return dataclasses.replace(tuned, **quantizers)

    found = {"float": base, "float-finetuned": tuned}
    learned = functools.partial(LQNet, padded=padded)
    for called, method in (("uniform", Uniform), ("lqnet", learned)):
        for clip in clips:
            for b in bits:
                name = f"weights-{called}-clip{clip:g}-{b}bit"
                found[name] = row(weights=kernels(method(b, clip=clip)))
    for grid, sign in (("symmetric", "signed"), ("unsigned", "unsigned")):
        for b in bits:
            found[f"membrane-uniform-{sign}-{b}bit"] = row(
                membranes=neurons(Uniform(b, grid=grid))
            )
    for b in lqnet_membranes:
        found[f"membrane-lqnet-{b}bit"] = row(membranes=neurons(LQNet(b, clip=1.0)))
    for b in both:
        found[f"both-uniform-{b}bit"] = row(
            weights=kernels(Uniform(b)), membranes=neurons(Uniform(b, grid="unsigned"))
        )
    for b in both_lqnet:
        found[f"both-lqnet-{b}bit"] = row(
            weights=kernels(LQNet(b)), membranes=neurons(LQNet(b, clip=1.0))
        )
    return found


_RECIPE = TrainingConfig(
    epochs=20, batch=32, optimizer="sgd", rate=0.3, momentum=0.9, weight_decay=5e-4
)

ROWS = rows(
    Config(
        data="digits",
        network=NetworkConfig(name="sew_resnet8", width=0.25),
        training=_RECIPE,
    ),
    dataclasses.replace(_RECIPE, epochs=3, rate=0.03),
    padded=4,
)


__getattr__ = renamed.attributes_of(
    "experiments.beyond_accuracy.grid", "complete", "learned_membranes"
)
