"""A number may be a scalar of any kind: Python's, NumPy's, or an array without axes."""

import json
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jsnnq
from jsnnq.analysis.firing import Counts
from jsnnq.config import to_dict
from jsnnq.errors import InputError, as_python, check_integer, check_number, check_seed
from jsnnq.networks.surrogate import SURROGATES


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Settings are annotated as they are kept, but users' programs check nothing."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


KINDS = (
    (np.int64, np.float32),
    (np.uint8, np.longdouble),
    (np.array, np.array),
    (jnp.array, jnp.array),
    (jnp.int8, jnp.bfloat16),
)
"""What makes a scalar of a whole number, and of a fraction."""

QUANTIZERS = (
    (jsnnq.uniform, {"bits": 3, "clip": 0.5, "outside": 1.0, "channelwise": True}),
    (jsnnq.uniform, {"bits": 3, "clip": "percentile", "percentile": 87.5}),
    (jsnnq.lqnet, {"bits": 2, "clip": 0.5, "average": 0.75, "ridge": 0.5}),
    (jsnnq.mint, {"bits": 4, "squash": False}),
    (jsnnq.snntorch, {"bits": 2, "lower": 0.5, "upper": 0.25, "threshold": 1.5}),
    (jsnnq.ste, {"scaled": True}),
    (jsnnq.stompp, {"window": (2, 4), "refresh": 8, "warmup": 0.5, "tail": 1.5}),
    (jsnnq.stompp, {"order": (1, 0), "scaled": True}),
)

SETTINGS = (
    *QUANTIZERS,
    *((kind, {"alpha": 1.5}) for kind in SURROGATES.values()),
    (jsnnq.Neuron, {"tau": 1.5, "v_threshold": 0.75, "v_reset": -0.5}),
    (jsnnq.Neuron, {"decay_input": False}),
)


def scalars(value, whole, fraction):
    """The same settings, with each number as another kind of scalar."""
    if isinstance(value, tuple):
        return tuple(scalars(one, whole, fraction) for one in value)
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, str):
        return value
    return whole(value) if isinstance(value, int) else fraction(value)


@pytest.mark.parametrize(("whole", "fraction"), KINDS)
@pytest.mark.parametrize(("make", "settings"), SETTINGS)
def test_settings_of_any_scalar_are_those_of_python(make, settings, whole, fraction):
    expected = make(**settings)
    found = make(**{k: scalars(v, whole, fraction) for k, v in settings.items()})
    assert found == expected
    assert hash(found) == hash(expected)
    assert repr(found) == repr(expected)
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        assert type(one) is type(other)


@pytest.mark.parametrize(("make", "settings"), QUANTIZERS)
def test_a_quantizer_of_any_scalar_is_written_and_compiled_as_ever(make, settings):
    expected = make(**settings)
    found = make(**{k: scalars(v, np.int64, np.float32) for k, v in settings.items()})
    assert json.dumps(to_dict(found)) == json.dumps(to_dict(expected))
    assert found.representative == expected.representative
    assert hash(found.representative) == hash(expected.representative)


def test_a_list_in_settings_is_a_tuple():
    found = jsnnq.stompp(window=[0, 4], order=[1, 0])
    assert found == jsnnq.stompp(window=(0, 4), order=(1, 0))
    assert hash(found) == hash(jsnnq.stompp(window=(0, 4), order=(1, 0)))


@pytest.mark.parametrize(("whole", "fraction"), KINDS)
def test_a_network_takes_any_scalar(whole, fraction):
    fields = {"classes": 3, "timesteps": 2}
    expected = jsnnq.sew_resnet("sew_resnet_tiny", **fields)
    found = jsnnq.SEWResNet(
        depths=tuple(map(whole, expected.depths)),
        channels=list(map(whole, expected.channels)),
        **{name: whole(value) for name, value in fields.items()},
    )
    assert found == expected
    assert hash(found) == hash(expected)
    assert repr(found) == repr(expected)
    fields = {"classes": whole(3), "timesteps": whole(2), "width": fraction(1)}
    assert jsnnq.sew_resnet("sew_resnet_tiny", **fields) == expected
    binary = jsnnq.binary_resnet("resnet_tiny", classes=whole(3), width=whole(1))
    assert repr(binary) == repr(jsnnq.binary_resnet("resnet_tiny", classes=3))


@pytest.mark.parametrize("whole", [whole for whole, _ in KINDS])
def test_checked_numbers_come_back_as_those_of_python(whole):
    for check in (check_integer, check_number):
        found = check("number", whole(3))
        assert found == 3
        assert type(found) is (int if check is check_integer else float)
    assert type(check_seed(whole(3))) is int


def test_what_counts_are_out_of_does_not_overflow():
    assert Counts({}, np.uint8(16), np.uint8(16)).total == 256


@pytest.mark.parametrize("wrong", [True, np.True_, jnp.array(True), "2", np.str_("2")])
def test_what_is_no_number_is_refused(wrong):
    for check in (check_integer, check_number, lambda _, bits: jsnnq.uniform(bits)):
        with pytest.raises(InputError, match=r"an integer|a finite number"):
            check("number", wrong)
    with pytest.raises(InputError, match="uniform outside is"):
        jsnnq.uniform(2, outside=wrong)


@pytest.mark.parametrize("wrong", [math.nan, np.float32(np.nan), jnp.array(jnp.inf)])
def test_what_is_not_finite_is_refused(wrong):
    with pytest.raises(InputError, match="clip is (nan|inf): a finite number above 0"):
        jsnnq.uniform(2, wrong)
    with pytest.raises(InputError, match="tau is (nan|inf): a finite number above 1"):
        jsnnq.Neuron(tau=wrong)


@pytest.mark.parametrize("wrong", [2.0, np.float32(2), np.array([2]), jnp.array([2])])
def test_what_is_no_whole_number_is_refused(wrong):
    with pytest.raises(InputError, match="bits=.*: an integer from 1 to 8 is needed"):
        jsnnq.uniform(wrong)


@pytest.mark.parametrize("wrong", [4, (1, 2, 3), np.array([1, 2])])
def test_a_window_that_is_no_pair_is_refused(wrong):
    with pytest.raises(InputError, match="window is .*: a pair is needed"):
        jsnnq.stompp(window=wrong)


def test_an_order_without_a_hash_is_refused():
    with pytest.raises(InputError, match="order is .*: a name or a tuple is needed"):
        jsnnq.stompp(order=np.array([1, 0]))


def test_a_traced_number_is_no_setting():
    with pytest.raises(InputError, match="clip is .*Tracer.*: a finite number above"):
        jax.jit(lambda clip: jsnnq.uniform(2, clip).init(None, jnp.ones(3)))(0.5)


def test_what_is_no_number_stays_what_it_is():
    for value in (None, "max", jsnnq.ste(), jnp.float32, np.arange(3), as_python):
        assert as_python(value) is value
