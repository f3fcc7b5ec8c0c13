"""Configs run to their end in this process: what Ray would do on workers is done here, in order."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from support import run_shards_here

from pipeline.graph.graph import build
from pipeline.runtime import shard_pool
from pipeline.runtime.node_run import Start, run_node
from pipeline.runtime.task_pool import TaskPool


def map_here(_pool, _unit, function, parts, *shared):
    return (function(part, *shared) for part in parts)


@contextmanager
def without_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_pool, "run_shards", run_shards_here)
        patch.setattr(TaskPool, "map", map_here)
        patch.setattr(ray, "put", lambda value: value)
        yield


def run_here(configs):
    """The finished graph and the labels of the nodes that ran."""
    ran = []
    with without_ray():
        while pending := (graph := build(configs)).pending():
            outcome = run_node(pending[0], Start())
            assert outcome.status == "done", outcome.error
            ran.append(pending[0].label)
    return graph, ran
