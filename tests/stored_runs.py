"""What MLflow has stored of a run once everything is sent."""

from pipeline.tracking.tracker import Tracker, connect


def run_id(run):
    run.flush(60)
    return Tracker(run.uri)._record(run.run).run_id


def stored(run):
    return connect(run.uri).get_run(run_id(run))


def history(run, key):
    return connect(run.uri).get_metric_history(run_id(run), key)


def steps(run, key):
    return [metric.step for metric in history(run, key)]
