"""The GPU's kernels against the formula in float64 with the same noise.

Without a GPU, Triton's interpreter runs them: see tests/conftest.py.
"""

import pytest
import torch
from reference.philox import gumbel

pytest.importorskip("triton")

from pipeline.clustering import assignment
from pipeline.clustering import fused as rows
from pipeline.clustering.kmeans import partial_sums
from pipeline.clustering.logits import Logits
from pipeline.quantizer import choice, fused
from pipeline.quantizer.dkm import DifferentiableKMeans
from pipeline.quantizer.logit_gradients import LogitGradients
from pipeline.quantizer.noise import Noise
from pipeline.quantizer.relaxation import Gradients, Relaxation

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEED = (1 << 40) + 12345
TAU = 0.7
SIGMA_SQUARED = {"squared": 0.15, "euclidean": 1.3}
NUM_UNITS, DIM, WIDTH = 13, 18, 10


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


class Case:
    """Two utterances with padding between them, and all that a step reads."""

    def __init__(
        self, distance="squared", dtype=torch.float32, lengths=(7, 5), keys=(5, 2), near=()
    ):
        """`near` says how far from a centroid of its own each of the first frames lies."""
        longest = max(lengths)
        mask_BT = torch.arange(longest) < torch.tensor(lengths)[:, None]
        self.valid_N = mask_BT.flatten().nonzero().squeeze(1).to(DEVICE)
        self.distance = distance
        self.centroids_KD = 3 + normal(NUM_UNITS, DIM, seed=1)
        self.frames_MD = (3 + normal(len(lengths) * longest, DIM)).to(dtype)
        for row, share in enumerate(near):
            self.frames_MD[row] = self.centroids_KD[row] + share * normal(DIM, seed=row)
        self.frames_MD[~mask_BT.flatten().to(DEVICE)] = float("nan")
        self.embedding_KE = normal(NUM_UNITS, WIDTH, seed=2)
        self.upstream_ME = normal(len(self.frames_MD), WIDTH, seed=3)
        self.noise = Noise(SEED, keys, lengths)

    @property
    def logits(self):
        return Logits.of(self.centroids_KD, SIGMA_SQUARED[self.distance], self.distance)

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
        "centroids": case.centroids_KD.double(),
        "sigma_squared": torch.tensor(SIGMA_SQUARED[case.distance], dtype=torch.float64),
        "embedding": case.embedding_KE.double(),
    }
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    distances_NK = (inputs["frames"][:, None] - inputs["centroids"]).square().sum(dim=2)
    if case.distance == "euclidean":
        apart_NK = distances_NK > 0  # elsewhere the root has no gradient, which is taken as 0
        distances_NK = torch.where(apart_NK, distances_NK, 1).sqrt() * apart_NK
    logits_NK = -inputs["sigma_squared"] * distances_NK
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


def found_gradients(case, relaxation):
    """The kernels' own."""
    centroids_KD = case.centroids_KD.clone().requires_grad_()
    sigma_squared = torch.tensor(SIGMA_SQUARED[case.distance], device=DEVICE, requires_grad=True)
    logits = Logits.of(centroids_KD, sigma_squared, case.distance)
    parts = (logits.weight_KD, logits.bias_K, logits.sharpness)
    plain_logits = Logits(
        *(None if part is None else part.detach() for part in vars(logits).values())
    )
    targets = Gradients(
        torch.zeros_like(case.frames_MD),
        LogitGradients.zeros(plain_logits),
        torch.zeros_like(case.embedding_KE),
    )
    fused.backward(
        case.frames_MD,
        case.valid_N,
        plain_logits,
        case.embedding_KE,
        relaxation,
        case.upstream_ME,
        targets,
    )
    sums = (targets.logits.weight_KD, targets.logits.bias_K, targets.logits.sharpness)
    reached = 2 if logits.sharpness is None else 3
    torch.autograd.backward(parts[:reached], sums[:reached])
    return targets, centroids_KD.grad, sigma_squared.grad


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
    monkeypatch.setattr(fused, "BACKWARD_ROWS", 8)
    monkeypatch.setattr(rows, "TILE_ROWS", 8)


# Of Euclidean frames, some lie on their centroid or so near it that products do not show how near.
NEAR = {"squared": (), "euclidean": (0.0, 1e-3, 0.03, 0.1)}


@pytest.mark.parametrize("distance", SIGMA_SQUARED)
@pytest.mark.parametrize("mode", MODES)
def test_values_are_those_of_the_formula(mode, distance):
    case = Case(distance, near=NEAR[distance])
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


@pytest.mark.parametrize("distance", SIGMA_SQUARED)
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [*((mode, torch.float32) for mode in MODES), ("soft", torch.bfloat16)],
)
def test_gradients_are_those_of_the_formula(mode, dtype, distance):
    case = Case(distance, dtype, near=NEAR[distance])
    relaxation = MODES[mode](case.noise)
    _, expected = plain(case, relaxation)
    targets, of_centroids, of_sigma_squared = found_gradients(case, relaxation)
    narrow = dtype == torch.bfloat16
    close(targets.frames_MD[case.valid_N], expected["frames"], 8e-3 if narrow else 1e-5)
    assert torch.isfinite(targets.frames_MD).all()
    close(of_centroids, expected["centroids"])
    close(of_sigma_squared, expected["sigma_squared"])
    if not relaxation.hard:  # a chosen row's gradient is added by the caller
        close(targets.embedding_KE, expected["embedding"])


