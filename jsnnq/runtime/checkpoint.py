"""A tree of arrays to disk and back through Orbax, whole or not at all.

Orbax writes and reads the arrays, but keeps no checksum over the values: one flipped
bit in its data file comes back as a wrong weight, without a word. So a manifest beside
the arrays holds the SHA-256 of every leaf, of every file Orbax wrote, and of itself.
The files are compared before Orbax decodes a byte of them, the leaves before a value is
handed out.

On disk a checkpoint is a directory with one finished step in it:

    PATH/jsnnq_checkpoint_7/tree            the arrays, as Orbax writes a pytree
    PATH/jsnnq_checkpoint_7/manifest.json   {"files", "leaves", "metadata", "sha256"}

Everything is written into a hidden directory beside PATH and then renamed: the whole
of it to PATH the first time, so that PATH exists only with a checkpoint in it; later
its step into PATH, after which the old step is removed. A process killed at any moment
therefore leaves the old checkpoint or the new one, and the next save removes what it
left unfinished. Nothing is renamed before it was read back. (Data the operating system
still holds when the power fails can be lost; the digests notice.)
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnnq.errors import InputError
from jsnnq.runtime.paths import plainly_named

_STEP = "jsnnq_checkpoint_"  # No one else's name: such directories are removed.
FILE_BYTES = 16 * 2**20
"""No file of a checkpoint is larger: some places take no large files."""

_TREE = "tree"
_MANIFEST = "manifest.json"


def save(path: str | os.PathLike[str], tree: Any, metadata: dict[str, Any]) -> None:
    """Writes a tree and its metadata, replacing the checkpoint that was there.

    One process writes at a time, and every array must be addressable from it.

    Args:
        path: directory of the checkpoint; made when missing. Other files in it are
            left alone.
        tree: a pytree of arrays (dictionaries, lists, NamedTuples, flax structs) with
            at least one leaf, no empty array and no dot in a key (Orbax joins keys
            with dots). Python numbers become 0-d arrays.
        metadata: anything `json.dumps` takes.

    Raises:
        InputError: the directory cannot be made or written, the disk is full, or what
            was written does not come back. The checkpoint that was there is then as it
            was.
    """
    path = Path(path).absolute()
    plain = _plain(tree, np.asarray)
    content = {"leaves": _plain(plain, _fingerprint), "metadata": metadata}
    _digest_of_json(content)  # What JSON cannot hold is refused before anything moves.
    try:
        _replace(path, plain, content)
    except Exception as error:
        reason = _system_reason(error)
        if reason is None:  # Not the disk's fault: a defect keeps its traceback.
            raise
        raise InputError(
            f"cannot write the checkpoint {path} ({reason}): give a directory that "
            f"can be written and has {_room(plain) / 1e6:.1f} MB free; nothing that "
            "existed was changed"
        ) from error


def restore(
    path: str | os.PathLike[str], like: Any = None
) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint back and verifies every file and every leaf.

    Args:
        path: directory given to `save`.
        like: a tree of the structure wanted, of arrays or `jax.ShapeDtypeStruct`;
            shapes and dtypes must agree, nothing is cast. Without it NamedTuples and
            structs come back as dictionaries, tuples as lists, `None` as `{}`.

    Returns:
        The tree and the metadata. A leaf is a NumPy array, except that with `like` it
        is of the kind found there: a `jax.Array` (also for `jax.ShapeDtypeStruct`), a
        NumPy array or a Python number.

    Raises:
        InputError: there is no complete checkpoint, it is damaged (the file or the
            leaf is named), or it does not fit `like` (leaf, expected and found are
            named).
    """
    path = Path(path).absolute()
    step, manifest = _newest(path)
    if like is not None:
        _check_fit(path, manifest["leaves"], like)
    plain = _verified_arrays(step, manifest)
    return (plain if like is None else _fill(like, plain)), manifest["metadata"]


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the metadata of a checkpoint without its arrays and without Orbax.

    Args:
        path: directory given to `save`.

    Returns:
        The metadata as JSON gives it back (tuples are lists, keys are strings).

    Raises:
        InputError: there is no complete checkpoint, or its manifest is damaged.
    """
    return _newest(Path(path).absolute())[1]["metadata"]


# The tree in plain form: what Orbax is given and what the manifest describes.


def _plain(node: Any, convert: Callable[[Any], Any]) -> Any:
    """The tree as nested dictionaries and lists, each leaf converted.

    Empty containers stay, so that a collection without arrays is not forgotten.
    """
    children = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda inner: inner is not node
    )[0]
    if any(not path for path, _ in children):
        return convert(node)
    if isinstance(node, list | tuple) and not hasattr(node, "_fields"):
        return [_plain(child, convert) for _, child in children]
    return {_name(path)[0]: _plain(child, convert) for path, child in children}


def _name(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A leaf's path in words; the same for a struct and for its plain form."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _by_name(tree: Any) -> dict[tuple[str, ...], Any]:
    """The leaves of a tree under their paths."""
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _fill(like: Any, plain: Any) -> Any:
    """The structure of `like` and its kinds of leaves, with the values of `plain`."""
    values = _by_name(plain)

    def fill(path, leaf):
        value = values[_name(path)]
        if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            return jnp.asarray(value, dtype=value.dtype)
        return value if hasattr(leaf, "dtype") else value.item()

    return jax.tree.map_with_path(fill, like)


# The manifest: what every leaf and every file must be, and a digest over itself.


def _shape(leaf: Any) -> str:
    """Dtype and shape as in `float32[3,3,64]`."""
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"


def _fingerprint(leaf: np.ndarray) -> str:
    """Dtype, shape and the digest of the bytes, as one word each."""
    return f"{_shape(leaf)} {hashlib.sha256(leaf.tobytes()).hexdigest()}"


def _digest_of_json(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(step: Path) -> dict[str, Any]:
    file = step / _MANIFEST
    with _reading(file):
        text = file.read_bytes()
    try:
        content = json.loads(text.decode())
        intact = content.pop("sha256") == _digest_of_json(content)
    except (ValueError, KeyError, AttributeError, TypeError):  # Not our JSON any more.
        intact = False
    if not intact:
        raise _damaged(file, "its content")
    return content


def _difference(leaves: Any, plain: Any) -> str:
    """What is not as it was when it was given to Orbax, or nothing."""
    found = _plain(plain, _fingerprint)
    if found == leaves:
        return ""
    names = _by_name(found)
    for name, fingerprint in _by_name(leaves).items():
        if names.get(name) != fingerprint:
            return f"the leaf {'/'.join(name)}"
    return "the structure of the tree"


def _damaged(file: Path, what: str) -> InputError:
    return InputError(
        f"the checkpoint {file} is damaged, {what} is not what was saved (SHA-256): "
        "delete the checkpoint and make it again, or take it from a copy"
    )


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the checkpoint {file} cannot be read ({_system_reason(error)}): make it "
            "readable, or delete the checkpoint and make it again"
        ) from error


def _check_fit(path: Path, leaves: Any, like: Any) -> None:
    """Refuses a checkpoint whose leaves are not those of `like`."""
    found = {name: leaf.split()[0] for name, leaf in _by_name(leaves).items()}
    expected = {name: _shape(leaf) for name, leaf in _by_name(like).items()}
    both = [name for name in expected if name in found]
    wrong = [name for name in both if found[name] != expected[name]]
    kinds = (
        [f"{'/'.join(n)} expected {expected[n]} found {found[n]}" for n in wrong],
        [f"- {'/'.join(name)}" for name in expected if name not in found],
        [f"+ {'/'.join(name)}" for name in found if name not in expected],
    )
    faults = []
    for kind in kinds:  # Of another architecture there would be hundreds.
        rest = [f"and {len(kind) - 3} more of this kind"] if len(kind) > 3 else []
        faults += kind[:3] + rest
    if faults:
        raise InputError(
            f"the checkpoint {path} does not fit the network it is read into "
            f"(- missing, + unexpected): {', '.join(faults)}; build the network the "
            "checkpoint was saved from"
        )


# Steps on disk.


def _finished(path: Path) -> list[tuple[int, Path]]:
    """The complete steps of a checkpoint directory with their numbers, oldest first.

    More than one is there only when a save was killed after its step was complete.
    """
    steps = ((step.name.removeprefix(_STEP), step) for step in path.glob(f"{_STEP}*"))
    return sorted((int(digits), step) for digits, step in steps if digits.isdecimal())


def _newest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The newest step and its manifest."""
    steps = _finished(path)
    if not steps:
        raise InputError(
            f"there is no complete checkpoint at {path}: give a directory in which "
            "jsnnq saved one"
        )
    step = steps[-1][1]
    return step, _read_manifest(step)


