import math

import pytest
import torch

from pipeline.asr.encoder import Encoder, padding_mask, sinusoids
from pipeline.asr.subsampling import halved
from pipeline.config import Asr

CPU = torch.device("cpu")


def make_encoder(subsampling=2):
    torch.manual_seed(0)
    settings = Asr(
        embedding_dim=12,
        dim=16,
        heads=2,
        feedforward_dim=24,
        encoder_layers=2,
        conv_kernel=7,
        subsampling=subsampling,
        dropout=0.0,
    )
    return Encoder(settings)


@pytest.mark.parametrize("subsampling", [1, 2, 4])
@pytest.mark.parametrize("train", [False, True])
def test_an_utterance_does_not_depend_on_its_batch(subsampling, train):
    encoder = make_encoder(subsampling).train(train)
    lengths = torch.tensor([41, 17, 4, 1])
    frames = torch.randn(4, 50, 12) * 10  # what lies behind an end is loud, and no zero
    encoded, encoded_lengths = encoder(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(frames[row : row + 1, :length], torch.tensor([length]))
        kept = math.ceil(length / subsampling)
        assert encoded_lengths[row] == kept
        assert alone.shape[1] == kept
        torch.testing.assert_close(encoded[row, :kept], alone[0], atol=1e-5, rtol=0)
        assert not encoded[row, kept:].any()


def test_the_order_of_frames_matters_beyond_the_convolution():
    encoder = make_encoder(subsampling=1).eval()
    frames = torch.randn(1, 12, 12).repeat(1, 4, 1)  # one stretch four times over
    encoded, _ = encoder(frames, torch.tensor([48]))
    # Twelve frames apart and far from the ends, a kernel of 7 sees the same in both places.
    assert (encoded[0, 16] - encoded[0, 28]).abs().max() > 0.05


def test_no_gradient_comes_from_behind_the_end():
    encoder = make_encoder()
    frames = torch.randn(2, 20, 12, requires_grad=True)
    encoded, _ = encoder(frames, torch.tensor([20, 9]))
    encoded.square().sum().backward()
    assert not frames.grad[1, 9:].any()
    assert frames.grad[1, :9].abs().amin(dim=-1).gt(0).all()


def test_padding_mask_and_halved():
    assert padding_mask(torch.tensor([2, 0]), 3).tolist() == [[False, False, True], [True] * 3]
    assert [halved(n) for n in (0, 1, 2, 3, 8)] == [0, 1, 1, 2, 4]


@pytest.mark.parametrize("dim", [6, 7])
def test_positions_by_formula(dim):
    positions = sinusoids(5, dim, CPU)
    for time in range(5):
        for column in range(dim):
            angle = time / 10000 ** (2 * (column // 2) / dim)
            wanted = math.cos(angle) if column % 2 else math.sin(angle)
            assert positions[time, column].item() == pytest.approx(wanted, abs=1e-6)


def test_later_positions_continue_the_earlier_ones():
    assert torch.equal(sinusoids(3, 8, CPU, first=4), sinusoids(7, 8, CPU)[4:])
