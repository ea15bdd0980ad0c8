import dataclasses
import errno
import hashlib
import importlib.util
import io
import pickle
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from jsnnq.data import prepare as preparing
from jsnnq.data.prepare import PUBLISHED, prepare
from jsnnq.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
NAMES = {
    "cifar10": {"": [f"thing_{i}" for i in range(10)]},
    "cifar100": {
        "coarse_": [f"kind_{i}" for i in range(20)],
        "fine_": [f"thing_{i}" for i in range(100)],
    },
}
SIZES = {"train": 30, "test": 10}


# An archive of our own, in the layouts the University of Toronto documents.


def small_images(name):
    """Random images and labels of the shape of a CIFAR set: split -> feature."""
    rng = np.random.default_rng(len(name))
    return {
        split: {
            "image": rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8),
            **{
                prefix: rng.integers(0, len(names), size)
                for prefix, names in NAMES[name].items()
            },
        }
        for split, size in SIZES.items()
    }


def planes(images):
    """Red plane, green plane, blue plane of each image in one row."""
    return np.stack([im.transpose(2, 0, 1).ravel() for im in images])


def pickled(content):
    # The originals were pickled by a NumPy that had no `numpy._core`.
    return pickle.dumps(content, protocol=3).replace(b"numpy._core", b"numpy.core")


def ends(name):
    """The files of the training and the test images."""
    return ("data_batch_1", "test_batch") if name == "cifar10" else ("train", "test")


def python_members(name, images):
    for file, part in zip(ends(name), images.values(), strict=True):
        labels = {f"{p}labels".encode(): part[p].tolist() for p in NAMES[name]}
        yield file, pickled({b"data": planes(part["image"])} | labels)
    names = {
        f"{prefix}label_names".encode(): [n.encode() for n in names]
        for prefix, names in NAMES[name].items()
    }
    yield "batches.meta" if name == "cifar10" else "meta", pickled(names)


def binary_members(name, images):
    for file, part in zip(ends(name), images.values(), strict=True):
        columns = [part[prefix].astype(np.uint8)[:, None] for prefix in NAMES[name]]
        records = np.concatenate([*columns, planes(part["image"])], 1)
        yield f"{file}.bin", records.tobytes()
    for prefix, names in NAMES[name].items():
        file = f"{prefix}label_names.txt" if prefix else "batches.meta.txt"
        yield file, "\n".join(names).encode()


MEMBERS = {"python": python_members, "binary": binary_members}