def test_of_one_unit_a_frame_has_no_choice():
    case = smaller(Case(), 1, DIM)
    relaxation = MODES["sampled"](case.noise)
    embedded_ME, units_N, _, entropy_N = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, relaxation
    )
    assert not units_N.any()
    assert not entropy_N.any()
    assert torch.equal(embedded_ME[case.valid_N], case.embedding_KE.expand(len(units_N), WIDTH))


def test_noise_belongs_to_the_utterance_in_whatever_batch():
    case = Case(lengths=(7, 5), keys=(5, 2))
    both = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, MODES["sampled"](case.noise)
    )[1]
    alone = fused.forward(
        case.frames_MD,
        case.valid_N[7:],
        case.logits,
        case.embedding_KE,
        MODES["sampled"](Noise(SEED, (2,), (5,))),
    )[1]
    assert torch.equal(both[7:], alone)


def test_the_nearest_centroid_and_its_distance():
    case = Case()
    frames_ND = case.frames_MD[case.valid_N]
    units_N, squared_distances_N = rows.nearest(frames_ND, Logits.of(case.centroids_KD, 1.0))
    distances_NK = torch.cdist(frames_ND.double(), case.centroids_KD.double()).square()
    assert torch.equal(units_N, distances_NK.argmin(dim=1))
    close(squared_distances_N, distances_NK.min(dim=1).values, 1e-5)


def test_assignment_and_k_means_passes_ask_the_kernels(monkeypatch):
    case = Case()
    frames_ND = case.frames_MD[case.valid_N]
    expected = partial_sums(frames_ND, case.centroids_KD)
    asked = []
    kernels = rows.nearest
    monkeypatch.setattr(assignment, "is_fused", lambda *_: True)
    monkeypatch.setattr(rows, "nearest", lambda *given: asked.append(1) or kernels(*given))
    sums = partial_sums(frames_ND, case.centroids_KD)
    units_N = assignment.assign(frames_ND, case.centroids_KD)
    assert len(asked) == 2
    assert torch.equal(sums.weights_K, expected.weights_K)
    assert torch.equal(sums.sums_KD, expected.sums_KD)
    assert sums.inertia == pytest.approx(expected.inertia, rel=1e-5)
    of_roots_N = fused.forward(
        case.frames_MD, case.valid_N, Case("euclidean").logits, case.embedding_KE, None
    )[1]
    assert torch.equal(units_N, of_roots_N)


@pytest.mark.parametrize("distance", SIGMA_SQUARED)
def test_ties_go_to_the_lowest_unit_and_bad_frames_show(distance):
    case = Case(distance)
    case.centroids_KD[12] = case.centroids_KD[3]
    case.frames_MD[case.valid_N[0]] = case.centroids_KD[12]
    case.frames_MD[case.valid_N[1], 4] = float("inf")
    case.frames_MD[case.valid_N[2], 4] = float("nan")
    _, _, nearest_N, entropy_N = fused.forward(
        case.frames_MD, case.valid_N, case.logits, case.embedding_KE, None
    )
    assert nearest_N[0] == 3
    assert torch.isfinite(entropy_N).tolist() == [True, False, False] + [True] * 9


def step(case, frozen):
    """Values and gradients of the whole module without noise, which a CPU draws otherwise."""
    model = DifferentiableKMeans(
        case.centroids_KD,
        SIGMA_SQUARED[case.distance],
        sigma_learned=True,
        mean_squared_distance=2.0,
        distance=case.distance,
        assignment="argmax",
    ).to(DEVICE)
    parts = {
        "frames": case.frames_MD[None].clone().requires_grad_(),
        "centroids": model.centroids_KD,
        "sigma": model.log_sigma,
        "embedding": case.embedding_KE.clone().requires_grad_(),
    }
    parts[frozen].requires_grad_(False)  # noqa: FBT003
    mask_1M = torch.zeros(len(case.frames_MD), dtype=torch.bool, device=DEVICE)
    mask_1M = mask_1M.index_fill(0, case.valid_N, value=True)[None]
    quantized = model(parts["frames"], mask_1M, parts["embedding"], TAU, seed=1)
    (quantized.embedded_BTE * case.upstream_ME).sum().backward()
    del parts[frozen]
    found = [quantized.embedded_BTE.detach(), *(part.grad for part in parts.values())]
    return quantized.units_BT, found


def smaller(case, units, dim):
    case.centroids_KD, case.embedding_KE = (
        case.centroids_KD[:units, :dim],
        case.embedding_KE[:units],
    )
    case.frames_MD = case.frames_MD[:, :dim].contiguous()
    return case


def emptied(case):
    case.valid_N = case.valid_N[:0]
    return case


STEPS = {
    "usual": (Case, "sigma"),
    "frozen frames": (lambda distance: Case(distance, near=(0.0, 1e-3)), "frames"),
    "frozen centroids": (lambda distance: Case(distance, near=(0.0, 1e-3)), "centroids"),
    "one unit": (lambda distance: smaller(Case(distance), 1, DIM), "sigma"),
    "one dimension": (lambda distance: smaller(Case(distance), NUM_UNITS, 1), "sigma"),
    "no valid frame": (lambda distance: emptied(Case(distance)), "sigma"),
}


@pytest.mark.parametrize("distance", SIGMA_SQUARED)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_that_of_torch_operations(name, distance, monkeypatch):
    make, frozen = STEPS[name]
    monkeypatch.setattr(choice, "is_fused", lambda *_: False)
    expected_units, expected = step(make(distance), frozen)
    monkeypatch.setattr(choice, "is_fused", lambda *_: True)
    units, found = step(make(distance), frozen)
    assert torch.equal(units, expected_units)
    for own, other in zip(found, expected, strict=True):
        close(own, other.double())
