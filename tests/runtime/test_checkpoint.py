"""A checkpoint comes back bit for bit, or is refused in one sentence."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jsnnq.errors import InputError
from jsnnq.runtime import checkpoint
from tests.programs import python

_METADATA = {"config": {"bits": 4, "clip": 0.1, "name": "é"}, "epochs": [1, 2]}


def _random_bits(dtype, shape, seed):
    """Every bit pattern the dtype has, NaN and negative zero among them."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    bits = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return bits.view(dtype).reshape(shape)


def _tree():
    return {
        "params": {
            "conv": {"kernel": _random_bits(np.float32, (3, 3, 4, 8), 0)},
            "dense": {"bias": np.zeros(10, np.float32)},
            "half": _random_bits(jnp.bfloat16, (5, 7), 1),
        },
        "quant": {
            "codes": _random_bits(np.int8, (200,), 2),
            "mask": _random_bits(np.uint32, (3, 9), 3),
            "signs": np.array([-1.0, -0.0, 1.0] * 20, np.float32),
        },
        "empty": {},
        "deeper": {"empty": {"again": {}}, "list": [np.ones(2, np.int32), {}]},
        "step": np.int32(7),
    }


def _assert_same(found, expected):
    bits = lambda leaf: (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes())
    assert jax.tree.map(bits, found) == jax.tree.map(bits, expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run" / "float-0"
    checkpoint.save(path, _tree(), _METADATA)
    return path


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _files(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


# Round trips


def test_every_dtype_and_empty_dictionary_comes_back(saved):
    tree, metadata = checkpoint.restore(saved)
    _assert_same(tree, _tree())
    assert metadata == _METADATA
    assert checkpoint.read_metadata(saved) == _METADATA


def test_orbax_itself_reads_the_arrays(saved):
    found = ocp.PyTreeCheckpointer().restore(saved / "jsnnq_checkpoint_0" / "tree")
    _assert_same(found, _tree())


class _Moments(NamedTuple):
    zeta: jax.Array
    alpha: dict


@flax.struct.dataclass
class _State:
    params: dict
    moments: _Moments
    optimizer: tuple
    steps: int
    rates: np.ndarray
    absent: None = None
    apply: object = flax.struct.field(pytree_node=False, default=None)


def _state(scale=1.0):
    params = {"kernel": jnp.full((2, 3), scale)}
    return _State(
        params=params,
        moments=_Moments(jnp.arange(3.0) * scale, {"b": jnp.int8(2)}),
        optimizer=optax.adam(0.1).init(params),
        steps=int(scale * 5),
        rates=np.full(4, scale, np.float64),
        apply=len,
    )


def test_like_gives_back_structs_and_the_kind_of_each_leaf(tmp_path):
    checkpoint.save(tmp_path / "state", _state(3.0), {})
    found, _ = checkpoint.restore(tmp_path / "state", _state())
    assert jax.tree.structure(found) == jax.tree.structure(_state())
    assert found.apply is len
    assert found.steps == 15
    assert type(found.steps) is int
    assert type(found.rates) is np.ndarray
    assert isinstance(found.params["kernel"], jax.Array)
    np.testing.assert_array_equal(found.moments.zeta, [0, 3, 6])
    np.testing.assert_array_equal(found.params["kernel"], np.full((2, 3), 3.0))


def test_like_may_be_abstract(saved):
    like = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, _tree()))
    tree, _ = checkpoint.restore(saved, like)
    _assert_same(tree, _tree())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))


def test_without_like_structs_are_dictionaries_and_tuples_lists(tmp_path):
    checkpoint.save(tmp_path / "state", _state(), {})
    tree, _ = checkpoint.restore(tmp_path / "state")
    assert set(tree["moments"]) == {"zeta", "alpha"}
    assert tree["absent"] == {}
    assert tree["optimizer"][0]["mu"]["kernel"].shape == (2, 3)


