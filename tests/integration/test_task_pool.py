"""Parallel tasks: ordered results, a limit on running tasks, lost workers replaced, clear errors."""

import os
import sys
import time
from pathlib import Path

import pytest
from ray import cloudpickle

from pipeline.clustering.assignment import FramesError
from pipeline.config import Cluster
from pipeline.runtime.node_run import message
from pipeline.runtime.task_pool import TaskPool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module", autouse=True)
def _importable():
    """Workers cannot import this file, so its functions are sent to them."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def pool(size):
    return TaskPool(size, Cluster())


def log(part, folder):
    """Earlier parts sleep longer; each records when it started and ended."""
    started = time.time()
    time.sleep(0.6 - 0.1 * part)
    Path(folder, str(part)).write_text(f"{started} {time.time()}")
    return part, os.getpid()


def die_once(part, folder):
    mark = Path(folder, str(part))
    if part == 1 and not mark.exists():
        mark.touch()
        os._exit(1)
    return part


def refuse(part, folder):
    if part == 2:
        raise FramesError("three frames hold NaN: extract them again")
    Path(folder, str(part)).touch()
    return part


def visible_gpus(_part):
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_what_has_reserved_no_gpu_sees_none():
    assert list(pool(1).map("looking", visible_gpus, range(1))) == [""]


@pytest.mark.parametrize("size", [1, 2])
def test_results_are_in_order_and_no_more_tasks_than_its_size_run_at_once(tmp_path, size):
    found = list(pool(size).map("logging", log, range(5), str(tmp_path)))
    assert [part for part, _ in found] == list(range(5))
    spans = [tuple(map(float, file.read_text().split())) for file in tmp_path.iterdir()]
    assert len(spans) == 5
    at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(at_once) <= size
    assert os.getpid() not in [process for _, process in found]


def test_without_parts_there_is_nothing_to_do():
    assert list(pool(2).map("nothing", log, [], "unused")) == []


def test_what_a_lost_worker_did_is_done_again(tmp_path):
    assert list(pool(2).map("dying", die_once, range(3), str(tmp_path))) == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["1"]


def test_an_error_of_the_project_reaches_the_user_as_it_was_raised(tmp_path):
    results = pool(1).map("refusing", refuse, range(50), str(tmp_path))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(FramesError) as caught:
        next(results)
    assert message(caught.value) == "three frames hold NaN: extract them again"
    # No task keeps running without anybody waiting for it.
    assert len(list(tmp_path.iterdir())) < 5
