import math

import pytest
import torch
from reference import soft_assignment

from pipeline.clustering import tiles
from pipeline.quantizer import tiled
from pipeline.quantizer.dkm import DifferentiableKMeans
from pipeline.quantizer.noise import Noise, gumbel_noise


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(centroids, sigma_squared=0.7, *, sigma_learned=True, **settings):
    return DifferentiableKMeans(
        centroids, sigma_squared, sigma_learned, mean_squared_distance=2.0, **settings
    )


def mask_of(*lengths, size):
    return torch.arange(size) < torch.tensor(lengths)[:, None]


def case(lengths=(5, 3, 4), size=5, dim=4, num_units=6, embedding_dim=3):
    frames = normal(len(lengths), size, dim)
    centroids = normal(num_units, dim, seed=1)
    embedding = normal(num_units, embedding_dim, seed=2)
    return frames, mask_of(*lengths, size=size), centroids, embedding


def noise_of(mask, num_units, widest, seed):
    """The noise that a call draws, all tiles together."""
    noise = Noise(seed, tuple(range(len(mask))), tuple(mask.sum(dim=1).tolist()))
    drawn = [
        gumbel_noise(tile, torch.empty(tile[-1].span.stop - tile[0].span.start, num_units))
        for tile in noise.tiles(tiles.tile_rows(widest, torch.device("cpu")))
    ]
    return torch.cat([torch.empty(0, num_units), *drawn]).double()


@pytest.fixture(params=["one tile", "tiles of a few frames"])
def tile_size(request, monkeypatch):
    if request.param != "one tile":
        monkeypatch.setitem(tiles.ELEMENTS, "cpu", 30)


CASES = {
    "usual": case(),
    "one unit": case(num_units=1),
    "one dimension": case(dim=1),
    "one frame": case(lengths=(1,), size=1),
    "a fully masked row": case(lengths=(3, 0)),
    "equal frames": (torch.ones(2, 5, 4), *case(lengths=(5, 2))[1:]),
    "frames on centroids": (normal(6, 4, seed=1)[:5].expand(3, 5, 4), *case()[1:]),
}


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tau", [2.0, 0.3])
@pytest.mark.parametrize("assignment", ["sampled", "argmax", "soft"])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_values_and_gradients_are_those_of_float64_autograd(distance, assignment, name, tau):
    frames, mask, centroids, embedding = CASES[name]
    model = quantizer(centroids, distance=distance, assignment=assignment)
    frames, embedding = frames.clone().requires_grad_(), embedding.clone().requires_grad_()
    result = model(frames, mask, embedding, tau, seed=11)
    upstream = normal(*result.embedded_BTE.shape, seed=3)
    (result.embedded_BTE * upstream).sum().backward()

    wide = {
        "frames": frames.detach().double().requires_grad_(),
        "centroids": centroids.double().requires_grad_(),
        "log_sigma": torch.tensor(math.log(0.7) / 2, dtype=torch.float64, requires_grad=True),
        "embedding": embedding.detach().double().requires_grad_(),
    }
    noise = noise_of(mask, len(centroids), max(*centroids.shape, 3), 11)
    embedded, units = soft_assignment.relaxed(
        wide["frames"],
        mask,
        wide["centroids"],
        wide["embedding"],
        sigma_squared=(2 * wide["log_sigma"]).exp(),
        tau=tau,
        noise_NK=torch.zeros_like(noise) if assignment == "argmax" else noise,
        hard=assignment != "soft",
        distance=distance,
    )
    (embedded * upstream.double()).sum().backward()

    assert result.units_BT[mask].tolist() == units
    found = {
        "frames": frames.grad,
        "centroids": model.centroids_KD.grad,
        "log_sigma": model.log_sigma.grad,
        "embedding": embedding.grad,
    }
    torch.testing.assert_close(result.embedded_BTE.double(), embedded, rtol=1e-5, atol=1e-6)
    for part, gradient in found.items():
        torch.testing.assert_close(
            gradient.double(),
            wide[part].grad,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda m, p=part: f"{p}: {m}",
        )


