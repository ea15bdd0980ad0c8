"""What is kept of a training: the lines, the event file, and nothing lost by a kill."""

import json
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from jsnnq.training import monitor
from jsnnq.training.monitor import POINTS_PER_EPOCH, Monitor, Transfer, read_curve


def tell(monitor, steps, loss=float, steps_per_epoch=20):
    """Tells a monitor of steps out of 60; the loss of a step is its number."""
    monitor.begin(steps[0] - 1, 60, steps_per_epoch, 8)
    for step in steps:
        monitor.step(step, loss(step), step / 100)


def train(directory, first, last, steps_per_epoch=20):
    """A training of the steps behind `first`."""
    with Monitor("test", directory, quiet=True) as monitor:
        tell(monitor, range(first + 1, last + 1), float, steps_per_epoch)


def steps_of(directory):
    return [point["step"] for point in points(directory)]


def points(directory):
    return read_curve(directory / "log.jsonl")


def test_a_line_is_the_mean_since_the_last_one(tmp_path):
    train(tmp_path, 0, 40)
    found = points(tmp_path)
    assert len(found) == 2 * POINTS_PER_EPOCH
    assert steps_of(tmp_path) == list(range(2, 41, 2))
    for point in found:
        step = point["step"]
        assert point["loss"] == pytest.approx(step - 0.5)
        assert point["accuracy"] == pytest.approx((step - 0.5) / 100)
        assert point["epoch"] == pytest.approx(step / 20)
        assert point["images_per_s"] > 0


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 10, 11, 25, 101])
def test_every_epoch_ends_with_a_point_and_has_at_most_ten(tmp_path, steps_per_epoch):
    train(tmp_path, 0, 2 * steps_per_epoch, steps_per_epoch)
    found = steps_of(tmp_path)
    assert found[-1] == 2 * steps_per_epoch
    assert steps_per_epoch in found
    assert len(found) <= 2 * POINTS_PER_EPOCH
    # Together the points stand for every step once.
    spans = zip([0, *found], found, strict=False)
    means = [(before + 1 + step) / 2 for before, step in spans]
    assert [point["loss"] for point in points(tmp_path)] == pytest.approx(means)


@pytest.mark.parametrize("name", ["gs:", "s3:", "hdfs:", "~", "%d", "x[1]"])
def test_events_are_written_into_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """No server is looked for."""
    monkeypatch.chdir(tmp_path)
    train(Path(name), 0, 20)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (events,) = (tmp_path / name).glob("events.out.tfevents.*")
    assert events.stat().st_size > 100


def test_a_label_is_shown_as_it_is():
    """In markup [red] would be a colour and [/] an error."""
    bar = monitor._bar()
    bar.add_task("x[red]/y[/]", total=1, numbers="")
    with bar.console.capture() as shown:
        bar.console.print(bar.get_renderable())
    assert "x[red]/y[/]" in shown.get()


# Killed and continued.


def test_steps_that_are_repeated_count_once_and_the_later_ones(tmp_path):
    train(tmp_path, 0, 34)
    with Monitor(directory=tmp_path, quiet=True) as monitor:
        tell(monitor, range(21, 61), lambda step: 1000.0)
    assert steps_of(tmp_path) == list(range(2, 61, 2))
    losses = {point["step"]: point["loss"] for point in points(tmp_path)}
    assert losses[20] == 19.5
    assert losses[22] == losses[34] == 1000.0


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_cut_short_costs_that_line_only(tmp_path, cut):
    train(tmp_path, 0, 20)
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-cut])
    whole = steps_of(tmp_path)
    assert whole == list(range(2, 21 if cut == 1 else 19, 2))
    train(tmp_path, 20, 40)
    assert steps_of(tmp_path) == [*whole, *range(22, 41, 2)]


def test_a_log_of_nothing_is_an_empty_curve(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    assert points(tmp_path) == []
    train(tmp_path, 0, 2)
    assert steps_of(tmp_path) == [2]


def test_every_point_is_on_disk_at_once(tmp_path):
    with Monitor(directory=tmp_path, quiet=True) as monitor:
        tell(monitor, range(1, 3))
        (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
        assert json.loads(line)["step"] == 2


def test_the_files_are_closed_when_training_fails(tmp_path):
    monitor = Monitor(directory=tmp_path, quiet=True)

    def fail():
        with monitor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert monitor._lines.closed


# The event file.


def records(path):
    """TFRecords: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    content, found = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12 : 12 + size]))
        content = content[12 + size + 4 :]
    return found


def test_tensorboard_can_read_the_event_file(tmp_path):
    train(tmp_path, 0, 20)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = records(path)
    assert events[0].file_version.startswith("brain.Event")
    found = {}
    for event in events[1:]:
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert set(found) == {"train/loss", "train/accuracy", "train/images_per_s"}
    for name in ("loss", "accuracy", "images_per_s"):
        expected = {point["step"]: point[name] for point in points(tmp_path)}
        assert found[f"train/{name}"] == pytest.approx(expected, rel=1e-6)


def test_without_a_directory_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(None, 0, 20)
    assert not list(tmp_path.iterdir())


# What a person sees.


def test_the_bar_shows_loss_accuracy_speed_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Monitor("float/seed0") as monitor:
        tell(monitor, range(1, 21), lambda step: 2.5)
        monitor._bar.refresh()
        (task,) = monitor._bar.tasks
        assert (task.completed, task.total) == (20, 60)
        assert task.description == "float/seed0"
        assert "loss 2.500" in task.fields["numbers"]
        assert "19.5 %" in task.fields["numbers"]
        assert "img/s" in task.fields["numbers"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "float/seed0" in shown.err


def test_quiet_shows_nothing(capsys, tmp_path):
    train(tmp_path, 0, 20)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_transfer_shows_each_part(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Transfer():
        pass
    assert capsys.readouterr().err == ""
    with Transfer() as transfer:
        transfer("archive", 10, 100)
        transfer("archive", 50, 100)
        transfer("train", 1, 4)
        tasks = [(t.description, t.completed, t.total) for t in transfer._bar.tasks]
        assert tasks == [("archive", 50, 100), ("train", 1, 4)]
    assert "archive" in capsys.readouterr().err
