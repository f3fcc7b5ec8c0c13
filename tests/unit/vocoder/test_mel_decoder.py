"""The loss of decoded spectra: against a slow sum, with padding, and with unheard speakers."""

import pytest
import torch

from pipeline.vocoder.frame_mels import NUM_MELS
from pipeline.vocoder.mel_decoder import MelDecoder
from pipeline.vocoder.speakers import AVERAGE_SPEAKER

LENGTHS = (7, 3, 12)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return MelDecoder(num_units=5, num_speakers=3, dim=8)


def batch(lengths, longest, filler=0.0):
    """Units, their mask and targets; padding holds `filler`."""
    generator = torch.Generator().manual_seed(1)
    mask_BT = torch.arange(longest) < torch.tensor(lengths)[:, None]
    units_BT = torch.zeros(len(lengths), longest, dtype=torch.long)
    heard_BTM = torch.full((len(lengths), longest, NUM_MELS), filler)
    for row, length in enumerate(lengths):
        units_BT[row, :length] = torch.randint(5, (length,), generator=generator)
        heard_BTM[row, :length] = torch.randn(length, NUM_MELS, generator=generator)
    return units_BT, mask_BT, heard_BTM


def loss_of(decoder, lengths, speakers, longest, filler=0.0):
    units_BT, mask_BT, heard_BTM = batch(lengths, longest, filler)
    embedded_BTE = decoder.unit_embedding(units_BT) + filler * ~mask_BT[..., None]
    return decoder.loss(embedded_BTE, torch.tensor(speakers), mask_BT, heard_BTM).detach()


def test_the_loss_is_the_sum_over_frames_of_the_mean_error_over_bands(decoder):
    units_BT, mask_BT, heard_BTM = batch(LENGTHS, max(LENGTHS))
    speakers_B = torch.tensor([0, 2, 1])
    made_BTM = decoder(decoder.unit_embedding(units_BT), speakers_B, mask_BT).detach()
    expected = 0.0
    for row, length in enumerate(LENGTHS):
        for frame in range(length):
            errors = [
                abs(float(made_BTM[row, frame, band]) - float(heard_BTM[row, frame, band]))
                for band in range(NUM_MELS)
            ]
            expected += sum(errors) / NUM_MELS
    assert float(loss_of(decoder, LENGTHS, [0, 2, 1], max(LENGTHS))) == pytest.approx(expected)


def test_padding_does_not_change_the_loss(decoder):
    plain = loss_of(decoder, LENGTHS, [0, 2, 1], max(LENGTHS))
    padded = loss_of(decoder, LENGTHS, [0, 2, 1], max(LENGTHS) + 9, filler=100.0)
    assert float(padded) == pytest.approx(float(plain), rel=1e-5)


def test_an_utterance_has_the_same_loss_alone(decoder):
    first = float(loss_of(decoder, LENGTHS[:1], [0], LENGTHS[0]))
    padded = float(loss_of(decoder, LENGTHS[:1], [0], 40, filler=-3.0))
    assert padded == pytest.approx(first, rel=1e-5)


def test_an_unheard_speaker_speaks_with_the_mean_of_all_rows(decoder):
    with torch.no_grad():
        decoder.speaker_embedding.weight[2] = decoder.speaker_embedding.weight[:2].mean(0)
    unheard, mean, other = (
        float(loss_of(decoder, LENGTHS, [0, speaker, 1], max(LENGTHS)))
        for speaker in (AVERAGE_SPEAKER, 2, 1)
    )
    assert unheard == pytest.approx(mean, rel=1e-5)
    assert unheard != pytest.approx(other, rel=1e-3)


def test_a_frame_that_only_one_side_has_does_not_count(decoder):
    units_BT, mask_BT, heard_BTM = batch((6,), 6)
    embedded_BTE, speakers_B = decoder.unit_embedding(units_BT), torch.tensor([0])
    whole = decoder(embedded_BTE, speakers_B, mask_BT)
    expected = (whole[:, :5] - heard_BTM[:, :5]).abs().mean(-1).sum()
    found = decoder.loss(embedded_BTE, speakers_B, mask_BT, heard_BTM[:, :5])
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
