"""Networks on disk: a folder with everything that is needed to use one.

The checkpoint holds the variables and, as metadata, the network's settings, how it
sees pixels and the shape of an image. No data set is needed to read it, and no code is
in it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsnnq.errors import InputError
from jsnnq.interop import packed
from jsnnq.networks.network import Network, check_network
from jsnnq.runtime import checkpoint
from jsnnq.workflow import specification
from jsnnq.workflow.export import import_
from jsnnq.workflow.state import (
    State,
    abstract_variables,
    check_state,
    read,
    written,
)

FORMAT = 1
"""Of the metadata; a file of a newer one is refused."""


def save(
    folder: str | os.PathLike[str],
    net: Network,
    state: State | Mapping[str, Any],
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network into a folder, whole or not at all.

    Args:
        folder: made when missing; what was saved there before is replaced.
        net: the network.
        state: from `fit`, `calibrate` or `load`.
        about: JSON values that are kept beside it.

    Raises:
        InputError: it cannot be written, or the state is none.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> jsnnq.save("NET", net, jsnnq.calibrate(net, variables, data))
        >>> again, state = jsnnq.load("NET")
        >>> again == net
        True
    """
    check_network(net)
    known = check_state(state)
    metadata = {
        "format": FORMAT,
        "network": specification.specify(net),
        **written(known),
        **(about or {}),
    }
    checkpoint.save(Path(folder), known.variables, metadata)


def load(
    folder: str | os.PathLike[str], *, network: Network | None = None
) -> tuple[Network, State]:
    """Reads back what `save` wrote, or what a command stored.

    Args:
        folder: as given to `save`, or that of a run; or a file of `export`.
        network: the network itself, if it, a quantizer, a surrogate or a neuron of it
            is one of your own: code is never stored.

    Returns:
        The network with its quantizers, and its state.

    Raises:
        InputError: there is no network, it is damaged or of a newer version, or one of
            your own is needed and not given, or is another.

    Example:
        >>> data = jsnnq.load_data("synthetic")
        >>> net = jsnnq.sew_resnet("sew_resnet8", classes=10, width=0.05)
        >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> jsnnq.save("NET", net, jsnnq.calibrate(net, variables, data))
        >>> net, state = jsnnq.load("NET", network=net)
        >>> logits, seen = net.apply(state.variables, state.inputs(data.test.images))
        >>> logits.shape
        (4, 256, 10)
    """
    if Path(folder).is_file():
        return import_(folder)
    path = folder_of(folder)
    metadata = checkpoint.read_metadata(path)
    if "network" not in metadata:
        raise no_network(folder)
    if metadata["format"] > FORMAT:
        raise InputError(
            f"{str(folder)!r} was written by a newer version of jsnnq (format "
            f"{metadata['format']}, known is {FORMAT}): use a newer one"
        )
    net = _network(folder, metadata["network"], network)
    like = abstract_variables(net, tuple(metadata["image_shape"]))
    variables, _ = checkpoint.restore(path, like)
    return net, read(net, variables, metadata)


def metadata_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What is known of a stored network beside its variables.

    Args:
        path: a file of `export`, or a folder as for `load`.
    """
    if Path(path).is_file():
        return packed.metadata(Path(path))
    return checkpoint.read_metadata(folder_of(path))


def no_network(folder: str | os.PathLike[str]) -> InputError:
    """The refusal of a checkpoint that is something else."""
    return InputError(
        f"{str(folder)!r} is a checkpoint, but not of a finished network: give the "
        "folder that 'jsnnq train', 'jsnnq study' or jsnnq.save made"
    )


def folder_of(folder: str | os.PathLike[str]) -> Path:
    """Where the checkpoint lies: there, or inside the folder of a run."""
    path = Path(folder)
    return path / "checkpoint" if (path / "checkpoint").is_dir() else path


def _network(folder, written, given):
    own = specification.own_parts(written)
    if given is None and own:
        raise InputError(
            f"{str(folder)!r} holds a network with {' and '.join(own)}, which jsnnq "
            "has not and never stores: give the network, as load(FOLDER, network=net)"
        )
    if given is None:
        return specification.build(written)
    check_network(given)
    specification.check_same(given, written)
    return given
