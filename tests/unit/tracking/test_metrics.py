"""Values of a run: each step once, the last score, the first parameter."""

import math
import sys

from stored_runs import history, steps, stored
from test_spelling import HOSTILE

from pipeline import tracking
from pipeline.redaction import flatten
from pipeline.tracking import tracker
from pipeline.tracking.spelling import spell_name
from pipeline.tracking.tracker import connect

MOST = sys.float_info.max


def test_a_resumed_run_logs_no_step_twice(stage, in_a_new_process):
    for step in range(3):
        stage.log_metrics({"loss": 1.0 / (step + 1)}, step)
    stage.flush(60)
    resumed = in_a_new_process(stage)
    for step in range(5):
        resumed.log_metrics({"loss": 9.0, "fresh": 2.0}, step)
    resumed.log_metrics({"loss": 9.0}, 4)
    assert steps(resumed, "loss") == [0, 1, 2, 3, 4]
    assert steps(resumed, "fresh") == [0, 1, 2, 3, 4]
    assert [metric.value for metric in history(stage, "loss")[:3]] == [1.0, 0.5, 1.0 / 3]


def test_an_earlier_step_that_is_missing_is_taken(stage):
    stage.log_metrics({"loss": 1.0}, 5)
    stage.flush(60)
    stage.log_metrics({"loss": 1.0}, 3)
    assert sorted(steps(stage, "loss")) == [3, 5]


def test_a_history_offered_again_costs_one_request_a_key(stage, in_a_new_process, monkeypatch):
    for step in range(300):
        stage.log_metrics({"loss": 1.0, "rate": 0.1}, step)
    stage.flush(60)
    asked, logged = [], []
    client = connect(stage.uri)
    monkeypatch.setattr(
        type(client), "log_batch", lambda _self, _run, metrics=(), **_: logged.append(len(metrics))
    )
    ask = type(client).get_metric_history
    monkeypatch.setattr(
        type(client),
        "get_metric_history",
        lambda self, run, key: asked.append(key) or ask(self, run, key),
    )
    resumed = in_a_new_process(stage)
    for step in range(302):
        resumed.log_metrics({"loss": 1.0, "rate": 0.1}, step)
    resumed.flush(60)
    assert sorted(asked) == ["loss", "rate"]
    assert sum(logged) == 4


def test_the_last_score_counts(stage):
    for score in (0.5, 0.25, 0.375):
        stage.log_metrics({"test.wer": score})
    assert stored(stage).data.metrics["test.wer"] == 0.375
    stage.log_metrics({"test.wer": 0.25})
    assert stored(stage).data.metrics["test.wer"] == 0.25


def test_a_score_that_stands_is_not_logged_again(stage):
    for _ in range(2):
        stage.log_metrics({"test.wer": 0.5})
        stage.flush(60)
    assert len(history(stage, "test.wer")) == 1


def test_a_final_score_counts_more_than_the_steps_of_another_process(
    variant, stage, in_a_new_process
):
    stage.log_params({"a": 1})
    stage.flush(60)
    worker = in_a_new_process(stage)
    worker.log_metrics({"loss": 0.5}, 10)
    worker.flush(60)
    stage.log_metrics({"loss": 0.75})
    assert stored(stage).data.metrics["loss"] == 0.75
    assert steps(stage, "loss") == [10, 10]


def test_more_values_than_one_batch_holds(stage):
    stage.log_metrics({f"m{index}": 1.0 for index in range(1001)}, 0)
    stage.log_params({f"p{index}": index for index in range(101)})
    data = stored(stage).data
    assert len(data.metrics) == 1001
    assert len(data.params) == 101


def test_a_first_parameter_stands(stage):
    stage.log_params({"workers": 1})
    stage.log_params({"workers": 2, "device": "cpu", "long": "x" * 10_000})
    params = stored(stage).data.params
    assert params["workers"] == "1"
    assert params["device"] == "cpu"
    assert len(params["long"]) == 6000


def test_hostile_names_keep_their_values_and_take_no_other_along(stage, caplog):
    """As a split's name, given by a user, goes into metrics, parameters, tags and artifacts."""
    values = {name: float(index) for index, name in enumerate([*HOSTILE, "loss"])}
    for step in range(2):
        stage.log_metrics(values, step)
    stage.log_metrics(values)
    stage.log_params(values)
    stage.set_tags(values)
    data = stored(stage).data
    assert data.metrics == {spell_name(name): value for name, value in values.items()}
    assert steps(stage, spell_name("a:b.wer")) == [0, 1]
    texts = {spell_name(name): str(value) for name, value in values.items()}
    assert data.tags.items() >= texts.items()
    quoted = {spell_name(name) for name in flatten(values)}
    assert data.params.keys() == quoted
    assert sorted(data.params.values()) == sorted(texts.values())
    assert caplog.text == ""


def test_what_is_not_finite_is_logged_once_and_takes_nothing_along(stage):
    values = {"nan": math.nan, "more": math.inf, "less": -math.inf, "loss": 0.5}
    for _ in range(2):
        stage.log_metrics(values, 0)
        stage.log_metrics(values)
        stage.flush(60)
    metrics = stored(stage).data.metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["more"], metrics["less"], metrics["loss"]) == (MOST, -MOST, 0.5)
    assert [len(history(stage, key)) for key in values] == [1, 1, 1, 1]


def test_a_value_that_mlflow_refuses_takes_no_other_along(stage, caplog, monkeypatch):
    """As if it had a rule that we do not know."""
    monkeypatch.setattr(tracker, "spell_name", lambda name: name)
    monkeypatch.setattr(tracker, "spell_tags", lambda tags: tags)
    values = {f"m{index}": 1.0 for index in range(200)}
    for step in range(2):
        stage.log_metrics({**values, "bad!": 1.0, "worse?": 1.0}, step)
    stage.log_params({**values, "bad!": 1})
    stage.set_tags({**values, "bad!": "x"})
    stage.log_metrics({"last": 1.0}, 0)
    data = stored(stage).data
    assert data.metrics.keys() == values.keys() | {"last"}
    assert data.params.keys() == values.keys()
    assert data.tags.keys() > values.keys()
    messages = [record.getMessage() for record in caplog.records]
    for what in ("metric 'bad!'", "metric 'worse?'", "parameter 'bad!'", "tag 'bad!'"):
        assert [what in message for message in messages].count(True) == 1, what


def test_what_cannot_be_logged_costs_one_warning_line(stage, caplog):
    stage.log_metrics({"bad": "x", "good": 1.0}, 0)
    stage.log_file("/no/such/file")
    stage.log_metrics({"better": 1.0}, 0)
    assert set(stored(stage).data.metrics) == {"good", "better"}
    messages = [
        record.getMessage() for record in caplog.records if record.name == tracking.__name__
    ]
    assert len(messages) == 2
    assert all("\n" not in message for message in messages)
    assert "metric 'bad' was dropped: ValueError" in messages[0]
    assert "log_file was dropped" in messages[1]
