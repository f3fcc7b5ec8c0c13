"""Where it runs, how wide, and where it is tracked."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Count, Positive, Section


class Tracking(Section):
    """MLflow; `MLFLOW_TRACKING_URI` wins over `uri`, and the default is SQLite in the storage.

    Credentials belong in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or in
    `MLFLOW_TRACKING_TOKEN`, of the driver and of every node; a config is shown and stored.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str = "pipeline"


class Cluster(Section):
    """Where and how wide it runs. Nothing here changes a result, so no digest covers it.

    A training step goes over the same utterances with any number of `training_workers`. Each has
    a copy of the joint model (`sharding` `ddp`) or, of one that does not fit, a part (`fsdp`,
    PyTorch's FSDP2); a checkpoint of one goes on as the other. `loader_processes` of each read its data
    ahead, and share its `cache_gigabytes`; 0 reads in a thread of the worker, and None is a thread
    on a CPU and processes on a GPU. They run on the CPUs of their worker: count them in
    `cpus_per_worker`.
    """

    address: str | None = None
    extraction_workers: Count = 2
    codebook_workers: Count = 2
    training_workers: Count = 1
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    loader_processes: Annotated[int, Field(ge=0)] | None = None
    sharding: Literal["ddp", "fsdp"] = "ddp"
    max_failures: Annotated[int, Field(ge=0)] = 3
    cache_gigabytes: Positive = 2.0
