import math

import pytest
import torch
from pydantic import ValidationError

from pipeline.config import Vocoder
from pipeline.vocoder.pitch_predictor import PitchPredictor, pitch_channels
from pipeline.vocoder.speakers import Speakers


def speakers(*hz):
    return Speakers(torch.zeros(len(hz), 2), torch.log2(torch.tensor(hz)))


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return PitchPredictor(4, 2, 8)


def test_an_unheard_voice_keeps_its_f0(predictor):
    units_BT = torch.tensor([[0, 1, 2, 3]]).expand(2, 4)
    _, log2_BT = predictor(units_BT, speakers(100.0, 200.0), torch.ones(2, 4, dtype=torch.bool))
    assert torch.allclose(log2_BT[1] - log2_BT[0], torch.ones(4), atol=1e-6)


def test_voicing_and_f0_of_units_are_learned(predictor):
    """Units 0 and 1 are voiced, 1 a third of an octave above the speaker's mean; 2 and 3 are not."""
    random = torch.Generator().manual_seed(0)
    units_BT = torch.randint(4, (4, 8), generator=random).repeat_interleave(8, dim=1)
    means = speakers(100.0, 120.0, 180.0, 220.0)
    octaves_BT = torch.tensor([0.0, 1 / 3, 0.0, 0.0])[units_BT]
    f0_BT = torch.exp2(means.log2_f0_B[:, None] + octaves_BT) * (units_BT < 2)
    optimizer = torch.optim.Adam(predictor.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        predictor.loss(units_BT, means, f0_BT).backward()
        optimizer.step()
    made_BT = predictor.predict(units_BT, means, torch.ones_like(units_BT, dtype=torch.bool))
    assert ((made_BT > 0) == (f0_BT > 0)).float().mean() > 0.97
    both_BT = (made_BT > 0) & (f0_BT > 0)
    assert (torch.log2(made_BT / f0_BT)[both_BT].abs() < 0.1).float().mean() > 0.9


def test_the_loss_is_cross_entropy_and_octaves(predictor):
    units_BT = torch.tensor([[0, 1, 2]])
    f0_BT = torch.tensor([[200.0, 0.0, 100.0]])
    inside_BT = torch.ones(1, 3, dtype=torch.bool)
    [logits_T], [log2_T] = predictor(units_BT, speakers(150.0), inside_BT)
    probabilities = [1 / (1 + math.exp(-float(logit))) for logit in logits_T]
    chances = [probabilities[0], 1 - probabilities[1], probabilities[2]]
    entropy = -sum(map(math.log, chances)) / 3
    octaves = [abs(float(log2_T[i]) - math.log2(hz)) for i, hz in ((0, 200), (2, 100))]
    loss = float(predictor.loss(units_BT, speakers(150.0), f0_BT))
    assert loss == pytest.approx(entropy + sum(octaves) / 2, rel=1e-5)


def test_unvoiced_segments_have_a_loss(predictor):
    loss = predictor.loss(torch.tensor([[0, 1]]), speakers(150.0), torch.zeros(1, 2))
    assert torch.isfinite(loss)


def test_a_row_does_not_depend_on_its_padding(predictor):
    inside_BT = torch.tensor([[True, True, False, False]])
    first, second = (
        predictor(torch.tensor([[1, 2, *rest]]), speakers(150.0), inside_BT)[1][0, :2]
        for rest in ((0, 0), (3, 1))
    )
    assert torch.equal(first, second)
    made_BT = predictor.predict(torch.tensor([[1, 2, 0, 0]]), speakers(150.0), inside_BT)
    assert made_BT[0, 2:].tolist() == [0.0, 0.0]


def test_the_generator_sees_octaves_and_voicing():
    channels = pitch_channels(torch.tensor([[2.0**8.2, 0.0]]))[0]
    assert channels.tolist() == [pytest.approx([1.0, 1.0]), [0.0, 0.0]]


def test_hifigan_cannot_be_excited():
    with pytest.raises(ValidationError, match=r"set vocoder\.generator to istft"):
        Vocoder(pitch="predicted", generator="hifigan")
