"""Where the results of a command go that may be stopped: an older file is not replaced by less."""

from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder


def place_of(output: str, *, complete: bool) -> str:
    """`output`; or, where results are not complete, `a.stopped.parquet` beside an older `a.parquet`."""
    folder, name = Folder.around(output)
    if complete or not Artifact(folder.uri).exists(name):
        return output
    stem, dot, extension = name.rpartition(".")
    stopped = f"{stem}.stopped.{extension}" if dot else f"{name}.stopped"
    return f"{output.removesuffix(name)}{stopped}"
