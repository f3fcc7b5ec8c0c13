"""A stage's log: written seldom, whole at any time, and read once by whoever looks on."""

import json
import math
import pickle

import pytest
from matplotlib.figure import Figure

from pipeline.log import stage_log
from pipeline.log.follow import Follower
from pipeline.log.read_log import LogReader, read_history
from pipeline.log.stage_log import PART_BYTES, StageLog
from pipeline.progress import Report
from pipeline.storage.artifacts import Artifact, ArtifactError


@pytest.fixture
def output(tmp_path):
    return Artifact(str(tmp_path / "output"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it."""
    now = [100.0]
    monkeypatch.setattr(stage_log.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def writes(monkeypatch):
    """The names of the parts that are written, each time."""
    written, write = [], Artifact.write
    monkeypatch.setattr(Artifact, "write", lambda self, n: written.append(n) or write(self, n))
    return written


def without_time(entries):
    return [{key: entry[key] for key in entry if key != "time_ms"} for entry in entries]


def test_what_is_logged_is_read_once(output, clock):
    log, reader = StageLog(output), LogReader(output)
    log.metrics({"loss": 0.5, "bad": math.nan, "worse": math.inf}, 1)
    assert without_time(reader.new()) == [{"step": 1, "metrics": {"loss": 0.5}}]
    log.metrics({"loss": 0.25}, 2)
    log.file("a.wav")
    assert reader.new() == []  # not yet written
    log.put("goes on from epoch 3")
    assert without_time(reader.new()) == [
        {"step": 2, "metrics": {"loss": 0.25}},
        {"file": "a.wav"},
        {"message": "goes on from epoch 3"},
    ]
    assert reader.new() == []


def test_a_step_costs_no_write(output, clock, writes):
    """One a second where a write takes no time."""
    log = StageLog(output)
    for step in range(1000):
        clock[0] = 100 + 0.01 * step
        log.metrics({"loss": 0.5}, step)
    assert 9 <= len(writes) <= 11
    log.flush()
    log.flush()
    assert len(writes) <= 12
    assert [row["step"] for row in read_history(output)] == list(range(1000))


@pytest.mark.parametrize(("seconds", "wait"), [(0.001, 1.0), (0.03, 3.0), (0.5, 6.0)])
def test_a_slow_storage_is_written_to_less_often(output, clock, monkeypatch, seconds, wait):
    write = Artifact.write

    def slow(self, name):
        clock[0] += seconds
        return write(self, name)

    monkeypatch.setattr(Artifact, "write", slow)
    log, reader = StageLog(output), LogReader(output)
    log.metrics({"loss": 0.5}, 0)
    clock[0] += 0.99 * wait
    log.metrics({"loss": 0.5}, 1)
    assert len(reader.new()) == 1
    clock[0] += 0.02 * wait
    log.metrics({"loss": 0.5}, 2)
    assert len(reader.new()) == 2


def test_a_long_log_has_parts_that_are_read_no_more(output, clock, writes):
    log, reader = StageLog(output), LogReader(output)
    values = {f"measure_{index}": 0.123456789 for index in range(100)}
    steps = []
    for step in range(300):
        clock[0] += 2
        log.metrics(values, step)
        steps += [entry["step"] for entry in reader.new()]
    assert steps == list(range(300))
    parts = output.sizes("log")
    assert len(parts) > 2
    assert all(PART_BYTES <= size < 1.1 * PART_BYTES for size in list(parts.values())[:-1])


def test_each_process_has_parts_of_its_own(output):
    log = StageLog(output)
    log.started()
    other = pickle.loads(pickle.dumps(log))  # noqa: S301 (made here)
    other.metrics({"loss": 0.5}, 1)
    log.failed("no room")
    assert len(output.names("log")) == 2
    # Of entries of one millisecond, the parts' names decide which is read first.
    error, started, step = sorted(without_time(LogReader(output).new()), key=list)
    assert error == {"error": "no room"}
    assert "process" in started["started"]
    assert step == {"step": 1, "metrics": {"loss": 0.5}}


def test_a_storage_that_takes_nothing_holds_up_no_step(output, clock, monkeypatch):
    log = StageLog(output)
    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "write", lambda *_: 1 / 0)
        log.metrics({"loss": 0.5}, 1)
        log.put("is still at work")
        with pytest.raises(ZeroDivisionError):  # a checkpoint must not go further than its log
            log.flush()
    log.flush()
    assert len(LogReader(output).new()) == 2


def test_of_steps_that_were_logged_twice_the_first_counts(output):
    for value in (0.5, 0.75):
        log = StageLog(output)
        for step in (2, 1):
            log.metrics({"loss": value}, step)
        log.metrics({"wer": value}, 2)
        log.flush()
    assert read_history(output) == [
        {"step": 1.0, "loss": 0.5},
        {"step": 2.0, "loss": 0.5, "wer": 0.5},
    ]


def test_a_figure_is_stored_and_shown(output):
    StageLog(output).figure(Figure(), "plots/curves.png")
    with output.read("plots/curves.png") as file:
        assert file.read(4) == b"\x89PNG"
    assert without_time(LogReader(output).new()) == [{"file": "plots/curves.png"}]


@pytest.mark.parametrize("text", ["{", "7", '{"step": 1}'])
def test_a_damaged_part_is_named(output, text):
    with output.write("log/0.jsonl") as file:
        file.write(text.encode())
    with pytest.raises(ValueError, match=r"log/0\.jsonl is damaged"):
        read_history(output)


def test_a_damaged_part_loses_nothing_of_the_others(output):
    """They are read again, together with it once it is whole."""
    log, reader = StageLog(output), LogReader(output)
    log.metrics({"loss": 0.5}, 1)
    log.flush()
    with output.write("log/~last.jsonl") as file:
        file.write(b"{")
    with pytest.raises(ValueError, match="is damaged"):
        reader.new()
    with output.write("log/~last.jsonl") as file:
        file.write(b'{"time_ms": 1}')
    assert [entry.get("step") for entry in reader.new()] == [None, 1]
    assert reader.new() == []


def test_other_files_are_no_parts(output):
    with output.write("log/notes.txt") as file:
        file.write(b"x")
    assert LogReader(output).new() == []


def test_a_display_gets_what_comes_and_of_reports_the_last(output):
    log = StageLog(output)
    log.put("was stopped")
    follower = Follower.of_what_comes(output)
    log.put(Report(1, 9, "epochs"))
    log.put(Report(2, 9, "epochs", "loss 1.5"))
    log.put("goes on")
    assert follower.rest() == ["goes on", Report(2, 9, "epochs", "loss 1.5")]
    assert follower.rest() == []


def test_a_display_does_without_what_cannot_be_read(output, monkeypatch):
    follower = Follower(output)
    StageLog(output).put("goes on")

    def fail(*_):
        raise ArtifactError("gone")

    monkeypatch.setattr(Artifact, "sizes", fail)
    assert follower.rest() == []


def test_lines_are_plain_json(output):
    StageLog(output).metrics({"ü\udce9": 0.5}, 1)
    [name] = output.names("log")
    with output.read(name) as file:
        [line] = file.read().splitlines()
    assert line.isascii()
    assert json.loads(line)["metrics"] == {"ü\udce9": 0.5}
