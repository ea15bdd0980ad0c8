"""What training, calibrating and loading return: variables that are ready to use."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from jsnnq.data import batches
from jsnnq.data.arrays import DataSet
from jsnnq.data.batches import Preprocessing
from jsnnq.errors import InputError
from jsnnq.networks import quantize
from jsnnq.networks.network import Network, check_network, input_shape
from jsnnq.runtime.compiling import once
from jsnnq.training import step
from jsnnq.training.step import TrainState
from jsnnq.workflow.freezing import scheduled


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["training"],
    meta_fields=["network", "preprocessing", "image_shape"],
)
@dataclasses.dataclass(frozen=True)
class State:
    """A trained or calibrated network's numbers, a pytree.

    Attributes:
        training: the state of its training; see `jsnnq.training.step`.
        network: whose variables they are.
        preprocessing: how it sees pixels.
        image_shape: of an input without the batch, `H W C` or, for frames, `T H W C`.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> state = jsnnq.calibrate(net, variables, data)
        >>> state.inputs(data.test.images).shape, int(state.step)
        ((256, 8, 8, 1), 0)
    """

    training: TrainState
    network: Network
    preprocessing: Preprocessing
    image_shape: tuple[int, ...]

    @property
    def variables(self) -> dict[str, Any]:
        """What `net.apply` takes."""
        return self.training.variables

    @property
    def step(self) -> Any:
        """How many steps of training have been made."""
        return self.training.step

    def inputs(self, images: Any) -> Float[Array, "*T B H W C"]:
        """What `net.apply` reads where these images are shown.

        Args:
            images: as in the data that it was trained on, `B H W C`, or frames
                `B T H W C`.
        """
        return self.preprocessing(jnp.asarray(images), self.network.dtype)


def check_state(state: Any) -> State:
    """What is given, if it knows how a network sees pixels.

    Raises:
        InputError: it is no `State`.
    """
    if not isinstance(state, State):
        raise InputError(
            f"state is a {type(state).__name__}: give what fit, calibrate or load "
            "return, which knows how the network sees pixels"
        )
    return state


def written(state: State) -> dict[str, Any]:
    """How a state sees pixels, as JSON values; `read` is its inverse."""
    return {
        "preprocessing": state.preprocessing._asdict(),
        "image_shape": list(state.image_shape),
    }


def read(net: Network, variables: Mapping[str, Any], metadata: Any) -> State:
    """The state of a network that was stored, none of whose training is known.

    Args:
        net: the network.
        variables: that were stored.
        metadata: what `written` said.
    """
    seen = metadata["preprocessing"]
    preprocessing = Preprocessing(
        tuple(seen["mean"]), tuple(seen["std"]), seen["scale"]
    )
    shape = tuple(metadata["image_shape"])
    return State(_untouched(variables), net, preprocessing, shape)


def _untouched(variables):
    return TrainState(
        jnp.int32(0),
        variables["params"],
        variables.get("batch_stats", {}),
        variables.get("quant", {}),
        (),
    )


def check_fits(net: Network, data: DataSet) -> None:
    """Refuses data that a network cannot be trained or evaluated on.

    Raises:
        InputError: it is no network, has too few classes, or another number of
            timesteps than there are frames.
    """
    check_network(net)
    classes = getattr(net, "classes", data.classes)
    if classes < data.classes:
        raise InputError(
            f"the network has {classes} classes and {data.name} {data.classes}: make "
            f"it with classes={data.classes}"
        )
    if len(data.image_shape) == 4 and data.image_shape[0] != net.timesteps:
        raise InputError(
            f"{data.name} has {data.image_shape[0]} frames and the network "
            f"{net.timesteps} timesteps: make it with timesteps={data.image_shape[0]}"
        )


def untrained(net: Network, variables: Mapping[str, Any], data: DataSet) -> State:
    """Variables that no training has touched, as a state.

    Args:
        net: whose they are.
        variables: parameters and collections.
        data: how pixels are seen, and the shape of an image.
    """
    return State(_untouched(variables), net, data.preprocessing, data.image_shape)


def initial_variables(
    net: Network, key: jax.Array, image_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Parameters and running statistics of a network without its quantizers."""
    return _initializer(cast(Any, net.bare), input_shape(image_shape))(key)


def abstract_variables(net: Network, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Shapes and dtypes of a network's variables, its quantizers' states included."""
    shape = input_shape(image_shape)
    # A window that is left to a training has no part in shapes.
    net = scheduled(net, net.layers(shape), epochs=1, steps_per_epoch=None)
    floats = _shapes(cast(Any, net.bare), shape)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    starts = functools.partial(quantize.quantize, net)
    return jax.eval_shape(starts, floats, jax.random.key(0), images)


def _initialize(net, shape, key):
    return dict(net.init(key, jnp.zeros(shape)))


@functools.lru_cache(64)  # A start is held against them before and after a claim.
def _shapes(net, shape):
    return jax.eval_shape(functools.partial(_initialize, net, shape), jax.random.key(0))


@functools.cache
def _initializer(net, shape):
    return once(functools.partial(_initialize, net, shape))


def start(
    net: Network,
    data: DataSet,
    *,
    seed: int = 0,
    given: State | Mapping[str, Any] | None = None,
    calibration: int = 256,
) -> dict[str, Any]:
    """The variables a training starts from, with the states of its quantizers.

    Args:
        net: the network.
        data: its images; some of them calibrate quantizers that look at values.
        seed: of the run.
        given: a state or variables to start from; by default random ones.
        calibration: how many images are used.

    Raises:
        InputError: what is given belongs to another architecture.
    """
    streams = step.keys(seed)
    if given is None:
        variables = initial_variables(net, streams.init, data.image_shape)
    else:
        variables = check_architecture(net, given, data.image_shape)
    if net == net.bare:
        return {**variables, "quant": {}}
    before = given.network if isinstance(given, State) else None
    images = calibration_images(data, calibration, streams.order, net.dtype)
    return quantize.quantize(net, variables, streams.init, images, before=before)


def calibration_images(
    data: DataSet, count: int, key: jax.Array, dtype: Any = jnp.float32
) -> jax.Array:
    """The first training images of the run's own order, normalised, not augmented.

    Args:
        data: whose training images.
        count: how many; all of them if there are fewer.
        key: the run's stream of orders.
        dtype: of the network.

    Returns:
        What the network reads, `B H W C`, or frames `T B H W C`.
    """
    order = np.asarray(batches.epoch_order(key, 0, len(data.train)))
    images, _ = data.train.read(order[: min(count, len(order))])
    return data.preprocessing(jnp.asarray(images), dtype)


def check_architecture(
    net: Network,
    given: State | Mapping[str, Any],
    image_shape: tuple[int, ...],
) -> Mapping[str, Any]:
    """The variables that are given, if they are those of such a network.

    Raises:
        InputError: they belong to another architecture.
    """
    variables = given.variables if isinstance(given, State) else given
    shape = input_shape(image_shape)
    needed = _shapes(cast(Any, net.bare), shape)
    for collection in ("params", "batch_stats"):
        wanted: Any = flatten_dict(needed.get(collection, {}), sep="/")
        known: Any = flatten_dict(dict(variables).get(collection, {}), sep="/")
        for path, leaf in wanted.items():
            found = known.get(path)
            if found is None or jnp.shape(found) != leaf.shape:
                there = "nothing" if found is None else f"shape {jnp.shape(found)}"
                raise InputError(
                    f"start is of another network: {collection}/{path} has {there} and "
                    f"{leaf.shape} is needed: give a state of the same architecture, "
                    "trained on images of the same shape"
                )
    return variables
