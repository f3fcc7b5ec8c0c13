"""Where the pipeline runs, on how many workers, and where it is tracked."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Count, Positive, Section


class Tracking(Section):
    """MLflow; `MLFLOW_TRACKING_URI` takes precedence over `uri`.

    Credentials belong in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or in
    `MLFLOW_TRACKING_TOKEN`, of the driver and of every node; a config is shown and stored.
    """

    enabled: bool = True
    """Send runs to MLflow."""
    uri: str | None = None
    """The MLflow server; `None` uses SQLite in the storage."""
    experiment: str = "pipeline"
    """The MLflow experiment."""


class Cluster(Section):
    """Where the run takes place, and on how many workers.

    Nothing here changes a result, so no digest covers it: a checkpoint written with one number of
    workers, or one `sharding`, resumes with another.
    """

    address: str | None = None
    """The Ray cluster to join (`auto` or an address); `None` starts Ray on this machine."""
    extraction_workers: Count = 2
    """Workers that extract features and tokenize."""
    codebook_workers: Count = 2
    """Workers that fit the codebook."""
    training_workers: Count = 1
    """Workers that train; a step covers the same utterances for any number of them."""
    cpus_per_worker: Positive = 1.0
    """CPUs that Ray reserves for each worker, its loader processes included."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that Ray reserves for each worker."""
    loader_processes: Annotated[int, Field(ge=0)] | None = None
    """Processes of each training worker that read data ahead; 0 uses a thread, `None` a thread on a
    CPU and processes on a GPU."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """`ddp` gives each worker a copy of the model, `fsdp` a part of it (PyTorch's FSDP2)."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often lost work is done again before its stage fails."""
    cache_gigabytes: Positive = 2.0
    """Memory of each training worker for data that it has read, in GiB; its processes share it."""
