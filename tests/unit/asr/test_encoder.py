import math

import pytest
import torch

from pipeline.asr.encoder import Encoder, padding_mask
from pipeline.asr.subsampling import halved
from pipeline.config import Asr

KINDS = [
    (encoder, positions)
    for encoder in ("conformer", "e_branchformer")
    for positions in ("sinusoidal", "relative")
]

# How much attention alone tells two frames apart: a distance weighs less than what is added to a frame.
ATTENDS = {"sinusoidal": 0.05, "relative": 0.001}


def make_encoder(subsampling=2, encoder="conformer", positions="sinusoidal"):
    torch.manual_seed(0)
    settings = Asr(
        embedding_dim=12,
        dim=16,
        heads=2,
        feedforward_dim=24,
        encoder_layers=2,
        encoder=encoder,
        positions=positions,
        conv_kernel=7,
        e_branchformer={"cgmlp_dim": 20, "merge_kernel": 5},
        subsampling=subsampling,
        dropout=0.0,
    )
    return Encoder(settings)


@pytest.mark.parametrize("subsampling", [1, 2, 4])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_an_utterance_does_not_depend_on_its_batch(subsampling, train, kind, positions):
    encoder = make_encoder(subsampling, kind, positions).train(train)
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


@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_the_order_of_frames_matters_beyond_the_convolution(kind, positions):
    encoder = make_encoder(1, kind, positions).eval()
    frames = torch.randn(1, 24, 12).repeat(1, 4, 1)  # one stretch four times over
    encoded, _ = encoder(frames, torch.tensor([96]))
    # A stretch apart and far from the ends, all kernels together see the same in both places.
    assert (encoded[0, 36] - encoded[0, 60]).abs().max() > ATTENDS[positions]


@pytest.mark.parametrize(("kind", "positions"), KINDS)
def test_no_gradient_comes_from_behind_the_end(kind, positions):
    encoder = make_encoder(2, kind, positions)
    frames = torch.randn(2, 20, 12, requires_grad=True)
    encoded, _ = encoder(frames, torch.tensor([20, 9]))
    encoded.square().sum().backward()
    assert not frames.grad[1, 9:].any()
    assert frames.grad[1, :9].abs().amin(dim=-1).gt(0).all()


def test_padding_mask_and_halved():
    assert padding_mask(torch.tensor([2, 0]), torch.zeros(2, 3, 1)).tolist() == [
        [False, False, True],
        [True] * 3,
    ]
    assert [halved(n) for n in (0, 1, 2, 3, 8)] == [0, 1, 1, 2, 4]
