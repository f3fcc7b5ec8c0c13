import pytest
import torch

from pipeline.vocoder.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
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


def test_there_are_five_periods_and_three_scales():
    judgements = Discriminators(1)(torch.randn(2, 1600))
    assert [len(judgement.maps) for judgement in judgements] == [6] * 5 + [8] * 3
    assert all(judgement.scores.shape[0] == 2 for judgement in judgements)


def test_coarser_scales_see_fewer_samples():
    waveform_BS = torch.randn(1, 1600)
    lengths = [
        ScaleDiscriminator(reduction, 1)(waveform_BS).maps[0].shape[-1] for reduction in (1, 2, 4)
    ]
    assert lengths == [1600, 801, 401]


def test_widths_are_the_papers_at_32_channels():
    with torch.device("meta"):
        widths = [layer.out_channels for layer in PeriodDiscriminator(2, 32).layers]
        scale_widths = [layer.out_channels for layer in ScaleDiscriminator(1, 32).layers]
    assert widths == [32, 128, 512, 1024, 1024]
    assert scale_widths == [128, 128, 256, 512, 1024, 1024, 1024]


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
