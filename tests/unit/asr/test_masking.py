import pytest
import torch

from pipeline.asr.masking import TimeMasking, WidthMasking

LENGTHS = torch.tensor([100, 60, 1])
FRAMES = torch.ones(3, 100, 4)


def test_evaluation_and_zero_masks_change_nothing():
    assert torch.equal(TimeMasking(2, 0.5).eval()(FRAMES, LENGTHS), FRAMES)
    assert torch.equal(TimeMasking(0, 0.5).train()(FRAMES, LENGTHS), FRAMES)


def test_evaluation_and_zero_masks_draw_nothing():
    state = torch.get_rng_state()
    for masks, training in ((0, True), (2, False)):
        frames = WidthMasking(masks, 0.5).train(training)(FRAMES)
        assert torch.equal(TimeMasking(masks, 0.5).train(training)(frames, LENGTHS), FRAMES)
    assert torch.equal(torch.get_rng_state(), state)


def test_values_are_masked_in_all_frames_of_an_utterance_in_one_span():
    torch.manual_seed(0)
    frames = torch.ones(3, 7, 20)
    masking = WidthMasking(1, 0.25).train()
    widths, places = set(), set()
    for _ in range(300):
        blank = masking(frames).eq(0)
        assert torch.equal(blank.any(1), blank.all(1))
        where = blank[0, 0].nonzero().flatten().tolist()
        assert where == list(range(where[0], where[-1] + 1)) if where else True
        widths.add(len(where))
        places.update(where)
    assert widths == set(range(6))
    assert places == set(range(20))


def test_spans_are_whole_frames_within_each_length_and_share():
    torch.manual_seed(0)
    masking = TimeMasking(1, 0.2).train()
    widths, starts = [], []
    for _ in range(400):
        masked = masking(FRAMES, LENGTHS)
        blank = masked.eq(0)
        assert torch.equal(blank.any(-1), blank.all(-1))
        blank = blank.any(-1)
        for row, length in zip(blank, LENGTHS.tolist(), strict=True):
            assert not row[length:].any()
            assert int(row.sum()) <= 0.2 * length
            places = row.nonzero().flatten()
            assert len(places) == 0 or int(places[-1] - places[0]) + 1 == len(places)
        widths.append(int(blank[0].sum()))
        starts += blank[0].nonzero().flatten()[:1].tolist()
    assert set(widths) == set(range(21))
    assert min(starts) < 5
    assert max(starts) > 85


def test_several_masks_and_their_gradient():
    torch.manual_seed(1)
    frames = FRAMES.clone().requires_grad_()
    masked = TimeMasking(3, 0.3).train()(frames, LENGTHS)
    masked.sum().backward()
    assert torch.equal(frames.grad, masked.detach())
    assert masked[0].eq(0).any()


def test_the_global_seed_decides():
    masking = TimeMasking(2, 0.2).train()
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(masking(FRAMES, LENGTHS))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("length", [1, 3])
def test_short_utterances_keep_their_frames_when_the_share_allows_none(length):
    masked = TimeMasking(2, 0.2).train()(torch.ones(1, length, 2), torch.tensor([length]))
    assert torch.equal(masked, torch.ones(1, length, 2))