@pytest.mark.parametrize("frozen", ["frames", "centroids"])
@pytest.mark.parametrize("assignment", ["sampled", "soft"])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(distance, assignment, frozen):
    frames, mask, centroids, embedding = case()
    gradients = {}
    for freeze in (False, True):
        model = quantizer(centroids, distance=distance, assignment=assignment, sigma_learned=False)
        parts = {
            "frames": frames.clone().requires_grad_(),
            "centroids": model.centroids_KD,
            "embedding": embedding.clone().requires_grad_(),
        }
        if freeze:
            parts[frozen].requires_grad_(False)  # noqa: FBT003
        result = model(parts["frames"], mask, parts["embedding"], 0.5, seed=1)
        (result.embedded_BTE * normal(*result.embedded_BTE.shape, seed=3)).sum().backward()
        gradients[freeze] = {name: part.grad for name, part in parts.items()}
    assert gradients[True].pop(frozen) is None
    del gradients[False][frozen]
    assert gradients[True].keys() == gradients[False].keys()
    for name, gradient in gradients[True].items():
        assert torch.equal(gradient, gradients[False][name])


def test_the_embedded_value_is_exactly_the_row_of_the_unit():
    frames, mask, centroids, embedding = case()
    result = quantizer(centroids)(frames, mask, embedding, 0.5, seed=4)
    assert torch.equal(result.embedded_BTE[mask], embedding[result.units_BT[mask]])


@pytest.mark.parametrize("training", [True, False])
def test_padding_is_never_read_and_gets_nothing(training):
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids).train(training)
    clean = model(frames, mask, embedding, 1.0, seed=5)
    dirty_frames = torch.where(mask[..., None], frames, torch.nan).requires_grad_()
    dirty = model(dirty_frames, mask, embedding.requires_grad_(), 1.0, seed=5)
    assert torch.equal(dirty.embedded_BTE, clean.embedded_BTE)
    assert torch.equal(dirty.units_BT, clean.units_BT)
    assert not dirty.embedded_BTE[~mask].any()
    assert not dirty.units_BT[~mask].any()
    assert dirty.stats["num_frames"] == mask.sum() == dirty.stats["counts_K"].sum()
    (dirty.embedded_BTE.sum() + dirty.losses["kmeans"]).backward()
    if training:
        assert dirty_frames.grad[mask].any()
        assert not dirty_frames.grad[~mask].any()


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_valid_frames_gives_zeros_and_zero_gradients(training):
    frames, mask, centroids, embedding = case(lengths=(0, 0))
    model = quantizer(centroids).train(training)
    result = model(frames, mask, embedding.requires_grad_(), 1.0, seed=0)
    (result.embedded_BTE.sum() + result.losses["kmeans"]).backward()
    assert not result.embedded_BTE.any()
    assert not model.centroids_KD.grad.any()
    assert not embedding.grad.any()
    assert {name: value.sum().item() for name, value in result.stats.items()} == {
        "num_frames": 0,
        "counts_K": 0,
        "entropy": 0,
        "perplexity": 0,
        "noisy_share": 0,
    }


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_evaluation_takes_the_nearest_whatever_the_seed(distance):
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids, distance=distance).eval()
    first, second = (model(frames, mask, embedding, 1.0, seed=seed) for seed in (0, 1))
    expected = [unit for unit, _ in soft_assignment.nearest(frames[mask], centroids)]
    assert first.units_BT[mask].tolist() == expected
    assert torch.equal(first.embedded_BTE, second.embedded_BTE)
    assert first.stats["noisy_share"] == 0


def test_a_fixed_codebook_is_hard_in_training_and_only_the_embedding_learns():
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids, assignment="nearest", sigma_learned=False)
    model.centroids_KD.requires_grad_(False)  # noqa: FBT003
    frames.requires_grad_()
    result = model(frames, mask, embedding.requires_grad_(), 1.0, seed=0)
    expected = [unit for unit, _ in soft_assignment.nearest(frames[mask], centroids)]
    assert result.units_BT[mask].tolist() == expected
    result.embedded_BTE.sum().backward()
    assert frames.grad is None
    counts = torch.bincount(result.units_BT[mask], minlength=len(centroids))
    torch.testing.assert_close(embedding.grad, counts[:, None].expand_as(embedding).float())
    assert not result.losses["kmeans"].requires_grad
    assert result.stats.keys() == {"num_frames", "counts_K"}


