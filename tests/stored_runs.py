"""Stores of MLflow without runs, and what they have stored of a run."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.tracking.tracker import Tracker, connect


@cache
def _empty() -> TemporaryDirectory[str]:
    """A folder with a store: MLflow makes its tables in seconds."""
    folder = TemporaryDirectory()
    connect(f"sqlite:///{folder.name}/mlflow.db").search_experiments()
    return folder


def new_store(path: Path) -> str:
    """Make an empty store at `path`; its address."""
    shutil.copy(f"{_empty().name}/mlflow.db", path)
    return f"sqlite:///{path}"


def run_id(uri, name):
    return Tracker(uri).run(name).run_id


def stored(uri, name):
    return connect(uri).get_run(run_id(uri, name))


def history(uri, name, key):
    return connect(uri).get_metric_history(run_id(uri, name), key)


def steps(uri, name, key):
    return [metric.step for metric in history(uri, name, key)]
