"""Values of a run: each step once, the last score, the first parameter."""

import math
import sys

import pytest
from stored_runs import history, steps, stored
from test_spelling import HOSTILE

from pipeline.redaction import flatten
from pipeline.tracking import mlflow_run
from pipeline.tracking.spelling import spell_name
from pipeline.tracking.tracker import Tracker, connect

MOST = sys.float_info.max


def entry(step, **metrics):
    return {"time_ms": 1_700_000_000_000 + step, "step": step, "metrics": metrics}


def test_what_is_offered_again_is_there_once_with_its_first_value(uri, stage, run):
    run.metrics([entry(step, loss=1.0 / (step + 1)) for step in range(3)])
    again = Tracker(uri).run(stage)
    again.metrics([entry(step, loss=9.0, fresh=2.0) for step in (*range(5), 4)])
    again.metrics([entry(4, loss=9.0)])
    assert steps(uri, stage, "loss") == steps(uri, stage, "fresh") == [0, 1, 2, 3, 4]
    found = history(uri, stage, "loss")
    assert [metric.value for metric in found[:3]] == [1.0, 0.5, 1.0 / 3]
    assert [metric.timestamp for metric in found] == [entry(step)["time_ms"] for step in range(5)]


def test_an_earlier_step_that_is_missing_is_taken(uri, stage, run):
    run.metrics([entry(5, loss=1.0)])
    run.metrics([entry(3, loss=1.0)])
    assert sorted(steps(uri, stage, "loss")) == [3, 5]


def test_values_that_arrived_without_an_answer_may_be_sent_again(uri, stage, run, monkeypatch):
    """The store itself drops what is equal in all."""
    client = type(connect(uri))
    log_batch, calls = client.log_batch, []

    def unanswered_once(self, *args, **kwargs):
        log_batch(self, *args, **kwargs)
        calls.append(kwargs)
        if len(calls) == 1:
            raise ConnectionError("cut off")

    monkeypatch.setattr(client, "log_batch", unanswered_once)
    entries = [entry(step, loss=0.5) for step in range(1500)]
    with pytest.raises(ConnectionError):
        run.metrics(entries)
    run.metrics(entries)
    assert len(calls) == 2
    assert steps(uri, stage, "loss") == list(range(1500))


def test_a_history_offered_again_costs_one_request_a_key(uri, stage, run, monkeypatch):
    entries = [entry(step, loss=1.0, rate=0.1) for step in range(302)]
    run.metrics(entries[:300])
    asked, logged = [], []
    client = type(connect(uri))
    ask = client.get_metric_history
    monkeypatch.setattr(
        client, "log_batch", lambda _self, _run, metrics=(), **_: logged.append(len(metrics))
    )
    monkeypatch.setattr(
        client,
        "get_metric_history",
        lambda self, run, key: asked.append(key) or ask(self, run, key),
    )
    again = Tracker(uri).run(stage)
    again.metrics(entries)
    again.metrics(entries)
    assert sorted(asked) == ["loss", "rate"]
    assert sum(logged) == 4


def test_the_last_score_counts_and_one_that_stands_is_not_logged_again(uri, stage, run):
    for time_ms, score in enumerate((0.5, 0.25, 0.375, 0.375, 0.25)):
        Tracker(uri).run(stage).scores({"test.wer": score}, time_ms)
        assert stored(uri, stage).data.metrics["test.wer"] == score
    assert len(history(uri, stage, "test.wer")) == 4


def test_a_score_counts_more_than_the_steps_before_it(uri, stage, run):
    run.metrics([entry(10, loss=0.5)])
    run.scores({"loss": 0.25}, entry(10)["time_ms"])
    assert stored(uri, stage).data.metrics["loss"] == 0.25
    assert steps(uri, stage, "loss") == [10, 10]


def test_more_values_than_one_batch_holds(uri, stage, run):
    run.metrics([entry(0, **{f"m{index}": 1.0 for index in range(1001)})])
    run.describe({f"p{index}": str(index) for index in range(101)}, {})
    data = stored(uri, stage).data
    assert len(data.metrics) == 1001
    assert len(data.params) == 101


def test_a_first_parameter_stands(uri, stage, run):
    run.describe({"workers": "1"}, {})
    Tracker(uri).run(stage).describe({"workers": "2", "device": "cpu", "long": "x" * 10_000}, {})
    params = stored(uri, stage).data.params
    assert params["workers"] == "1"
    assert params["device"] == "cpu"
    assert len(params["long"]) == 6000


def test_hostile_names_keep_their_values_and_take_no_other_along(uri, stage, run, caplog):
    """As a split's name, given by a user, goes into metrics, parameters, tags and artifacts."""
    values = {name: float(index) for index, name in enumerate([*HOSTILE, "loss"])}
    run.metrics([entry(step, **values) for step in range(2)])
    run.scores(values, 0)
    run.describe(flatten(values), {})
    run.describe({}, {name: str(value) for name, value in values.items()})
    data = stored(uri, stage).data
    assert data.metrics == {spell_name(name): value for name, value in values.items()}
    assert steps(uri, stage, spell_name("a:b.wer")) == [0, 1]
    texts = {spell_name(name): str(value) for name, value in values.items()}
    assert data.tags.items() >= texts.items()
    assert data.params.keys() == {spell_name(name) for name in flatten(values)}
    assert sorted(data.params.values()) == sorted(texts.values())
    assert caplog.text == ""


def test_what_is_not_finite_is_logged_once_and_takes_nothing_along(uri, stage, run):
    values = {"nan": math.nan, "more": math.inf, "less": -math.inf, "loss": 0.5}
    for _ in range(2):
        Tracker(uri).run(stage).scores(values, 0)
    metrics = stored(uri, stage).data.metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["more"], metrics["less"], metrics["loss"]) == (MOST, -MOST, 0.5)
    assert [len(history(uri, stage, key)) for key in values] == [1, 1, 1, 1]


def test_a_value_that_mlflow_refuses_takes_no_other_along(uri, stage, run, caplog, monkeypatch):
    """As if it had a rule that we do not know."""
    monkeypatch.setattr(mlflow_run, "spell_name", lambda name: name)
    monkeypatch.setattr(mlflow_run, "spell_params", dict)
    monkeypatch.setattr(mlflow_run, "spell_tags", dict)
    values = {f"m{index}": 1.0 for index in range(200)}
    run.metrics([entry(0, **{**values, "bad!": 1.0, "worse?": 1.0})])
    run.describe({**dict.fromkeys(values, "1"), "bad!": "1"}, {})
    run.describe({}, {**dict.fromkeys(values, "x"), "bad!": "x"})
    run.metrics([entry(0, last=1.0)])
    data = stored(uri, stage).data
    assert data.metrics.keys() == values.keys() | {"last"}
    assert data.params.keys() == values.keys()
    assert data.tags.keys() > values.keys()
    messages = [record.getMessage() for record in caplog.records]
    for what in ("metric 'bad!'", "metric 'worse?'", "param 'bad!'", "tag 'bad!'"):
        assert [what in message for message in messages].count(True) == 1, what
