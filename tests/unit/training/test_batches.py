import pytest

from pipeline.training.batches import Batch, epoch_batches, sorted_batches

DURATIONS = [1.0 + (index * 7 % 13) / 2 for index in range(101)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_has_each_utterance_once_within_the_limit(epoch):
    batches = epoch_batches(DURATIONS, batch_seconds=20.0, seed=0, epoch=epoch)
    assert sorted(i for batch in batches for i in batch.indices) == list(range(len(DURATIONS)))
    assert all(sum(DURATIONS[i] for i in batch.indices) <= 20.0 for batch in batches)


def test_order_and_company_change_with_epoch_and_seed_alone():
    first = epoch_batches(DURATIONS, 20.0, seed=0, epoch=0)
    assert epoch_batches(DURATIONS, 20.0, seed=0, epoch=0) == first
    for other in (epoch_batches(DURATIONS, 20.0, 0, 1), epoch_batches(DURATIONS, 20.0, 1, 0)):
        assert other != first
        assert set(other) != set(first)


def test_an_utterance_above_the_limit_is_a_batch_of_its_own():
    batches = sorted_batches([1.0, 50.0, 2.0], batch_seconds=10.0)
    assert batches == [Batch((0, 2)), Batch((1,))]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_micro", [1, 2])
def test_workers_share_a_batch_without_loss_or_repeat(world_size, num_micro):
    batch = Batch(tuple(range(10, 21)))
    shares = [
        batch.share(rank, world_size, micro, num_micro)
        for rank in range(world_size)
        for micro in range(num_micro)
    ]
    counted = [index for share in shares if share.counted for index in share.indices]
    assert sorted(counted) == list(batch.indices)
    assert all(
        batch.indices[p] == i for s in shares for p, i in zip(s.positions, s.indices, strict=True)
    )


def test_a_worker_without_utterances_takes_part_with_one_that_does_not_count():
    share = Batch((4,)).share(rank=1, world_size=2, micro=0, num_micro=1)
    assert share.indices == (4,)
    assert not share.counted
