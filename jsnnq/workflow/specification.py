"""A network as JSON values, and back: what `save` writes and `load` builds from.

Only settings are written, under the names of classes that jsnnq has. Code is never
stored: of a class or function of one's own its name is kept, to say what is missing,
and whoever loads the network hands it in.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jsnnq.errors import InputError
from jsnnq.networks.bnn import BinaryResNet
from jsnnq.networks.network import Network
from jsnnq.networks.neurons import Neuron
from jsnnq.networks.rules import Rules
from jsnnq.networks.sew import SEWResNet
from jsnnq.networks.surrogate import SURROGATES
from jsnnq.quantizers import (
    STE,
    LQNet,
    Mint,
    SnnTorch,
    StoMPP,
    Uniform,
)
from jsnnq.quantizers.base import Identity

_CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(SEWResNet, BinaryResNet, Neuron, Rules, *SURROGATES.values()),
        *(Identity, Uniform, LQNet, SnnTorch, Mint, STE, StoMPP),
    )
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
"""The dtypes of products, by the names that files and configs have for them."""

_OF_FLAX = ("parent", "name")  # Every module has these fields.


def specify(value: Any) -> Any:
    """A network, or what it is made of, as JSON values; `build` is its inverse."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [specify(one) for one in value]
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        known = _CLASSES.get(kind.__name__) is kind
        fields = {
            field.name: specify(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in _OF_FLAX
        }
        return {"class" if known else "own": _name(kind), **fields}
    for name, dtype in DTYPES.items():
        if value is dtype or value == np.dtype(name):
            return {"dtype": name}
    return {"own": _name(value)}


def _name(value: Any) -> str:
    """What a class or function is called, for messages."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    if _CLASSES.get(kind.__name__) is kind:
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def own_parts(values: Any) -> list[str]:
    """Names of the classes and functions in a specification that jsnnq has not."""
    if isinstance(values, list):
        return [name for one in values for name in own_parts(one)]
    if not isinstance(values, dict):
        return []
    inner = own_parts([one for key, one in values.items() if key != "own"])
    return ([values["own"]] if "own" in values else []) + inner


def build(values: Any) -> Any:
    """What `specify` was given.

    Raises:
        InputError: it has parts that jsnnq has not, or settings of a newer version.
    """
    if isinstance(values, list):
        return tuple(build(one) for one in values)
    if not isinstance(values, Mapping):
        return values
    if "dtype" in values and len(values) == 1:
        return DTYPES[values["dtype"]]
    if values.get("class") not in _CLASSES:
        raise InputError(
            f"{values.get('own') or values.get('class')!r} is no class that jsnnq "
            "has: hand the network in, as load(FOLDER, network=net)"
        )
    kind = _CLASSES[values["class"]]
    fields = {name: build(one) for name, one in values.items() if name != "class"}
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := fields.keys() - known:
        raise InputError(
            f"{kind.__name__} was written with settings that this version of jsnnq "
            f"does not know ({', '.join(sorted(unknown))}): use a newer one"
        )
    return kind(**fields)


def check_same(network: Network, values: Any) -> None:
    """Refuses a network that is another than the one that was written.

    Raises:
        InputError: with the first difference.
    """
    if difference := _difference(values, specify(network), ""):
        raise InputError(
            f"the network that is given is not the one that was saved ({difference}): "
            "give it with the settings and quantizers that it was saved with"
        )


def _difference(known: Any, given: Any, path: str) -> str:
    if isinstance(known, dict) and isinstance(given, dict):
        # A setting that a newer version added has its usual value.
        for name in known:
            here = f"{path}.{name}" if path else name
            if found := _difference(known[name], given.get(name), here):
                return found
        return ""
    return "" if known == given else f"{path} was {known!r}, is {given!r}"
