"""Every program that the library compiles is lowered for TPU and GPU, without one."""

import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jsnnq
from jsnnq.analysis import emd, evaluate, transport
from jsnnq.data import batches
from jsnnq.interop import pack
from jsnnq.networks import quantize
from jsnnq.networks.bnn import binary_resnet
from jsnnq.networks.integers import PackedKernel
from jsnnq.networks.sew import sew_resnet
from jsnnq.quantizers import lqnet, mint, stompp
from jsnnq.runtime import parallel
from jsnnq.training import probe, step, together
from jsnnq.workflow.state import abstract_variables
from tests import test_x64
from tests.quantizers.test_contract import MEMBERS, SHAPE

PLATFORMS = ("tpu", "cuda")
BATCH, SIZE = 8, 24
KEY = jax.random.key(0)


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def array(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)


def check(function, *arguments, **named):
    """Lowered for both; an operation that one of them lacks is an error."""
    function = function if hasattr(function, "lower") else jax.jit(function)
    program = export.export(function, platforms=PLATFORMS)(*arguments, **named)
    assert program.platforms == PLATFORMS
    return program


# Steps and evaluations


@functools.cache
def program(name, devices=1):
    mesh = parallel.mesh(jax.devices()[:devices], BATCH)
    net, pixels = test_x64.NETWORKS[name], test_x64.PIXELS
    return step.Program(net, test_x64.SGD, BATCH, pixels, pad=2, flip=True, mesh=mesh)


def on(mesh, tree):
    """Where arrays lie that every device has."""
    place = parallel.placement(mesh)
    put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    return jax.tree.map(put, tree)


def state(name):
    variables = abstract_variables(test_x64.NETWORKS[name], test_x64.SHAPE)
    return jax.eval_shape(functools.partial(step.start, program(name)), variables)


def data(count):
    return array(jnp.uint8, count, *test_x64.SHAPE), array(jnp.int32, count)


def held(count):
    return jax.eval_shape(batches.hold, *data(count))


every_network = pytest.mark.parametrize("name", test_x64.NETWORKS)
every_sharing = pytest.mark.parametrize("devices", [1, 4])


@every_sharing
@every_network
def test_steps(name, devices):
    made = program(name, devices)
    functions, key = step.jitted(made), shapes(KEY)
    arguments = on(made.mesh, (state(name), held(SIZE), array(jnp.int32, SIZE), key))
    one = on(made.mesh, (state(name), *data(BATCH), key))
    programs = (
        check(functions.train_step, *one),
        check(functions.next_step, *arguments),
        check(functions.epoch, *arguments, length=2),
    )
    assert {each.nr_devices for each in programs} == {devices}


@every_sharing
@every_network
def test_evaluations(name, devices):
    made = program(name, devices)
    observer = evaluate._observer(made.network, made.preprocessing, made.mesh)
    batch = (*data(BATCH), array(bool, BATCH))
    arguments = on(made.mesh, (state(name).variables, batch))
    assert check(observer, *arguments).nr_devices == devices
    _, totals = jax.eval_shape(observer, *arguments)
    check(evaluate._add, shapes(totals), shapes(totals))


def test_orders_and_augmentation():
    check(lambda key: batches.epoch_order(key, 3, SIZE), shapes(KEY))


def test_looks():
    made, now = program("signs"), state("signs")
    signs = jax.eval_shape(functools.partial(probe._signs, made.network), now)
    check(probe._inside, made, now, signs, *data(BATCH))
    check(probe._accuracy, made, made.network, now, *data(BATCH))


def test_gradients_of_deep_networks():
    for make, name in ((sew_resnet, "sew_resnet50"), (binary_resnet, "resnet50")):
        net = make(name, classes=10, stem="imagenet")
        images = array(jnp.float32, 2, 64, 64, 3)
        variables = jax.eval_shape(net.init, KEY, images)

        def loss(params, variables, images, net=net):
            (logits, _), changed = net.apply(
                {**variables, "params": params},
                images,
                True,
                mutable=["batch_stats", "quant"],
            )
            return logits.sum(), changed

        gradient = jax.grad(loss, has_aux=True)
        check(gradient, variables["params"], dict(variables), images)


# What is compiled beside them


@pytest.mark.parametrize("name", MEMBERS)
def test_quantizers(name):
    quantizer = MEMBERS[name].make()
    x = array(jnp.float32, *SHAPE)
    start = jax.eval_shape(quantizer.init, shapes(KEY), x)
    check(quantizer.init, shapes(KEY), x)
    for train in (False, True):

        def applied(x, state, train=train):
            return quantizer.apply(x, state, train)

        check(applied, x, start)

    def loss(x, state):
        return quantizer.apply(x, state, True)[0].sum()

    check(jax.grad(loss), x, start)


@pytest.mark.parametrize("name", ["spikes", "signs"])
def test_starting_quantizers(name):
    net = test_x64.NETWORKS[name]
    images = array(jnp.float32, 4, *test_x64.SHAPE)
    bare = abstract_variables(net.bare, test_x64.SHAPE)
    check(quantize._potentials, net.bare, bare, images)
    check(functools.partial(quantize.quantize, net), bare, shapes(KEY), images)


@pytest.mark.parametrize("name", ["spikes", "signs"])
def test_packing(name):
    net = test_x64.NETWORKS[name]
    found = functools.partial(pack._found, net, (1, *test_x64.SHAPE))
    check(found, dict(abstract_variables(net, test_x64.SHAPE)))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("groups", [1, 4])
def test_products_of_whole_numbers(groups, start):
    codes = array(jnp.int8, 3, 3, 4 // groups, 8)
    kernel = PackedKernel((codes,) * 2, (array(jnp.float32, 8),) * 2, start, 2)
    times = lambda kernel, x: kernel.convolve(x, 2, groups)
    check(times, kernel, (array(jnp.float32, 2, 6, 6, 4),) * 3)


def test_runs_that_are_made_together():
    trees = [{"a": jnp.ones(3)}, {"a": jnp.zeros(3)}]
    check(together._stacked, trees)
    check(together._taken, together.pack(trees), 1)


RATES, COUNTS = array(jnp.float32, 30), array(jnp.int32, 30)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"total": 40}, COUNTS),
        ({"method": "uniform"}, RATES),
        ({"method": "quantile"}, RATES),
        ({"method": "quantile", "p": 2}, RATES),
    ],
)
def test_distances(options, values):
    distance = lambda x, y: emd.wasserstein(x, y, **options)
    check(distance, values, values)
    if values is RATES:
        check(jax.grad(distance), values, values)


def test_matched_distances():
    check(emd.matched, RATES, RATES)


# Nothing is left out

LOWERED = {
    evaluate._add,
    lqnet._fitted,  # By `init`.
    mint.least_error,  # Likewise.
    pack._found,
    probe._accuracy,
    probe._inside,
    quantize._potentials,
    quantize.drawn,  # By `quantize`.
    stompp._advance,  # By `apply`.
    together._stacked,  # By `test_runs_that_are_made_together`.
    together._taken,  # Likewise.
    transport.from_counts,
    transport.from_rates,
    transport.mean_difference,
}


def test_every_jitted_function_of_the_library_is_among_them():
    found = set()
    for module in pkgutil.walk_packages(jsnnq.__path__, "jsnnq."):
        if not module.name.endswith("__main__"):
            values = vars(importlib.import_module(module.name)).values()
            found |= {x for x in values if isinstance(x, type(evaluate._add))}
    assert found == LOWERED
