"""How many blocks are computed twice, by the memory that there is."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.training.activation_memory import blocks_to_recompute
from pipeline.training.joint_model import JointModel
from pipeline.training.worker import Worker

GIGABYTE = 10**9


class WavlmLarge:
    """Its numbers alone."""

    hidden_size = 1024
    num_layers = 24

    def parameters(self):
        return [torch.empty(315_000_000, device="meta")]


@pytest.mark.parametrize(
    ("seconds", "gigabytes", "expected"),
    [
        (400, 141, 0),  # an H200: 37 GB were measured
        (400, 80, 0),
        (60, 24, 0),
        (400, 24, 24),  # 13 GB were measured with all blocks computed again
        (60, 12, 19),  # 7.2 - 5.04 - 1.35 GB are 5 blocks of 0.16 GB, which keep what they computed
        (60, 1, 24),
    ],
)
def test_as_many_blocks_as_the_memory_asks_for(seconds, gigabytes, expected):
    assert blocks_to_recompute(WavlmLarge(), seconds, gigabytes * GIGABYTE) == expected


class Gpu(Worker):
    """One of four, with 12 GB."""

    memory_bytes = 12 * GIGABYTE


@pytest.mark.parametrize(
    ("sharding", "expected"),
    [
        ("ddp", 19),  # 60 s for each worker, as in the line for 12 GB above
        ("fsdp", 0),  # 7.2 - 5.04 / 4 - 1.35 GB are 28 blocks of 0.16 GB
    ],
)
def test_a_worker_that_has_a_part_of_the_model_has_room_for_more_blocks(sharding, expected):
    config = Config(
        variant="v",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        training={"batch_seconds": 480, "accumulate": 2, "train_front_end": True},
        cluster={"sharding": sharding},
    )
    recomputed = [0]
    ssl = WavlmLarge()
    ssl.checkpoint_gradients = recomputed.append
    JointModel.prepare(SimpleNamespace(ssl=ssl), config, Gpu(world_size=4))
    assert recomputed[-1] == expected


def test_more_memory_recomputes_less():
    numbers = [blocks_to_recompute(WavlmLarge(), 400, n * GIGABYTE) for n in range(30, 80)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 10


def test_a_cpu_recomputes_nothing():
    assert blocks_to_recompute(WavlmLarge(), 10_000, None) == 0