def pack(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members:
            info = tarfile.TarInfo(f"cifar-batches/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def md5(content):
    return hashlib.md5(content).hexdigest()


def digests(members):
    return {name: md5(content) for name, content in members.items()}


def small_archive(name, folder, layout="binary"):
    """An archive of random images, the digests that fit it, and the images."""
    images = small_images(name)
    members = {kind: dict(make(name, images)) for kind, make in MEMBERS.items()}
    file = pack(folder / f"{name}-{layout}.tar.gz", members[layout].items())
    published = dataclasses.replace(
        PUBLISHED[name],
        url=file.as_uri(),
        archives={file.name: md5(file.read_bytes())},
        **{kind: digests(contents) for kind, contents in members.items()},
    )
    return file, published, images


def records(name, split, folder):
    """What the stock data source reads, by original number."""
    import tensorflow_datasets as tfds

    source = tfds.data_source(name, split=split, data_dir=folder, download=False)
    return {int(record["id"].decode().split("_")[1]): record for record in source}


def assert_nothing_in(folder):
    assert not folder.exists() or not list(folder.iterdir())


def refused(says, *given, folder, name="cifar10", published=None):
    """The sentence of a refusal, which leaves nothing behind."""
    options = {"published": published} if published else {}
    with pytest.raises(InputError, match=says) as caught:
        prepare(name, folder / "sets", *given, **options)
    assert not (folder / "sets").exists()
    return str(caught.value)


# What is written.


@pytest.mark.parametrize("layout", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_prepared_set_is_read_by_tfds_as_it_was(name, layout, tmp_path):
    file, published, images = small_archive(name, tmp_path, layout)
    prepared = prepare(name, tmp_path / "sets", file, published=published)
    assert (prepared.path / "dataset_info.json").is_file()
    assert published.archives[file.name] in prepared.note
    for split, size in SIZES.items():
        found = records(name, split, tmp_path / "sets")
        assert sorted(found) == list(range(size))
        for number, record in found.items():
            assert record["id"] == f"{split}_{number:05d}".encode()
            np.testing.assert_array_equal(
                record["image"], images[split]["image"][number]
            )
            for feature, prefix in published.labels.items():
                assert record[feature] == images[split][prefix][number]


def test_class_names_travel(tmp_path):
    import tensorflow_datasets as tfds

    file, published, _ = small_archive("cifar100", tmp_path)
    path = prepare("cifar100", tmp_path / "sets", file, published=published).path
    features = tfds.builder_from_directory(path).info.features
    assert features["label"].names == NAMES["cifar100"]["fine_"]
    assert features["coarse_label"].names == NAMES["cifar100"]["coarse_"]


def test_only_the_set_is_left_in_the_directory(tmp_path, capfd):
    file, published, _ = small_archive("cifar10", tmp_path)
    prepared = prepare("cifar10", tmp_path / "new" / "sets", file, published=published)
    assert list((tmp_path / "new" / "sets").iterdir()) == [prepared.path.parent]
    assert list(prepared.path.parent.iterdir()) == [prepared.path]
    assert capfd.readouterr().out == ""


def test_repacked_archive_passes_by_its_members(tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    repacked = dataclasses.replace(published, archives={"other.tar.gz": 32 * "0"})
    note = prepare("cifar10", tmp_path / "sets", file, published=repacked).note
    assert "all its 3 members have the published MD5s" in note


def test_blank_lines_after_the_class_names_do_not_matter(tmp_path):
    _, published, images = small_archive("cifar10", tmp_path)
    members = dict(binary_members("cifar10", images))
    members["batches.meta.txt"] += b"\n\n"
    file = pack(tmp_path / "blank.tar.gz", members.items())
    prepare("cifar10", tmp_path / "sets", file, published=published)


def test_progress_counts_to_the_end(tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    calls = []
    progress = lambda *call: calls.append(call)
    prepare("cifar10", tmp_path / "sets", progress=progress, published=published)
    size = file.stat().st_size
    assert ("downloading", size, size) in calls
    assert ("writing train images", 30, 30) in calls
    assert calls[-1] == ("writing test images", 10, 10)


def test_a_set_that_does_not_come_back_whole_is_refused(tmp_path, monkeypatch):
    file, published, _ = small_archive("cifar10", tmp_path)
    every = preparing._examples

    def fewer(split, part, report):
        yield from list(every(split, part, report))[1 if split == "test" else 0 :]

    monkeypatch.setattr(preparing, "_examples", fewer)
    says = "9 of 10 test images come back"
    refused(says, file, folder=tmp_path, published=published)


def test_prepared_set_is_kept(tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    path = prepare("cifar10", tmp_path / "sets", file, published=published).path
    before = {f: f.stat().st_mtime_ns for f in path.iterdir()}
    again = prepare("cifar10", tmp_path / "sets", tmp_path / "no such file")
    assert again.path == path
    assert "kept" in again.note
    assert {f: f.stat().st_mtime_ns for f in path.iterdir()} == before


# What is refused.


def damage(content, how):
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1])
    return {
        "flipped": content[:middle] + flipped + content[middle + 1 :],
        "truncated": content[:middle],
        "no archive": b"not an archive at all",
        "empty": b"",
    }[how]


@pytest.mark.parametrize("how", ["flipped", "truncated", "no archive", "empty"])
def test_damaged_archive_is_refused(how, tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    file.write_bytes(damage(file.read_bytes(), how))
    sentence = refused("damaged", file, folder=tmp_path, published=published)
    assert str(file) in sentence
    assert f"expected MD5 {published.archives[file.name]}" in sentence
    assert f"got {md5(file.read_bytes())}" in sentence
    refused("damaged", folder=tmp_path, published=published)  # downloaded


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_changed_member_is_named(layout, tmp_path):
    _, published, images = small_archive("cifar10", tmp_path, layout)
    images["test"]["image"][3, 4, 5, 1] ^= 1
    file = pack(tmp_path / "changed.tar.gz", MEMBERS[layout]("cifar10", images))
    says = "MD5 of its test_batch"
    sentence = refused(says, file, folder=tmp_path, published=published)
    known = getattr(published, layout)
    expected = next(known[member] for member in known if "test_batch" in member)
    assert f"instead of {expected}" in sentence


def test_missing_member_is_named(tmp_path):
    _, published, images = small_archive("cifar10", tmp_path)
    members = [m for m in binary_members("cifar10", images) if "test" not in m[0]]
    file = pack(tmp_path / "short.tar.gz", members)
    refused("it has no test_batch.bin", file, folder=tmp_path, published=published)


def test_archive_of_the_other_set_is_refused(tmp_path):
    file, _, _ = small_archive("cifar100", tmp_path)
    refused("another archive", file, folder=tmp_path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def trapped_archive(tmp_path):
    """An archive whose pickle opens a file when it is loaded."""
    _, published, images = small_archive("cifar10", tmp_path)
    members = dict(python_members("cifar10", images))
    members["test_batch"] = pickle.dumps(Trap(str(tmp_path / "sprung")))
    return pack(tmp_path / "trap.tar.gz", members.items()), published, members


def test_pickle_with_another_digest_is_never_opened(tmp_path, monkeypatch):
    file, published, _ = trapped_archive(tmp_path)
    monkeypatch.setattr(pickle, "Unpickler", None)
    refused("MD5 of its test_batch", file, folder=tmp_path, published=published)
    assert not (tmp_path / "sprung").exists()


def test_pickle_may_only_make_arrays(tmp_path):
    file, published, members = trapped_archive(tmp_path)
    published = dataclasses.replace(published, python=digests(members))
    with pytest.raises(pickle.UnpicklingError, match="open has no place"):
        prepare("cifar10", tmp_path / "sets", file, published=published)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar10", "is not a file"),
        ("mnist", "'cifar10', 'cifar100'"),
        ("imagenet2012", "needs TensorFlow"),
    ],
)
def test_missing_archives_and_sets_are_refused(name, says, tmp_path):
    refused(says, tmp_path / "none.tar.gz", folder=tmp_path, name=name)


def test_failing_download_points_at_the_archive_option(tmp_path):
    _, published, _ = small_archive("cifar10", tmp_path)
    gone = dataclasses.replace(published, url=(tmp_path / "gone.tar.gz").as_uri())
    refused("--archive FILE", folder=tmp_path, published=gone)


def test_directory_that_is_a_file_is_refused(tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    place = tmp_path / "sets"
    place.write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        prepare("cifar10", place, file, published=published)
    assert place.read_text() == "mine"


def test_directory_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    file, published, _ = small_archive("cifar10", tmp_path)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    refused("cannot be written", file, folder=tmp_path, published=published)


def test_what_is_in_the_way_is_left_alone(tmp_path):
    file, published, _ = small_archive("cifar10", tmp_path)
    path = prepare("cifar10", tmp_path / "sets", file, published=published).path
    (path / "dataset_info.json").unlink()
    before = sorted(path.iterdir())
    with pytest.raises(InputError, match="not a prepared set"):
        prepare("cifar10", tmp_path / "sets", file, published=published)
    assert sorted(path.iterdir()) == before


@pytest.mark.parametrize(
    ("stop", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), InputError),
        (RuntimeError("write() failed: No space left on device"), InputError),
    ],
)
@pytest.mark.parametrize("there", [True, False], ids=["old folder", "new folder"])
def test_nothing_half_written_stays(stop, seen, there, tmp_path):
    def interrupt(what, done, total):
        if done == 7:
            raise stop

    file, published, _ = small_archive("cifar10", tmp_path)
    place = tmp_path / "a" / "sets"
    if there:
        place.mkdir(parents=True)
    with pytest.raises(seen, match="is full" if seen is InputError else None):
        prepare("cifar10", place, file, interrupt, published=published)
    assert place.exists() == there
    assert (tmp_path / "a").exists() == there
    assert_nothing_in(place)


# The real files.


@pytest.fixture
def cifar(monkeypatch):
    """The reader that lies beside the packed images."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    if not (SHARED / "load_cifar.py").is_file():
        pytest.skip(f"needs the packed CIFAR images in {SHARED}")
    spec = importlib.util.spec_from_file_location(
        "load_cifar", SHARED / "load_cifar.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_real_member_is_read_as_it_is(cifar, tmp_path):
    name, content = next(cifar.python_files("cifar10"))
    assert name.endswith("/data_batch_1")
    assert md5(content) == PUBLISHED["cifar10"].python["data_batch_1"]
    images, labels = next(cifar.iter_shards("cifar10", "train"))
    binary = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], 1)
    assert md5(binary.tobytes()) == PUBLISHED["cifar10"].binary["data_batch_1.bin"]

    # The real pickle as the training split of an otherwise small archive.
    _, published, small = small_archive("cifar10", tmp_path, "python")
    members = dict(python_members("cifar10", small)) | {"data_batch_1": content}
    file = pack(tmp_path / "real.tar.gz", members.items())
    published = dataclasses.replace(published, python=digests(members))
    prepare("cifar10", tmp_path / "sets", file, published=published)
    found = records("cifar10", "train", tmp_path / "sets")
    np.testing.assert_array_equal([found[i]["label"] for i in range(10_000)], labels)
    for number in range(0, 10_000, 101):
        np.testing.assert_array_equal(found[number]["image"], images[number])


def test_published_binary_names_are_those_of_the_python_archive(cifar):
    for name, kind, file in [
        ("cifar10", "fine", "batches.meta.txt"),
        ("cifar100", "fine", "fine_label_names.txt"),
        ("cifar100", "coarse", "coarse_label_names.txt"),
    ]:
        names = "\n".join(cifar.label_names(name, kind))
        assert md5(names.encode()) == PUBLISHED[name].binary[file]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_whole_original_archive(cifar, name, layout, tmp_path):
    made = getattr(cifar, f"{layout}_files")(name)
    members = ((path.rpartition("/")[2], content) for path, content in made)
    file = pack(tmp_path / "rebuilt.tar.gz", members)
    prepare(name, tmp_path / "sets", file)
    for split in ("train", "test"):
        found = records(name, split, tmp_path / "sets")
        images, labels = cifar.load(name, split)
        order = range(len(labels))
        np.testing.assert_array_equal([found[i]["image"] for i in order], images)
        np.testing.assert_array_equal([found[i]["label"] for i in order], labels)
        if name == "cifar100":
            coarse = cifar.load(name, split, "coarse")[1]
            read = [found[i]["coarse_label"] for i in order]
            np.testing.assert_array_equal(read, coarse)


def test_published_digests_are_complete():
    for published in PUBLISHED.values():
        known = {**published.archives, **published.python, **published.binary}
        assert all(len(d) == 32 and int(d, 16) for d in known.values())
        assert len(set(known.values())) == len(known)
