import math

import pytest
import torch

from pipeline.vocoder.discriminators import Judgement
from pipeline.vocoder.losses import (
    LogMelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)


def judgement(scores, maps=()):
    return Judgement(torch.tensor(scores), [torch.tensor(each) for each in maps])


def test_a_perfect_discriminator_has_no_loss():
    assert float(discriminator_loss([judgement([1.0, 1.0])], [judgement([0.0])])) == 0


def test_discriminator_loss_is_least_squares_summed_over_members():
    real = [judgement([0.5, 1.0]), judgement([1.0])]
    made = [judgement([0.0, 1.0]), judgement([-2.0])]
    assert float(discriminator_loss(real, made)) == pytest.approx(0.125 + 0.5 + 4.0)


def test_adversarial_loss_pulls_scores_to_one():
    assert float(adversarial_loss([judgement([1.0]), judgement([0.0, 0.5])])) == pytest.approx(
        0.625
    )


def test_feature_matching_sums_mean_differences_and_spares_the_recordings():
    real = Judgement(torch.zeros(1), [torch.zeros(2, requires_grad=True), torch.ones(1)])
    made = Judgement(torch.zeros(1), [torch.tensor([1.0, 3.0], requires_grad=True), torch.ones(1)])
    loss = feature_matching_loss([real], [made])
    loss.backward()
    assert loss.item() == 2.0
    assert real.maps[0].grad is None
    assert made.maps[0].grad.tolist() == [0.5, 0.5]


def test_mel_loss_is_zero_for_equal_waveforms():
    waveform_BS = torch.randn(1, 4000)
    assert float(LogMelLoss(16000)(waveform_BS, waveform_BS)) == 0


def test_mel_loss_of_a_gain_is_its_logarithm():
    torch.manual_seed(0)
    waveform_BS = torch.randn(1, 4000)
    loss = LogMelLoss(16000)(waveform_BS, waveform_BS / 2)
    assert float(loss) == pytest.approx(math.log(2), rel=1e-4)
