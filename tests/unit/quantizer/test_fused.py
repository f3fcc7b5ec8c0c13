"""The GPU's kernels against the formula in float64 with the same noise.

Without a GPU, Triton's interpreter runs them: see tests/conftest.py.
"""

import pytest
import torch
from reference.philox import gumbel

pytest.importorskip("triton")

from pipeline.clustering import fused as rows
from pipeline.clustering.logits import Logits
from pipeline.quantizer import fused
from pipeline.quantizer.logit_gradients import LogitGradients
from pipeline.quantizer.noise import Noise
from pipeline.quantizer.relaxation import Gradients, Relaxation

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEED = (1 << 40) + 12345
TAU = 0.7
NUM_UNITS, DIM, WIDTH = 37, 18, 10


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


class Case:
    """Two utterances with padding between them, and all that a step reads."""

    def __init__(self, dtype=torch.float32, lengths=(11, 8), keys=(5, 2)):
        longest = max(lengths)
        mask_BT = torch.arange(longest) < torch.tensor(lengths)[:, None]
        self.valid_N = mask_BT.flatten().nonzero().squeeze(1).to(DEVICE)
        self.frames_MD = (3 + normal(len(lengths) * longest, DIM)).to(dtype)
        self.frames_MD[~mask_BT.flatten().to(DEVICE)] = float("nan")
        self.centroids_KD = 3 + normal(NUM_UNITS, DIM, seed=1)
        self.embedding_KE = normal(NUM_UNITS, WIDTH, seed=2)
        self.upstream_ME = normal(len(self.frames_MD), WIDTH, seed=3)
        self.noise = Noise(SEED, keys, lengths)
        self.logits = Logits.of(self.centroids_KD, 0.15)

    def gumbel_noise(self):
        return torch.tensor(
            [
                [gumbel(SEED, key, place, unit) for unit in range(NUM_UNITS)]
                for key, length in zip(self.noise.keys, self.noise.lengths, strict=True)
                for place in range(length)
            ],
            dtype=torch.float64,
            device=DEVICE,
        )


def plain(case, relaxation):
    """Values and gradients by autograd in float64, by the name of what takes them."""
    inputs = {
        "frames": case.frames_MD[case.valid_N].double(),
        "weight": case.logits.weight_KD.double(),
        "bias": case.logits.bias_K.double(),
        "embedding": case.embedding_KE.double(),
    }
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    logits_NK = (inputs["frames"] - case.logits.origin_D.double()) @ inputs["weight"].T
    logits_NK = logits_NK + inputs["bias"]
    noisy_NK = logits_NK + (case.gumbel_noise() if relaxation.noise else 0)
    y_NK = torch.softmax(noisy_NK / relaxation.tau, dim=1)
    units_N = noisy_NK.argmax(dim=1)
    value_NK = y_NK
    if relaxation.hard:
        one_hot_NK = torch.nn.functional.one_hot(units_N, NUM_UNITS).double()
        value_NK = one_hot_NK + y_NK - y_NK.detach()
    embedded_NE = value_NK @ inputs["embedding"]
    upstream_NE = case.upstream_ME[case.valid_N].double()
    gradients = torch.autograd.grad(embedded_NE, list(inputs.values()), upstream_NE)
    log_p_NK = torch.log_softmax(logits_NK, dim=1)
    values = {
        "embedded": embedded_NE.detach(),
        "units": units_N,
        "nearest": logits_NK.argmax(dim=1),
        "entropy": -(log_p_NK.exp() * log_p_NK).sum(dim=1).detach(),
    }
    return values, dict(zip(inputs, gradients, strict=True))


MODES = {
    "sampled": lambda noise: Relaxation(TAU, noise, hard=True),
    "argmax": lambda _noise: Relaxation(TAU, None, hard=True),
    "soft": lambda noise: Relaxation(TAU, noise, hard=False),
}


def close(found, expected, tolerance=1e-5):
    """Equal within `tolerance` of the largest value: what is near zero is a difference of others."""
    found = found.double()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-12)


@pytest.fixture(autouse=True)
def _several_tiles(monkeypatch):
    monkeypatch.setattr(fused, "TILE_ROWS", 8)
    monkeypatch.setattr(fused, "BACKWARD_ROWS", 10)
    monkeypatch.setattr(rows, "TILE_ROWS", 8)


@pytest.mark.parametrize("mode", MODES)
def test_values_are_those_of_the_formula(mode):
    case = Case()
    relaxation = MODES[mode](case.noise)
    expected, _ = plain(case, relaxation)
    embedded_ME, units_N, nearest_N, entropy_N = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, relaxation
    )
    assert torch.equal(units_N, expected["units"])
    assert torch.equal(nearest_N, expected["nearest"])
    close(entropy_N, expected["entropy"])
    close(embedded_ME[case.valid_N], expected["embedded"])
    padded = torch.ones(len(embedded_ME), dtype=torch.bool, device=DEVICE)
    padded[case.valid_N] = False
    assert not embedded_ME[padded].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_the_formula(mode, dtype):
    case = Case(dtype)
    relaxation = MODES[mode](case.noise)
    _, expected = plain(case, relaxation)
    targets = Gradients(
        torch.zeros_like(case.frames_MD),
        LogitGradients.zeros(case.logits),
        torch.zeros_like(case.embedding_KE),
    )
    fused.backward(
        case.frames_MD,
        case.valid_N,
        case.logits,
        case.embedding_KE,
        relaxation,
        case.upstream_ME,
        targets,
    )
    narrow = dtype == torch.bfloat16
    close(targets.frames_MD[case.valid_N], expected["frames"], 8e-3 if narrow else 1e-5)
    assert torch.isfinite(targets.frames_MD).all()
    close(targets.logits.weight_KD, expected["weight"])
    close(targets.logits.bias_K, expected["bias"])
    if not relaxation.hard:  # a chosen row's gradient is added by the caller
        close(targets.embedding_KE, expected["embedding"])


def test_noise_belongs_to_the_utterance_in_whatever_batch():
    case = Case(lengths=(11, 8), keys=(5, 2))
    both = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, MODES["sampled"](case.noise)
    )[1]
    alone = fused.forward(
        case.frames_MD,
        case.valid_N[11:],
        case.logits,
        case.embedding_KE,
        MODES["sampled"](Noise(SEED, (2,), (8,))),
    )[1]
    assert torch.equal(both[11:], alone)


def test_the_nearest_centroid_and_its_distance():
    case = Case()
    frames_ND = case.frames_MD[case.valid_N]
    units_N, squared_distances_N = rows.nearest(frames_ND, Logits.of(case.centroids_KD, 1.0))
    distances_NK = torch.cdist(frames_ND.double(), case.centroids_KD.double()).square()
    assert torch.equal(units_N, distances_NK.argmin(dim=1))
    close(squared_distances_N, distances_NK.min(dim=1).values, 1e-5)


def test_ties_go_to_the_lowest_unit_and_bad_frames_show():
    case = Case()
    case.centroids_KD[20] = case.centroids_KD[3]
    case.logits = Logits.of(case.centroids_KD, 0.15)
    case.frames_MD[case.valid_N[0]] = case.centroids_KD[20]
    case.frames_MD[case.valid_N[1], 4] = float("inf")
    case.frames_MD[case.valid_N[2], 4] = float("nan")
    _, _, nearest_N, entropy_N = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, None
    )
    assert nearest_N[0] == 3
    assert torch.isfinite(entropy_N).tolist() == [True, False, False] + [True] * 16