def test_saving_again_replaces_and_leaves_other_files_alone(copy):
    (copy / "notes.txt").write_text("mine")
    (copy / "checkpoint_9").mkdir()
    checkpoint.save(copy, {"a": np.ones(2)}, {"version": 2})
    tree, metadata = checkpoint.restore(copy)
    assert (list(tree), metadata) == (["a"], {"version": 2})
    left = ["checkpoint_9", "jsnnq_checkpoint_1", "notes.txt"]
    assert sorted(os.listdir(copy)) == left


def test_files_are_small_enough_to_travel(tmp_path, monkeypatch):
    """Whatever the arrays are: many small ones, one larger than a file may be."""
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 2**20)
    tree = {
        "large": _random_bits(np.float32, (3, 3, 512, 300), 0),
        "odd": _random_bits(np.float32, (3, 3, 509, 300), 1),
        "many": [_random_bits(np.float32, (300, 300), i) for i in range(8)],
    }
    checkpoint.save(tmp_path / "large", tree, {})
    sizes = [file.stat().st_size for file in _files(tmp_path / "large")]
    assert max(sizes) <= 2**20
    assert sum(sizes) > 8 * 2**20
    found, _ = checkpoint.restore(tmp_path / "large", tree)
    _assert_same(found, tree)


def test_nothing_is_printed(tmp_path, capfd):
    checkpoint.save(tmp_path / "quiet", _tree(), {})
    checkpoint.restore(tmp_path / "quiet", _tree())
    for file in _files(tmp_path):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError):
        checkpoint.restore(tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")


# Damage


def _restored_or_refused(path):
    """True if the checkpoint came back; then it must be what was saved."""
    try:
        tree, metadata = checkpoint.restore(path)
    except InputError:
        return False
    _assert_same(tree, _tree())
    assert metadata == _METADATA
    return True


def _flipped_bits(data):
    for position in np.random.default_rng(0).integers(0, 8 * len(data), 12):
        damaged = bytearray(data)
        damaged[position % len(data)] ^= 1 << (position % 8)
        yield bytes(damaged)


def _truncated(data):
    for kept in (0, len(data) // 2, len(data) - 1):
        yield data[:kept]


@pytest.mark.parametrize("damage", [_flipped_bits, _truncated])
def test_damage_to_any_file_is_noticed(copy, damage):
    for file in _files(copy):
        data = file.read_bytes()
        for damaged in damage(data):
            file.write_bytes(damaged)
            assert not _restored_or_refused(copy), file
        file.write_bytes(data)
    assert _restored_or_refused(copy)


def test_missing_files_are_noticed(copy):
    for file in _files(copy):
        data = file.read_bytes()
        file.unlink()
        with pytest.raises(InputError, match="No such file"):
            checkpoint.restore(copy)
        file.write_bytes(data)


def test_metadata_alone_is_verified_too(copy):
    manifest = copy / "jsnnq_checkpoint_0" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bits": 4', '"bits": 5'))
    with pytest.raises(InputError, match="manifest.json is damaged"):
        checkpoint.read_metadata(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"sha256": 1}', "\x00"])
def test_a_foreign_manifest_is_refused(copy, text):
    (copy / "jsnnq_checkpoint_0" / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="manifest.json is damaged"):
        checkpoint.restore(copy)


def test_a_value_orbax_changed_is_named_by_its_leaf(copy, monkeypatch):
    def restore(self, directory):
        tree = jax.tree.map(np.array, _tree())
        tree["quant"]["signs"][1] = 0.0  # equal to -0.0, but not the bit
        return tree

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "restore", restore)
    with pytest.raises(InputError, match="the leaf quant/signs is not"):
        checkpoint.restore(copy)


@pytest.mark.parametrize("change", [{"empty": {"new": {}}}, {"extra": np.ones(1)}])
def test_a_structure_orbax_changed_is_refused(copy, monkeypatch, change):
    tree = jax.tree.map(np.array, _tree()) | change
    monkeypatch.setattr(ocp.PyTreeCheckpointer, "restore", lambda *_: tree)
    with pytest.raises(InputError, match="structure of the tree"):
        checkpoint.restore(copy)


# A tree that does not fit


def _refusal(path, like):
    with pytest.raises(InputError, match="does not fit") as caught:
        checkpoint.restore(path, like)
    return str(caught.value)


def test_wrong_shape_names_leaf_expected_and_found(saved):
    like = _tree()
    like["params"]["conv"]["kernel"] = np.zeros((3, 3, 4, 16), np.float32)
    assert (
        "params/conv/kernel expected float32[3,3,4,16] found float32[3,3,4,8]"
        in _refusal(saved, like)
    )


def test_wrong_dtype_is_not_cast(saved):
    like = _tree()
    like["params"]["half"] = jax.ShapeDtypeStruct((5, 7), jnp.float32)
    expected = "params/half expected float32[5,7] found bfloat16[5,7]"
    assert expected in _refusal(saved, like)


def test_missing_and_unexpected_leaves_are_listed(saved):
    like = _tree()
    like["params"]["conv2"] = like["params"].pop("conv")
    message = _refusal(saved, like)
    assert "- params/conv2/kernel" in message
    assert "+ params/conv/kernel" in message
    assert " found " not in message


def test_another_architecture_is_refused_in_one_short_sentence(tmp_path):
    def network(layers, width):
        return {
            f"layer{i}": {"kernel": np.zeros((3, 3, width, width), np.float32)}
            for i in range(layers)
        }

    checkpoint.save(tmp_path / "small", network(8, 4), {})
    message = _refusal(tmp_path / "small", network(34, 8))
    assert "layer0/kernel expected float32[3,3,8,8] found float32[3,3,4,4]" in message
    assert "and 5 more of this kind, - " in message  # 8 common leaves, 3 shown
    assert "and 23 more of this kind; build" in message  # 26 missing leaves, 3 shown
    assert len(message) < 600
    assert "\n" not in message


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_no_checkpoint_there(tmp_path, make):
    make(tmp_path / "nothing")
    with pytest.raises(InputError, match="no complete checkpoint"):
        checkpoint.restore(tmp_path / "nothing")
    with pytest.raises(InputError, match="no complete checkpoint"):
        checkpoint.read_metadata(tmp_path / "nothing")


# Whole or not at all

_KILLED = """
import hashlib, os, shutil, signal, sys
from pathlib import Path
import numpy as np
import orbax.checkpoint as ocp
from jsnnq.runtime import checkpoint

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

remove = shutil.rmtree
def die_halfway(directory, **options):
    if Path(directory).name == "jsnnq_checkpoint_0":
        next(Path(directory).rglob("_METADATA")).unlink()
        die()
    remove(directory, **options)

stages = {
    "arrays": lambda: setattr(ocp.PyTreeCheckpointHandler, "finalize", die),
    "manifest": lambda: setattr(hashlib, "file_digest", die),
    "rename": lambda: setattr(Path, "rename", die),
    "removal": lambda: setattr(shutil, "rmtree", die_halfway),
    "first": lambda: setattr(Path, "rename", die),
}
for stage, prepare in stages.items():  # fork: the imports take longest
    if (child := os.fork()) == 0:
        prepare()
        checkpoint.save(Path(sys.argv[1]) / stage, {"a": np.full(3, 2.0)}, {"v": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, stage
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Checkpoints whose replacement was killed, each at another stage."""
    root = tmp_path_factory.mktemp("killed")
    for stage in ("arrays", "manifest", "rename", "removal"):
        checkpoint.save(root / stage, {"a": np.full(3, 1.0)}, {"v": 1})
    python(_KILLED, root, PYTHONPATH=str(Path(__file__).parents[2]))
    return root


@pytest.mark.parametrize(
    ("stage", "version"),
    [("arrays", 1), ("manifest", 1), ("rename", 1), ("removal", 2)],
)
def test_killed_at_any_stage_leaves_the_old_or_the_new(killed, stage, version):
    path = killed / stage
    assert len([*killed.glob(f".{stage}*"), *path.iterdir()]) == 2  # old, and rest
    tree, metadata = checkpoint.restore(path)
    np.testing.assert_array_equal(tree["a"], np.full(3, float(version)))
    assert metadata == {"v": version}
    checkpoint.save(path, {"a": np.full(3, 3.0)}, {"v": 3})
    assert os.listdir(path) == [f"jsnnq_checkpoint_{version}"]
    assert not list(killed.glob(f".{stage}*"))
    assert checkpoint.read_metadata(path) == {"v": 3}


def test_a_first_save_that_was_killed_leaves_no_checkpoint_behind(killed):
    assert list(killed.glob(".first*"))  # the test is worth something
    assert not (killed / "first").exists()


@contextlib.contextmanager
def _files_at_most(size):
    """A disk that takes no file beyond this size: it stands for a full one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _assert_unchanged(copy):
    """The checkpoint is the one that was there, and stands alone."""
    assert _restored_or_refused(copy)
    assert os.listdir(copy) == ["jsnnq_checkpoint_0"]


def _refused_write(path, reason):
    with pytest.raises(InputError, match=f"cannot write.*{reason}") as caught:
        checkpoint.save(path, {"a": np.ones(100_000)}, {})
    assert "\n" not in str(caught.value)


def test_no_room_changes_nothing(copy, tmp_path, capfd):
    with _files_at_most(100_000):
        _refused_write(copy, "File too large")
        _refused_write(tmp_path / "new", "File too large")
    _assert_unchanged(copy)
    assert not (tmp_path / "new").exists()
    assert capfd.readouterr() == ("", "")


def test_a_disk_that_fills_up_underway_changes_nothing(copy, monkeypatch):
    def fail(self, directory, args):
        directory.mkdir()
        (directory / "half").write_bytes(b"x")
        # TensorStore's words on a full tmpfs
        raise ValueError(
            "RESOURCE_EXHAUSTED: Error writing in OCDBT database: Failed to write "
            "2664971 bytes to file 14: No space left on device [os_error_code='28']"
        )

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "save", fail)
    _refused_write(copy, "No space left on device")
    monkeypatch.undo()
    _assert_unchanged(copy)


def test_a_defect_keeps_its_own_error_and_changes_nothing(copy):
    with pytest.raises(ValueError, match="zero size"):
        checkpoint.save(copy, {"a": np.ones((0, 3))}, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.save(copy, {"a": np.ones(3)}, {"b": object()})
    _assert_unchanged(copy)


@pytest.mark.parametrize("below", ["", "/deeper", "/deeper/still"])
def test_a_file_in_the_way_is_left_as_it_is(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    _refused_write(f"{tmp_path}/file{below}", "Not a directory")
    assert (tmp_path / "file").read_text() == "mine"


# Names that a library below takes for more than a name

_NAMES = {
    "brackets": "x[1]",
    "braces": "{a,b}",
    "star": "a*b",
    "stars": "a**b",
    "question": "q?",
    "backslash": "back\\slash",
    "home": "~",
    "format": "%d",
    "blanks": " two  blanks ",
    "newline": "a\nb",
    "dash": "-x",
    "quotes": "'\"",
    "dollar": "$HOME",
    "server": "gs:",
    "unicode": "網絡 é 📦",
    "undecodable": "\udcff",
    "long": "n" * 200,
    "longest": "é" * 127 + "n",
}


@pytest.mark.parametrize("below", [".", "net"])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", _NAMES.values(), ids=_NAMES)
def test_a_path_is_a_path_whatever_is_in_it(
    tmp_path, monkeypatch, name, absolute, below
):
    monkeypatch.chdir(tmp_path)
    path = (tmp_path if absolute else Path()) / name / below
    for version in (1, 2):
        checkpoint.save(path, {"a": np.full(3, float(version))}, {"v": version})
        tree, metadata = checkpoint.restore(path)
        np.testing.assert_array_equal(tree["a"], [version] * 3)
        assert metadata == checkpoint.read_metadata(path) == {"v": version}
    assert os.listdir(tmp_path) == [name]
    assert len(os.listdir(path)) == 1


def test_siblings_of_one_beginning_do_not_share_what_is_unfinished(tmp_path):
    """Long names differ in their ends; one is saved while the other was killed."""
    one, other = (tmp_path / ("n" * 240 + end) for end in "ab")
    checkpoint.save(one, {"a": np.ones(3)}, {})
    (left,) = _unfinished_of(one)
    assert _unfinished_of(other) != [left]
    left.mkdir()
    checkpoint.save(other, {"a": np.ones(3)}, {})
    assert left.exists()
    checkpoint.save(one, {"a": np.ones(3)}, {})
    assert not left.exists()


def _unfinished_of(path):
    """Where a save of this path works, seen while it writes."""
    seen = []

    def look(self, directory, args):
        seen.extend(path.parent.glob(".*.jsnnq_unfinished"))
        raise RuntimeError("seen")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocp.PyTreeCheckpointer, "save", look)
        with pytest.raises(RuntimeError, match="seen"):
            checkpoint.save(path, {"a": np.ones(3)}, {})
    return seen


@pytest.mark.parametrize("place", ["x[1]", "plain"])
def test_a_name_that_is_too_long_is_a_sentence(tmp_path, place):
    path = tmp_path / place / ("é" * 200)
    for use in (checkpoint.restore, checkpoint.read_metadata):
        with pytest.raises(InputError, match="no complete checkpoint"):
            use(path)
    _refused_write(path, "File name too long")
    assert not list((tmp_path / place).iterdir())


# What was written is read back


def test_arrays_that_do_not_come_back_are_no_checkpoint(copy, tmp_path, monkeypatch):
    write = ocp.PyTreeCheckpointer.save

    def wrong(self, directory, args):
        changed = {**args.item, "b": args.item["b"] + 1}
        write(self, directory, args=dataclasses.replace(args, item=changed))

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "save", wrong)
    tree = {"a": np.ones(3), "b": np.ones(3)}
    for path in (copy, tmp_path / "new"):
        with pytest.raises(InputError, match="the leaf b does not come back"):
            checkpoint.save(path, tree, {})
    monkeypatch.undo()
    _assert_unchanged(copy)
    assert os.listdir(tmp_path) == ["copy"]


@contextlib.contextmanager
def _nothing_merged():
    """Orbax leaves its pieces as they are, as it did in a folder with brackets."""

    async def skip(*_, **__):
        pass

    room = "orbax.checkpoint._src.serialization.ocdbt_utils"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{room}.merge_ocdbt_per_process_files", skip)
        yield patch


def test_arrays_that_were_never_merged_are_no_checkpoint(copy, tmp_path):
    with _nothing_merged():
        for path in (copy, tmp_path / "new"):
            with pytest.raises(ValueError, match="does not exist"):
                checkpoint.save(path, {"a": np.ones(3)}, {})
    assert _restored_or_refused(copy)
    assert os.listdir(tmp_path) == ["copy"]


def test_a_checkpoint_that_was_never_merged_is_a_sentence(tmp_path):
    """Such ones were kept before what was written was read back."""
    lost = tmp_path / "lost"
    with _nothing_merged() as patch:
        patch.setattr(checkpoint, "_read_arrays", lambda step: {"a": np.ones(3)})
        checkpoint.save(lost, {"a": np.ones(3)}, {"v": 1})
    with pytest.raises(InputError, match="not written whole.*make it again") as caught:
        checkpoint.restore(lost)
    assert "\n" not in str(caught.value)
    checkpoint.save(lost, {"a": np.ones(3)}, {"v": 2})
    assert checkpoint.restore(lost)[1] == {"v": 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    _refused_write(tmp_path, "Permission denied")
    _refused_write(tmp_path / "new", "Permission denied")


def test_the_manifest_is_plain_json(saved):
    manifest = json.loads((saved / "jsnnq_checkpoint_0" / "manifest.json").read_text())
    assert set(manifest) == {"files", "leaves", "metadata", "sha256"}
    shape, digest = manifest["leaves"]["params"]["dense"]["bias"].split()
    assert shape == "float32[10]"
    # head -c 40 /dev/zero | sha256sum
    assert digest == "2c34ce1df23b838c5abf2a7f6437cca3d3067ed509ff25f11df6b11b582b51eb"
