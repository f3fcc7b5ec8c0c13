"""A run's view at MLflow: which stages are published, and what is said of those that are not."""

from stored_runs import new_store, stored

from pipeline.config import Tracking
from pipeline.graph.graph import Graph, Member
from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import METRICS
from pipeline.tracking import publisher
from pipeline.tracking.publication import End
from pipeline.tracking.session import TrackingSession, tracking_of


def finish(node, **scores):
    node.artifact.write_json(METRICS, scores)
    node.artifact.finish({"versions": {}})


def test_complete_stages_and_those_that_start_are_published(uri, session, config, node, stage):
    StageLog(node.artifact).metrics({"loss": 0.5}, 1)
    finish(node, wer=0.25)
    session.start(config, {})
    session.follow_complete(Graph((Member("", config, {node.name: node}),)))
    session.follow(node)
    session.end(config, End("FINISHED", {"test/WER in percent": 25.0}))
    assert session.close()
    assert stored(uri, stage).data.metrics == {"loss": 0.5, "wer": 0.25}
    assert stored(uri, stage.parent).data.metrics == {"test/WER in percent": 25.0}
    assert stored(uri, stage.parent).info.status == "FINISHED"


def test_what_is_not_published_is_known_to_the_next_run(
    config, node, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(publisher, "WAIT_AT_THE_END_SECONDS", 0.0)
    config = config.model_copy(update={"storage": str(tmp_path)})
    away = TrackingSession(Tracking(uri="http://127.0.0.1:9"), str(tmp_path))
    assert not away.left_over([config])
    away.start(config, {})
    away.end(config, End("FINISHED"))
    assert not away.close()
    assert caplog.text.count("does not answer") == 1
    other = config.model_copy(update={"variant": "other"})
    new_store(tmp_path / "mlflow.db")
    back = TrackingSession(Tracking(), str(tmp_path))
    assert back.left_over([config])
    assert not back.left_over([other])
    back.start(config, {})
    back.end(config, End("FINISHED"))
    assert back.close()
    assert not back.left_over([config])


def test_with_tracking_turned_off_nothing_happens(config, node, tmp_path):
    off = Tracking(enabled=False)
    session = TrackingSession(off, str(tmp_path))
    assert not session.check()
    session.start(config, {})
    session.follow(node)
    session.end(config, End("FINISHED"))
    assert session.close()
    assert list(tmp_path.iterdir()) == []


def test_configs_are_published_where_the_first_of_them_is_that_is_published_at_all(config):
    silent = config.model_copy(update={"tracking": Tracking(enabled=False)})
    loud = config.model_copy(update={"tracking": Tracking(experiment="loud")})
    assert tracking_of([silent, loud]) == loud.tracking
    assert tracking_of([silent]) == silent.tracking
