"""Spiking neurons: one step of charge, fire and reset, and the scan over time.

Per element, with membrane v (starting at v_reset, or at 0 for a soft reset),
current x, and r0 = v_reset (0 for a soft reset):

    charge   IF:   h = v + x
             LIF:  h = v + (x - (v - r0)) / tau        (decay_input)
                   h = v - (v - r0) / tau + x          (otherwise)
             PLIF: LIF with 1/tau = sigmoid(w), w learned, one scalar per layer
    fire     s = 1[h - v_threshold >= 0]
    reset    hard: v = s v_reset + (1 - s) h
             soft: v = h - s v_threshold

These are the equations of SpikingJelly 2.0 (`activation_based.neuron`); with
`detach_reset` the spike is a constant in the reset, so no gradient takes that path.

Where a membrane quantizer sits is not settled in the literature. `stored` quantizes v
after the reset, the number a device keeps between timesteps (MINT, Q-SNNs, SpQuant);
`before_fire` quantizes h, which changes the spike decision itself (snnTorch's
`state_quant`). The default is `stored`: arXiv 2604.14487 speaks of the recurrent state
and of the bits it takes to store.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsnnq.errors import InputError, check_number, choose, settle
from jsnnq.networks.surrogate import Derivative, atan, spike
from jsnnq.networks.timesteps import Timesteps, apart

PLACEMENTS = ("stored", "before_fire")

# Up to this many timesteps the loop is written out, so that XLA fuses a whole neuron
# layer into one loop over its elements instead of keeping the carry in memory.
_WRITE_OUT_UP_TO = 16


@dataclasses.dataclass(frozen=True)
class Neuron:
    """What a spiking layer computes; hashable, so that it can be a static argument.

    A neuron of one's own is a frozen dataclass derived from it, with another `charge`
    or `reset`.

    Attributes:
        kind: `if`, `lif` or `plif`.
        tau: membrane time constant in timesteps, above 1 (PLIF: its initial value).
        v_threshold: the membrane at which a neuron fires, above `v_reset`.
        v_reset: value after a spike; `None` subtracts the threshold (soft reset).
        decay_input: whether the current is divided by tau too.
        detach_reset: whether the reset is kept out of the gradient.
        surrogate: derivative of the spike, from `jsnnq.networks.surrogate`.
        placement: where a membrane quantizer acts, `stored` or `before_fire`.

    Raises:
        InputError: a name is unknown or a number out of range.

    Example:
        >>> jsnnq.Neuron("if", v_reset=-0.5).rest  # Where membranes begin.
        -0.5
        >>> jsnnq.Neuron("lif", tau=1.5, v_reset=None).rest  # With a soft reset.
        0.0
    """

    kind: str = "lif"
    tau: float = 2.0
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    decay_input: bool = True
    detach_reset: bool = True
    surrogate: Derivative = atan()
    placement: str = "stored"

    def __post_init__(self):
        settle(self)
        choose("neuron", self.kind, ("if", "lif", "plif"))
        choose("membrane placement", self.placement, PLACEMENTS)
        check_number("tau", self.tau, above=1)
        check_number("v_threshold", self.v_threshold)
        if self.v_reset is not None:
            check_number("v_reset", self.v_reset)
        if not self.rest < self.v_threshold:
            raise InputError(
                f"v_threshold {self.v_threshold} is not above the reset value "
                f"{self.rest}: such a neuron would fire for ever"
            )

    @property
    def rest(self) -> float:
        """The membrane of a neuron that has seen nothing."""
        return 0.0 if self.v_reset is None else self.v_reset

    def charge(
        self,
        v: Float[Array, "..."],
        x: Float[Array, "..."],
        decay: Float[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        """The membrane h after the current has arrived, before the spike test.

        Args:
            v: membranes as they were left by the timestep before.
            x: currents, of the same shape and dtype.
            decay: PLIF's w; the others need none.

        Raises:
            InputError: PLIF has no `decay`.
        """
        if self.kind == "if":
            return v + x
        rate = 1 / self.tau
        if self.kind == "plif":
            if decay is None:
                raise InputError(
                    "a plif neuron got no decay: give its parameter w, which starts at "
                    "`initial_decay(neuron)`"
                )
            rate = jax.nn.sigmoid(decay).astype(v.dtype)
        leak = v - self.rest
        if self.decay_input:
            return v + (x - leak) * rate
        return v - leak * rate + x

    def reset(
        self, h: Float[Array, "..."], s: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The membrane v after the spike s, 0 or 1, has been taken out of h."""
        if self.detach_reset:
            # Forward the same; backward the reset is no path for the surrogate.
            s = jax.lax.stop_gradient(s)
        if self.v_reset is None:
            return h - s * self.v_threshold
        if self.detach_reset:
            # The same values by a selection, which XLA repeats rather than keeps.
            return jnp.where(s > 0, jnp.asarray(self.v_reset, h.dtype), h)
        return s * self.v_reset + (1 - s) * h


