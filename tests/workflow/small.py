"""A small network, a small set, and what is trained of them once."""

import functools

import jax
import numpy as np
import optax

import jsnnq
from tests import tiny

NET = jsnnq.sew_resnet("sew_resnet_tiny", classes=10)
RULE = optax.adam(0.02)
BATCH = 32


@functools.cache
def data():
    """A part of the digits, as a user would hand them in."""
    train, test = tiny.digits().train, tiny.digits().test
    return jsnnq.from_arrays(
        train.images[:320], train.labels[:320], test.images[:100], test.labels[:100]
    )


@functools.cache
def fitted():
    """Two epochs of the float network."""
    return jsnnq.fit(NET, data(), RULE, epochs=2, batch=BATCH)


def quantized():
    """The same network with LQ-Net weights and uniform membranes."""
    return jsnnq.quantize(
        NET, weights=jsnnq.lqnet(2), membranes=jsnnq.uniform(4, grid="unsigned")
    )


def equal(one, other):
    """Every number of two trees, bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
