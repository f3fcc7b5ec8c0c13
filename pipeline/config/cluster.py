"""Where the pipeline runs, on how many workers, and where it is tracked."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Section, Text

Workers = Annotated[int, Field(ge=1, le=10_000)]
WorkersOrNone = Annotated[int, Field(ge=0, le=10_000)]


class Tracking(Section):
    """MLflow; `MLFLOW_TRACKING_URI` takes precedence over `uri`.

    Credentials belong in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or in
    `MLFLOW_TRACKING_TOKEN`, of the driver; a config is shown and stored.
    """

    enabled: bool = True
    """Send runs to MLflow."""
    uri: Text | None = None
    """The MLflow server; `None` uses SQLite in the storage."""
    experiment: Text = "pipeline"
    """The MLflow experiment."""


class Cluster(Section):
    """Where the run takes place, and on how many workers.

    Nothing here changes a result, so no digest covers it: a checkpoint written with one number of
    workers, or one `sharding`, resumes with another.
    """

    address: Text | None = None
    """The Ray cluster to join (`auto` or an address); `None` starts Ray on this machine."""
    extraction_workers: WorkersOrNone = 2
    """Workers that extract features and tokenize; with 0, each split is done by its stage's process,
    on one CPU."""
    codebook_workers: Workers = 2
    """Workers that fit the codebook."""
    decoding_workers: WorkersOrNone = 0
    """Workers that decode test splits; with 0, each split is decoded by its stage's process, on one
    CPU."""
    training_workers: Workers = 1
    """Workers that train; a step covers the same utterances for any number of them."""
    cpus_per_worker: Annotated[float, Field(ge=1e-4, le=10_000)] = 1.0
    """CPUs that Ray reserves for each worker, its loader processes included."""
    gpus_per_worker: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """GPUs that Ray reserves for each worker; with 0 it computes on CPUs, whatever GPUs there are."""
    loader_processes: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Processes of each training worker that read data ahead; 0 uses a thread, `None` a thread on a
    CPU and processes on a GPU."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """`ddp` gives each worker a copy of the model, `fsdp` a part of it (PyTorch's FSDP2)."""
    max_failures: Annotated[int, Field(ge=0, le=10_000)] = 3
    """How often lost work is done again before its stage fails."""
    cache_gigabytes: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    """Memory of each training worker for data that it has read, in GiB; its processes share it. It is so
    much for features, as much for audio if a phase reads it, and a quarter for what
    `resynthesis_loss` compares with."""

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        share = self.gpus_per_worker
        if not (share < 1 or share.is_integer()) or 0 < share < 1e-4:
            raise ValueError(
                f"gpus_per_worker {share:g} must be 0, a share from 0.0001 on, or whole: Ray divides "
                "one GPU, and gives several only as a whole"
            )
        return self