charge, reset = Neuron.charge, Neuron.reset  # As functions of a neuron.


def steady_drive(neuron: Neuron) -> float:
    """The constant current that takes a neuron from rest to the threshold in one step.

    1 for the IF neurons of SEW-ResNet, tau times that where currents are divided by it.
    """
    rise = neuron.v_threshold - neuron.rest
    if neuron.kind == "if" or not neuron.decay_input:
        return rise
    # PLIF computes 1/tau as a sigmoid, which may round to just below it, and one
    # digit short of the threshold nothing fires.
    return neuron.tau * rise * (1 + 1e-6 if neuron.kind == "plif" else 1)


def initial_decay(neuron: Neuron) -> float:
    """The PLIF parameter w at which sigmoid(w) = 1/tau."""
    return -math.log(neuron.tau - 1)


def unroll(
    neuron: Neuron,
    x: Float[Array, "T *N"] | Timesteps,
    v: Float[Array, "*N"],
    decay: Float[Array, ""] | None = None,
    *,
    quantize: Callable[[Array, Any], tuple[Array, Any]] = lambda v, state: (v, state),
    state: Any = (),
) -> tuple[Any, Any, Float[Array, "*N"], Any]:
    """Runs a layer of neurons over time: the only `lax.scan` over timesteps.

    Few timesteps are written out one after the other, as the scan would be unrolled.

    Args:
        neuron: the equations.
        x: currents, time first, or those of each timestep.
        v: membranes before the first timestep; all later ones have their dtype.
        decay: PLIF's w.
        quantize: the membrane quantizer, applied where `neuron.placement` says: from
            values and its state to values and its state of the next timestep.
        state: of the quantizer, before the first timestep.

    Returns:
        Spikes `T *N` in the dtype of `x`; the values `T *N` that were given to
        `quantize`; the membranes and the quantizer's state after the last timestep.
        Of timesteps the first two are timesteps.

    Raises:
        InputError: PLIF has no `decay`.

    Example:
        >>> neuron = jsnnq.Neuron("if", v_threshold=2.0)
        >>> spikes, *_ = jsnnq.unroll(neuron, jnp.ones((4, 1)), jnp.zeros(1))
        >>> spikes[:, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    def step(carry, x_t):
        v, state = carry
        # Currents may be bfloat16, in which a membrane would lose what it sums up.
        h = neuron.charge(v, x_t.astype(v.dtype), decay)
        seen = h
        if neuron.placement == "before_fire":
            h, state = quantize(h, state)
        s: Any = spike(h - neuron.v_threshold, neuron.surrogate)
        v = neuron.reset(h, s)
        if neuron.placement == "stored":
            seen = v
            v, state = quantize(v, state)
        return (v, state), (s.astype(x_t.dtype), seen)

    carry, whole = (v, state), not isinstance(x, tuple)
    if len(x) > _WRITE_OUT_UP_TO:
        sequence = x if whole else jnp.stack(x)
        carry, (spikes, seen) = jax.lax.scan(step, carry, sequence)
        if not whole:
            spikes, seen = apart(spikes), apart(seen)
        return spikes, seen, *carry
    spikes, seen = [], []
    for x_t in apart(x) if whole else x:
        carry, (s, value) = step(carry, x_t)
        spikes.append(s)
        seen.append(value)
    join = jnp.stack if whole else tuple
    return join(spikes), join(seen), *carry
