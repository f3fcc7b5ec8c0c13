"""`watch` shows a run that others do, from what they store."""

import dataclasses
import io
import time

import pytest
from evaluated_variants import evaluated, unfinished
from rich.console import Console

from pipeline.commands import watch
from pipeline.graph.graph import Graph
from pipeline.log.stage_log import StageLog
from pipeline.progress import Report
from pipeline.storage.leases import Lease, Pulse
from pipeline.storage.owner import Owner


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """The nodes of a variant: a complete one, and one that reads it and is not finished."""
    member = unfinished(evaluated(tmp_path, "kmeans", [1] * 9))
    corpus, scored = member.nodes.values()
    for node in (corpus, scored):
        node.artifact.finish({"seconds": 2.0})
    scored.artifact.delete("manifest.json")
    scored = dataclasses.replace(
        scored,
        inputs={corpus.name: corpus.digest},
        stage=dataclasses.replace(scored.stage, headline=("wer",)),
    )
    graph = Graph((dataclasses.replace(member, nodes={n.name: n for n in (corpus, scored)}),))
    monkeypatch.setattr(watch, "build", lambda *_, **__: graph)
    return member.config, scored


def watched(config, monkeypatch, *events):
    """What is shown, and whether all is complete, while the events happen between two looks."""
    left = list(events)
    sleep = time.sleep
    monkeypatch.setattr(watch.time, "sleep", lambda _: left.pop(0)() if left else sleep(0.01))
    console = Console(file=io.StringIO(), width=120)
    complete = watch.watch([config], console)
    lines = console.file.getvalue().splitlines()
    return complete, [line.partition("  ")[2].partition("  ")[2] or line for line in lines]


def test_a_run_is_followed_until_it_is_complete(stages, monkeypatch):
    config, node = stages
    log, lease = StageLog(node.artifact), Lease(node.artifact, Owner.this_process())

    def start():
        assert lease.take()
        log.started()
        log.put("goes on")

    def report():
        log.put(Report(1, 2, "utterances"))
        log.flush()

    def finish():
        log.put("has ended")
        node.artifact.finish({"seconds": 3.0})
        lease.release()

    complete, lines = watched(config, monkeypatch, start, report, finish)
    assert complete
    text = "\n".join(lines)
    for said in (
        "prepare_corpus[kmeans] done in 2.0 s",
        "evaluate_asr/test[kmeans] starts",
        "evaluate_asr/test[kmeans] goes on",
        "evaluate_asr/test[kmeans] has ended",
        "evaluate_asr/test[kmeans] done in 3.0 s, test.wer 0.25",
    ):
        assert text.count(said) == 1, text


def test_a_stage_that_ends_while_it_is_looked_at_was_not_stopped(stages, monkeypatch):
    config, node = stages
    lease = Lease(node.artifact, Owner.this_process())
    assert lease.take()
    StageLog(node.artifact).started()
    read = watch.LogReader.new

    def end_and_read(reader):
        if lease.is_held and reader._output == node.artifact and looks:
            node.artifact.finish({"seconds": 3.0})
            lease.release()
        return read(reader)

    looks: list[None] = []
    monkeypatch.setattr(watch.LogReader, "new", end_and_read)
    complete, lines = watched(config, monkeypatch, lambda: looks.append(None))
    assert complete
    text = "\n".join(lines)
    assert "was stopped" not in text
    assert text.count("evaluate_asr/test[kmeans] done in 3.0 s") == 1


def test_a_failed_stage_that_another_run_has_taken_is_waited_for(stages, monkeypatch):
    """Its process may take long to start, as where machines have to come first."""
    config, node = stages
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    StageLog(node.artifact).failed("no room")
    lease = Lease(node.artifact, Owner.this_process())
    assert lease.take()

    def finish():
        node.artifact.finish({"seconds": 3.0})
        lease.release()

    complete, lines = watched(config, monkeypatch, lambda: None, finish)
    assert complete, lines


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_that_has_ended_early_is_told_as_such(stages, monkeypatch, failed):
    config, node = stages
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    log, lease = StageLog(node.artifact), Lease(node.artifact, Owner.this_process())
    assert lease.take()
    log.started()

    def end():
        if failed:
            log.failed("no room")
        lease.release()

    complete, lines = watched(config, monkeypatch, end)
    assert not complete
    text = "\n".join(lines)
    assert text.count("FAILED: no room" if failed else "was stopped") == 1, text
    assert "nobody works on what is left, 1 of 2 stages" in text


def test_a_driver_that_was_killed_works_on_nothing(stages, monkeypatch):
    config, node = stages
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    assert Lease(node.artifact, Owner.this_process()).take()
    monkeypatch.setattr(Owner, "has_ended", lambda _self: True)
    complete, lines = watched(config, monkeypatch)
    assert not complete
    assert "nobody works on" in lines[-1]


def test_a_run_on_another_machine_that_has_gone_silent_works_on_nothing(stages, monkeypatch):
    config, node = stages
    monkeypatch.setattr(watch, "IDLE_SECONDS", 0.0)
    seconds = [0.0]
    monkeypatch.setattr(watch, "Pulse", lambda: Pulse(lambda: seconds[0]))
    lease = Lease(node.artifact, Owner(7, "node-3", "another boot", "dkm run"))
    assert lease.take()

    def wait():
        assert seconds[0] < 200
        seconds[0] += 25

    def beat():
        wait()
        lease.beat()

    complete, lines = watched(config, monkeypatch, *[beat] * 4, *[wait] * 3)
    assert not complete
    assert seconds[0] == 175
    assert [line for line in lines if "evaluate_asr" in line] == [
        "evaluate_asr/test[kmeans] starts",
        "evaluate_asr/test[kmeans] was stopped",
    ]


def test_a_damaged_log_is_no_obstacle(stages, monkeypatch):
    config, node = stages
    with node.artifact.write("log/0-a-00000.jsonl") as file:
        file.write(b"{}\n")
    node.artifact.finish({"seconds": 3.0})
    complete, lines = watched(config, monkeypatch)
    assert complete
    assert "evaluate_asr/test[kmeans] done in 3.0 s, test.wer 0.25" in lines
