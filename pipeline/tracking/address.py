"""The address of the MLflow server or file."""

import os
from pathlib import Path

from pipeline.config import Tracking


def tracking_uri(tracking: Tracking, storage: str, given: str = "") -> str:
    """Where runs are published: `given`, then `MLFLOW_TRACKING_URI`, then `tracking.uri`, then SQLite.

    The SQLite file is `mlflow.db` in a local storage and `mlruns.db` in the current folder for
    a remote storage. Its path is absolute.
    """
    local = Path(storage, "mlflow.db") if "://" not in storage else Path("mlruns.db")
    named = given or os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    uri = named or f"sqlite:///{local.resolve()}"
    prefix, _, path = uri.partition("sqlite:///")
    if prefix or not path or path.startswith(("/", ":memory:")):
        return uri
    return f"sqlite:///{Path(path).resolve()}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite address; `None` for any other."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return None if path in (uri, "", ":memory:") else Path(path)
