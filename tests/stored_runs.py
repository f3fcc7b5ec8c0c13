"""What MLflow has stored of a run."""

from pipeline.tracking.tracker import Tracker, connect


def run_id(uri, name):
    return Tracker(uri).run(name).run_id


def stored(uri, name):
    return connect(uri).get_run(run_id(uri, name))


def history(uri, name, key):
    return connect(uri).get_metric_history(run_id(uri, name), key)


def steps(uri, name, key):
    return [metric.step for metric in history(uri, name, key)]