def test_the_same_seed_gives_the_same_result_and_another_one_another():
    frames, mask, centroids, embedding = case(lengths=(40, 40), size=40)
    model = quantizer(centroids, 0.01)
    first, again, other = (model(frames, mask, embedding, 1.0, seed=s).units_BT for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("tile_size")
def test_an_utterance_has_its_noise_in_whatever_batch_it_is():
    frames, mask, centroids, embedding = case(lengths=(40, 25, 33), size=40)
    model = quantizer(centroids, 0.01)
    together = model(frames, mask, embedding, 1.0, seed=7)
    apart = model(frames[[2, 0]], mask[[2, 0]], embedding, 1.0, seed=7, keys_B=(2, 0))
    assert torch.equal(apart.units_BT, together.units_BT[[2, 0]])
    others = model(frames[[2, 0]], mask[[2, 0]], embedding, 1.0, seed=7)
    assert not torch.equal(others.units_BT, apart.units_BT)


def test_stretches_cover_the_frames_once_with_seeds_of_their_own():
    noise = Noise(5, (3, 0, 1), (10, 0, 7))
    groups = list(noise.tiles(8))
    stretches = [stretch for group in groups for stretch in group]
    covered = [frame for each in stretches for frame in range(17)[each.span]]
    assert covered == list(range(17))
    assert all(group[-1].span.stop - group[0].span.start <= 8 for group in groups)
    assert len({stretch.seed & 0xFFFFFFFF for stretch in stretches}) == len(stretches)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_units_are_drawn_with_the_probabilities_of_p(distance):
    centroids = torch.tensor([[0.0], [1.0], [2.0]])
    frames = torch.full((1, 20_000, 1), 0.4)
    mask = torch.ones(1, 20_000, dtype=torch.bool)
    model = quantizer(centroids, distance=distance)
    result = model(frames, mask, torch.eye(3), 0.1, seed=1)
    expected = soft_assignment.probabilities([0.4], centroids.tolist(), 0.7, distance)
    shares = result.stats["counts_K"] / 20_000
    # Four standard errors of a share at 20,000 draws are at most 0.0142.
    assert shares.tolist() == pytest.approx(expected, abs=0.0142)
    assert result.stats["noisy_share"].item() == pytest.approx(1 - expected[0], abs=0.0142)


def test_gumbel_noise_has_its_mean_and_variance():
    [tile] = Noise(0, (0,), (2000,)).tiles(2000)
    noise = gumbel_noise(tile, torch.empty(2000, 100)).double()
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.577216, abs=0.012)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)


