import pytest
import torch

from pipeline.vocoder.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    ResolutionDiscriminator,
)


@pytest.mark.parametrize("period", [2, 3, 11])
def test_a_period_discriminator_sees_columns_apart(period):
    """A change at sample s reaches only the scores of the column s mod period."""
    torch.manual_seed(0)
    judge = PeriodDiscriminator(period, 1)
    waveform_BS = torch.randn(1, 40 * period)
    changed_BS = waveform_BS.clone()
    changed_BS[0, 20 * period + 1] += 1
    before_BCRP, after_BCRP = judge(waveform_BS).maps[-1], judge(changed_BS).maps[-1]
    moved = (before_BCRP != after_BCRP).flatten(0, 2).any(0)
    assert moved.nonzero().flatten().tolist() == [1]


def test_any_length_can_be_folded():
    judge = PeriodDiscriminator(7, 1)
    assert torch.isfinite(judge(torch.randn(2, 701)).scores).all()


def test_there_are_five_periods_and_three_resolutions():
    judgements = Discriminators(1)(torch.randn(2, 1600))
    assert [len(judgement.maps) for judgement in judgements] == [6] * 8
    assert all(judgement.scores.shape[0] == 2 for judgement in judgements)


def test_a_resolution_discriminator_sees_frames_by_bins():
    waveform_BS = torch.randn(1, 4096)
    sizes = [
        ResolutionDiscriminator(window, 1)(waveform_BS).maps[0].shape[2:]
        for window in (512, 1024, 2048)
    ]
    assert sizes == [(33, 257), (17, 513), (9, 1025)]


def test_a_resolution_discriminator_is_deaf_to_phase():
    """What two windows share of a waveform and of its negative is the magnitudes."""
    torch.manual_seed(0)
    judge, waveform_BS = ResolutionDiscriminator(512, 2), torch.randn(1, 2048)
    assert torch.allclose(judge(waveform_BS).scores, judge(-waveform_BS).scores, atol=1e-6)
    assert not torch.allclose(judge(waveform_BS).scores, judge(2 * waveform_BS).scores, atol=1e-3)


def test_widths_are_the_papers_at_32_channels():
    with torch.device("meta"):
        widths = [layer.out_channels for layer in PeriodDiscriminator(2, 32).layers]
        others = [layer.out_channels for layer in ResolutionDiscriminator(512, 32).layers]
    assert widths == [32, 128, 512, 1024, 1024]
    assert others == [32] * 5


def test_halves_of_a_batch_are_judged_as_if_alone():
    torch.manual_seed(0)
    judge = PeriodDiscriminator(3, 2)
    first_BS, second_BS = torch.randn(2, 2, 600)
    both = judge(torch.cat([first_BS, second_BS]))
    for index, waveform_BS in enumerate((first_BS, second_BS)):
        alone = judge(waveform_BS)
        assert torch.allclose(both.half(index).scores, alone.scores, atol=1e-5)
        for layer, expected in zip(both.half(index).maps, alone.maps, strict=True):
            assert torch.allclose(layer, expected, atol=1e-5)
