"""The queue and the outbox before a stand-in for MLflow that fails as told."""

import pickle
import threading

import pytest

from pipeline.tracking import StageRun, sender
from pipeline.tracking.event import Event, RunName
from pipeline.tracking.failure import RunNotFoundError
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.sender import Sender, first_batch

RUN = RunName("pipeline", "train_joint", (("pipeline.stage_digest", "00"),))
PARENT = RunName("pipeline", "dkm", (("pipeline.variant", "dkm"),))
CHILD = RunName("pipeline", "phone_purity", (), parent=PARENT)


class StandIn:
    """Takes events, unless `fault(events)` gives an error; waits while `gate` is closed."""

    def __init__(self):
        self.taken = []
        self.fault = lambda _events: None
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def send(self, events):
        self.asked.set()
        self.gate.wait()
        error = self.fault(events)
        if error is not None:
            raise error
        self.taken += events

    def ping(self, _experiment):
        if self.fault([]) is not None:
            raise ConnectionError


class RefusedError(Exception):
    error_code = "INVALID_PARAMETER_VALUE"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(sender, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(sender, "LONGEST_WAIT_SECONDS", 0.002)


@pytest.fixture
def tracker():
    return StandIn()


@pytest.fixture
def process(tracker, tmp_path):
    """Make a process's sender, all of them before one tracker and one outbox."""

    def make(*, leads=False):
        made = Sender("http://user:hunter2@tracker", str(tmp_path / "outbox"), leads=leads)
        made._tracker = tracker
        return made

    return make


@pytest.fixture
def box(tmp_path):
    return Outbox(str(tmp_path / "outbox"))


def loss(step, run=RUN):
    return Event(run, "metrics", {"step": step, "values": {"loss": 1.0 / (1 + (step or 0))}})


def status(name, run=RUN):
    return Event(run, "status", {"status": name})


def waiting(box):
    return [event for name in box.files() for event in box.read(name)]


def away(_events):
    return ConnectionRefusedError("nobody there")


def test_events_survive_the_outbox(box):
    events = [
        loss(1),
        Event(RUN, "params", {"a.b": "ü\n\udce9"}),
        Event(RUN, "artifact", {"path": "a.wav"}, b"\x00\xff"),
        loss(2, CHILD),
        Event(RUN, "metrics", {"step": None, "values": {"x": float("inf")}}),
    ]
    box.add(events)
    assert len(box.files()) == 2
    assert sorted(waiting(box), key=lambda event: event.time_ms) == events
    assert [event for name in box.files(CHILD.key) for event in box.read(name)] == [events[3]]


def test_no_two_events_are_of_one_time():
    times = [loss(step).time_ms for step in range(100)]
    assert times == sorted(set(times))


def test_a_batch_is_of_one_run_one_kind_and_one_thousand_values():
    many = [
        Event(RUN, "metrics", {"step": step, "values": dict.fromkeys("abcdefgh", 0.0)})
        for step in range(200)
    ]
    assert len(first_batch(many)) == 125
    assert len(first_batch([loss(0), loss(1), loss(2, CHILD)])) == 2
    assert len(first_batch([loss(0), loss(None)])) == 1
    assert len(first_batch([status("FAILED"), status("FINISHED")])) == 1
    assert first_batch([]) == []


def test_whoever_logs_waits_for_nobody(process, tracker):
    tracker.gate.clear()
    events = [loss(step) for step in range(500)]
    sending = process()
    for event in events:
        sending.put(event)
    assert tracker.asked.wait(10)
    assert tracker.taken == []  # all 500 calls have returned, and not one request
    tracker.gate.set()
    sending.flush(60)
    assert tracker.taken == events


def test_events_come_in_order_when_the_tracker_is_back(process, tracker, box, caplog):
    answers = iter([away([])] * 5)
    tracker.fault = lambda _events: next(answers, None)
    sending = process(leads=True)
    events = [loss(step) for step in range(10)]
    back = threading.Event()
    send = tracker.send

    def watched(batch):
        send(batch)
        back.set()

    tracker.send = watched
    for event in events:
        sending.put(event)
    assert back.wait(10)
    sending.flush(60)
    assert tracker.taken == events
    assert box.files() == []
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "***@tracker does not answer (ConnectionRefusedError: nobody there)" in lines[0]
    assert "answers again" in lines[1]
    assert "hunter2" not in caplog.text


def test_what_is_left_at_the_end_is_sent_by_the_next_session(process, tracker, box):
    tracker.fault = away
    events = [loss(0), loss(1), status("KILLED"), loss(0, CHILD)]
    first = process(leads=True)
    for event in events:
        first.put(event)
    first.flush(60)
    assert len(box.files()) == 2
    process(leads=True).flush(60, sweep=True)
    assert len(box.files()) == 2

    tracker.fault = lambda _events: None
    second = process(leads=True)
    second.flush(60, sweep=True)
    assert sorted(tracker.taken, key=lambda event: event.time_ms) == events
    assert box.files() == []
    second.flush(60, sweep=True)
    assert len(tracker.taken) == len(events)


def test_a_flush_ends_though_the_tracker_does_not(process, tracker, box):
    tracker.gate.clear()
    sending = process()
    sending.put(loss(0))
    assert tracker.asked.wait(10)
    sending.flush(0.01)
    assert len(waiting(box)) == 1
    tracker.gate.set()


def test_a_process_takes_up_what_another_left_before_it_logs_itself(process, tracker, box):
    left = [loss(0), loss(1), status("FAILED"), Event(RUN, "tokenizer", {"uri": "t"})]
    box.add([*left, loss(7, CHILD)])
    new = loss(2)
    worker = process()
    worker.put(new)
    worker.flush(60)
    # The status is of a session that has gone, and a tokenizer is the leading process's affair.
    assert tracker.taken == [left[0], left[1], new]
    assert {event.kind for event in waiting(box)} == {"tokenizer", "metrics"}

    leading = process(leads=True)
    score = loss(None)
    leading.put(score)
    leading.flush(60)
    assert tracker.taken[3:] == [left[3], score]
    assert [event.run for event in waiting(box)] == [CHILD]


def test_all_that_waits_of_a_run_is_sent_with_its_scores_last(process, tracker, box):
    """The leader left a status and scores, beside what the run's worker left."""
    first, score = status("KILLED"), loss(None)
    later = [loss(step) for step in range(3)]
    box.add([first, score])
    box.add(later)
    process(leads=True).flush(60, sweep=True)
    assert tracker.taken == [first, *later, score]


def test_only_the_leading_process_speaks_of_an_outage(process, tracker, caplog):
    caplog.set_level("DEBUG", "pipeline.tracking")
    tracker.fault = away
    worker = process()
    worker.put(loss(0))
    worker.flush(60)
    assert caplog.text == ""


def test_an_old_status_does_not_replace_a_new_one(process, tracker, box):
    box.add([status("KILLED"), status("KILLED", CHILD)])
    leading = process(leads=True)
    now = status("FINISHED")
    leading.put(now)
    leading.flush(60, sweep=True)
    assert [(event.run, event.content["status"]) for event in tracker.taken] == [
        (RUN, "FINISHED"),
        (CHILD, "KILLED"),
    ]


def test_a_run_that_is_not_there_yet_is_waited_for_in_silence(process, tracker, box, caplog):
    tracker.fault = lambda _events: RunNotFoundError("not yet")
    worker = process()
    worker.put(loss(0))
    worker.flush(60)
    assert len(waiting(box)) == 1
    assert caplog.text == ""


def test_memory_is_bounded_by_the_outbox(process, tracker, box, monkeypatch):
    monkeypatch.setattr(sender, "EVENTS_IN_MEMORY", (10, 1000))
    tracker.fault = away
    events = [loss(step) for step in range(30)]
    worker = process()
    for event in events:
        worker.put(event)
    spilled = threading.Event()
    add = worker._outbox.add
    worker._outbox.add = lambda many: (add(many), many and spilled.set())
    for event in [loss(step) for step in range(30, 60)]:
        worker.put(event)
        events.append(event)
    assert spilled.wait(10)
    tracker.fault = lambda _events: None
    last = loss(60)
    worker.put(last)
    worker.flush(60)
    process(leads=True).flush(60, sweep=True)
    assert box.files() == []
    assert sorted({event.content["step"] for event in tracker.taken}) == list(range(61))


def test_beyond_the_last_limit_events_are_dropped_and_counted(
    process, tracker, monkeypatch, caplog
):
    monkeypatch.setattr(sender, "EVENTS_IN_MEMORY", (5, 5))
    tracker.gate.clear()
    worker = process()
    for step in range(8):
        worker.put(loss(step))
    tracker.gate.set()
    worker.flush(60)
    assert [event.content["step"] for event in tracker.taken] == [0, 1, 2, 3, 4]
    assert "3 entries were dropped" in caplog.text


def test_of_a_refused_batch_only_the_refused_is_dropped(process, tracker, caplog):
    def refuse_two(events):
        return RefusedError("bad name") if 2 in [e.content["step"] for e in events] else None

    tracker.fault = refuse_two
    worker = process()
    for step in range(5):
        worker.put(loss(step))
    worker.flush(60)
    assert [event.content["step"] for event in tracker.taken] == [0, 1, 3, 4]
    assert caplog.text.count("metric 'loss' of train_joint was dropped: RefusedError") == 1


def test_of_a_refused_event_only_the_refused_value_is_dropped(process, tracker, caplog):
    """One request for each half, not one for each value."""
    asked = []

    def refuse(events):
        names = {name for event in events for name in event.content["values"]}
        asked.append(len(names))
        return RefusedError("bad name") if "m300" in names else None

    tracker.fault = refuse
    worker = process()
    worker.put(Event(RUN, "metrics", {"step": 1, "values": {f"m{i}": 0.0 for i in range(1000)}}))
    worker.flush(60)
    taken = [name for event in tracker.taken for name in event.content["values"]]
    assert taken == [f"m{i}" for i in range(1000) if i != 300]
    assert {event.content["step"] for event in tracker.taken} == {1}
    assert len(asked) <= 21
    assert "metric 'm300' of train_joint was dropped" in caplog.text


def test_an_event_that_fails_alone_does_not_hold_up_the_others(process, tracker, caplog):
    def fail_one(events):
        return OSError("disk full") if events and events[0].kind == "artifact" else None

    tracker.fault = fail_one
    worker = process()
    worker.put(Event(RUN, "artifact", {"path": "x"}, b"x"))
    after = loss(1)
    dropped = threading.Event()
    worker._warn = lambda *_: dropped.set()
    worker.put(after)
    assert dropped.wait(10)
    worker.flush(60)
    assert tracker.taken == [after]


def test_a_damaged_file_is_left_where_it_is(process, tracker, box, caplog, tmp_path):
    for name, text in [("a/1-x.jsonl", "{"), ("b/1-x.jsonl", '{"run": 1}\n'), ("c/notes", "x")]:
        path = tmp_path / "outbox" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    good = loss(0)
    box.add([good])
    process(leads=True).flush(60, sweep=True)
    assert tracker.taken == [good]
    assert len(box.files()) == 2
    assert caplog.text.count("cannot be read and is kept") == 2


def test_a_storage_that_takes_nothing_costs_the_values_alone(process, tracker, caplog):
    tracker.fault = away
    worker = process()
    worker._outbox = Outbox("/dev/null/outbox")
    worker.put(loss(0))
    worker.flush(60)
    assert "1 entries were dropped" in caplog.text


def test_a_run_can_be_pickled_after_it_was_logged_to(tmp_path):
    run = StageRun("http://127.0.0.1:9", str(tmp_path / "outbox"), CHILD)
    run.log_metrics({"loss": 1.0}, 0)
    assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301 - what Ray does
    run.flush(20)
    assert len(waiting(Outbox(run.outbox_uri))) == 1