@pytest.mark.parametrize("training", [True, False])
def test_the_kmeans_loss_pulls_the_nearest_centroids_and_no_frame(training):
    frames, mask, centroids, embedding = case()
    frames.requires_grad_()
    model = quantizer(centroids, 0.01).train(training)
    loss = model(frames, mask, embedding, 1.0, seed=2).losses["kmeans"]
    valid = frames[mask].detach()
    found = soft_assignment.nearest(valid, centroids)
    assert loss.item() == pytest.approx(0.5 * sum(d for _, d in found) / 2.0, rel=1e-5)
    loss.backward()
    assert frames.grad is None
    expected = torch.zeros_like(centroids)
    for frame, (unit, _) in zip(valid, found, strict=True):
        expected[unit] += (centroids[unit] - frame) / 2.0
    torch.testing.assert_close(model.centroids_KD.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_entropy_and_perplexity_are_means_over_valid_frames(distance):
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids, distance=distance)
    result = model(frames, mask, embedding, 1.0, seed=2)
    entropies = []
    for frame in frames[mask].tolist():
        shares = soft_assignment.probabilities(frame, centroids.tolist(), 0.7, distance)
        entropies.append(-sum(p * math.log(p) for p in shares))
    expected = sum(entropies) / len(entropies)
    assert result.stats["entropy"].item() == pytest.approx(expected, rel=1e-5)
    perplexity = sum(math.exp(entropy) for entropy in entropies) / len(entropies)
    assert result.stats["perplexity"].item() == pytest.approx(perplexity, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_does_not_lower_the_precision(training):
    frames, mask, centroids, embedding = case(lengths=(50, 30), size=50)
    model = quantizer(centroids).train(training)
    plain = model(frames, mask, embedding, 0.5, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(frames, mask, embedding, 0.5, seed=3)
    assert torch.equal(cast.units_BT, plain.units_BT)
    assert torch.equal(cast.embedded_BTE, plain.embedded_BTE)
    assert torch.equal(cast.losses["kmeans"], plain.losses["kmeans"])
    assert torch.equal(cast.stats["entropy"], plain.stats["entropy"])


@pytest.mark.parametrize("assignment", ["sampled", "soft"])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_autocast_does_not_lower_the_precision_of_gradients(distance, assignment):
    """The training loop calls backward() under autocast."""
    frames, mask, centroids, embedding = case(lengths=(50, 30), size=50)
    gradients = []
    for enabled in (False, True):
        model = quantizer(centroids, distance=distance, assignment=assignment)
        given = frames.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            result = model(given, mask, embedding, 0.5, seed=3)
            (result.embedded_BTE.square().sum() + result.losses["kmeans"]).backward()
        gradients.append([given.grad, model.centroids_KD.grad, model.log_sigma.grad])
    for plain, cast in zip(*gradients, strict=True):
        assert torch.equal(plain, cast)


def test_gradients_reach_low_precision_frames():
    frames, mask, centroids, embedding = case()
    frames = frames.bfloat16().requires_grad_()
    quantizer(centroids)(frames, mask, embedding, 0.5, seed=3).embedded_BTE.sum().backward()
    assert frames.grad.dtype == torch.bfloat16
    assert frames.grad[mask].any()


def test_the_state_is_kept_whole(tmp_path):
    from safetensors.torch import load_file, save_file

    model = quantizer(normal(5, 3))
    save_file(model.state_dict(), tmp_path / "quantizer.safetensors")
    other = DifferentiableKMeans(
        torch.zeros(5, 3), 1.0, sigma_learned=False, mean_squared_distance=1.0
    )
    other.load_state_dict(load_file(tmp_path / "quantizer.safetensors"))
    assert torch.equal(other.centroids_KD, model.centroids_KD)
    assert other.sigma_squared.item() == pytest.approx(0.7, rel=1e-6)
    assert other.mean_squared_distance == 2.0


def test_a_centroid_moves_and_the_callers_tensor_does_not():
    centroids = normal(4, 2)
    model = quantizer(centroids)
    with torch.no_grad():
        model.centroids_KD.add_(1)
    assert torch.equal(centroids, normal(4, 2))


def test_what_does_not_fit_is_refused():
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids)
    with pytest.raises(ValueError, match="mask must be bool"):
        model(frames, mask.float(), embedding, 1.0, 0)
    with pytest.raises(ValueError, match="mask must be bool"):
        model(frames, mask[:, :4], embedding, 1.0, 0)
    with pytest.raises(ValueError, match="row for each of 6 units"):
        model(frames, mask, embedding[:5], 1.0, 0)
    with pytest.raises(ValueError, match="of one dim"):
        model(frames[..., :3], mask, embedding, 1.0, 0)
    with pytest.raises(ValueError, match="tau must be positive"):
        model(frames, mask, embedding, 0.0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_frames_that_are_not_finite_are_refused(distance, value):
    frames, mask, centroids, embedding = case()
    frames[0, 0, 0] = value
    with pytest.raises(ValueError, match="1 of 12 frames hold NaN"):
        quantizer(centroids, distance=distance)(frames, mask, embedding, 1.0, 0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_scales_must_be_positive_and_finite(value):
    with pytest.raises(ValueError, match="sigma_squared must be positive"):
        DifferentiableKMeans(normal(2, 2), value, sigma_learned=False, mean_squared_distance=1.0)
    with pytest.raises(ValueError, match="mean_squared_distance must be positive"):
        DifferentiableKMeans(normal(2, 2), 1.0, sigma_learned=False, mean_squared_distance=value)


def test_the_noise_is_drawn_by_the_one_function(monkeypatch):
    """Whoever replaces the noise replaces all of the chance: with none, sampling is argmin."""
    frames, mask, centroids, embedding = case()
    monkeypatch.setattr(tiled, "gumbel_noise", lambda _stretches, out: out.zero_())
    result = quantizer(centroids)(frames, mask, embedding, 1.0, seed=0)
    assert result.stats["noisy_share"] == 0