def _replace(path: Path, plain: Any, content: dict[str, Any]) -> None:
    """Writes the next step and, once it is complete, removes those before it."""
    replaced = _finished(path)
    number = replaced[-1][0] + 1 if replaced else 0
    # The whole name might leave no room: a file system has 255 bytes for one.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    unfinished = path.with_name(f".{path.name[:32]}-{digest}.jsnnq_unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # Left by a save that was killed.
    try:
        step = unfinished / f"{_STEP}{number}"
        _write_step(step, plain, content)
        if path.exists():
            step.rename(path / step.name)
        else:
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    for _, step in replaced:
        shutil.rmtree(step, ignore_errors=True)


def _write_step(step: Path, plain: Any, content: dict[str, Any]) -> None:
    import orbax.checkpoint as ocp

    step.mkdir(parents=True)
    # Asks the disk for the room. It answers with an OSError; asked by Orbax, with the
    # tracebacks of a dozen threads, which no caller can keep from the terminal.
    trial = step / "trial"
    trial.write_bytes(bytes(_room(plain)))
    trial.unlink()
    # Orbax begins another file once one holds as much as it was told; the pieces of
    # the last array may still be under way by then.
    piece = ocp.SaveArgs(chunk_byte_size=FILE_BYTES // 8)
    arguments = ocp.args.PyTreeSave(
        plain,
        save_args=jax.tree.map(lambda _: piece, plain),
        ocdbt_target_data_file_size=FILE_BYTES // 2,
    )
    with _orbax(step) as (checkpointer, place):
        checkpointer.save(place, args=arguments)
    if difference := _difference(content["leaves"], _read_arrays(step)):
        raise InputError(
            f"cannot write the checkpoint {step}: {difference} does not come back as "
            "it was written; nothing that existed was changed, so give a directory on "
            "another disk"
        )
    files = sorted(file for file in (step / _TREE).rglob("*") if file.is_file())
    digests = {str(file.relative_to(step)): _digest_of_file(file) for file in files}
    content = {"files": digests, **content}
    text = json.dumps({**content, "sha256": _digest_of_json(content)}, indent=1)
    (step / _MANIFEST).write_text(text)


def _room(plain: Any) -> int:
    """Bytes a checkpoint needs at most: Orbax compresses, but not every tree shrinks.

    A leaf's name, shape and digests took under 1 kB, a step's fixed files 64 kB.
    """
    leaves = jax.tree.leaves(plain)
    return sum(leaf.nbytes + 1024 for leaf in leaves) + 65536


@contextlib.contextmanager
def _orbax(step: Path) -> Iterator[tuple[Any, Path]]:
    """What writes and reads the arrays of a step, and their place."""
    import orbax.checkpoint as ocp

    with (
        plainly_named(step) as place,
        contextlib.closing(ocp.PyTreeCheckpointer()) as checkpointer,
    ):
        yield checkpointer, place / _TREE


def _read_arrays(step: Path) -> Any:
    with _orbax(step) as (checkpointer, place):
        return checkpointer.restore(place)


def _verified_arrays(step: Path, manifest: dict[str, Any]) -> Any:
    """The arrays of a step whose files, and then whose leaves, are as they were."""
    for name, digest in manifest["files"].items():
        with _reading(step / name):
            found = _digest_of_file(step / name)
        if found != digest:
            raise _damaged(step / name, "its content")
    try:
        plain = _read_arrays(step)
    except InputError:
        raise
    # Before it read back what it wrote, jsnnq kept what Orbax had left unmerged.
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"the checkpoint {step} was not written whole, Orbax cannot read it "
            f"({reason}): delete the checkpoint and make it again"
        ) from error
    if difference := _difference(manifest["leaves"], plain):
        raise _damaged(step / _TREE, difference)
    return plain


def _system_reason(error: Exception) -> str | None:
    """What the operating system refused, or None when it refused nothing.

    TensorStore, below Orbax, raises a ValueError that carries the code in its text.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else None
