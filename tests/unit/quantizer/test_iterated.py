import math

import pytest
import torch
from reference import iterated_kmeans, soft_assignment

from pipeline.clustering import tiles
from pipeline.quantizer import iterated
from pipeline.quantizer.dkm import DifferentiableKMeans
from pipeline.quantizer.iterated import IteratedKMeans
from pipeline.quantizer.soft_update import PRIOR_FRAMES, soft_update


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(centroids, sigma_squared=0.7, **settings):
    return IteratedKMeans(
        centroids, sigma_squared, sigma_learned=True, mean_squared_distance=2.0, **settings
    )


def case(lengths=(5, 3, 4), size=5, dim=4, num_units=6, embedding_dim=3):
    mask = torch.arange(size) < torch.tensor(lengths)[:, None]
    embedding = normal(num_units, embedding_dim, seed=2)
    return normal(len(lengths), size, dim), mask, normal(num_units, dim, seed=1), embedding


@pytest.fixture(params=["one tile", "tiles of a few frames"])
def tile_size(request, monkeypatch):
    if request.param != "one tile":
        monkeypatch.setitem(tiles.ELEMENTS, "cpu", 30)


CASES = {
    "usual": case(),
    "one unit": case(num_units=1),
    "one dimension": case(dim=1),
    "one frame": case(lengths=(1,), size=1, num_units=1),
    "a fully masked row": case(lengths=(3, 0)),
}


def settled(model, frames, mask):
    """Where the model's centroids come to rest on the batch, detached."""
    valid = mask.flatten().nonzero().squeeze(1)
    return model._settled(frames.flatten(end_dim=1), valid).detach()


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_values_and_gradients_are_those_of_float64_autograd(distance, name, iterations):
    frames, mask, centroids, embedding = CASES[name]
    model = quantizer(
        centroids,
        distance=distance,
        assignment="argmax",
        max_iterations=iterations,
        tolerance=0.0,
    )
    frames, embedding = frames.clone().requires_grad_(), embedding.clone().requires_grad_()
    result = model(frames, mask, embedding, 0.5, seed=11)
    upstream = normal(*result.embedded_BTE.shape, seed=3)
    (result.embedded_BTE * upstream).sum().backward()

    wide = {
        "frames": frames.detach().double().requires_grad_(),
        "centroids": centroids.double().requires_grad_(),
        "log_sigma": torch.tensor(math.log(0.7) / 2, dtype=torch.float64, requires_grad=True),
        "embedding": embedding.detach().double().requires_grad_(),
    }
    sigma_squared = (2 * wide["log_sigma"]).exp()
    embedded, units = soft_assignment.relaxed(
        wide["frames"],
        mask,
        iterated_kmeans.settled(
            wide["frames"][mask],
            wide["centroids"],
            sigma_squared,
            PRIOR_FRAMES,
            iterations,
            distance,
        ),
        wide["embedding"],
        sigma_squared=sigma_squared,
        tau=0.5,
        noise_NK=torch.zeros(int(mask.sum()), len(centroids), dtype=torch.float64),
        hard=True,
        distance=distance,
    )
    (embedded * upstream.double()).sum().backward()

    assert result.units_BT[mask].tolist() == units
    torch.testing.assert_close(result.embedded_BTE.double(), embedded, rtol=1e-5, atol=1e-6)
    found = {
        "frames": frames.grad,
        "centroids": model.centroids_KD.grad,
        "log_sigma": model.log_sigma.grad,
        "embedding": embedding.grad,
    }
    for part, gradient in found.items():
        torch.testing.assert_close(
            gradient.double(),
            wide[part].grad,
            rtol=1e-3,
            atol=1e-4,
            msg=lambda m, p=part: f"{p}: {m}",
        )


def test_evaluation_is_that_of_the_plain_quantizer():
    frames, mask, centroids, embedding = case()
    plain = DifferentiableKMeans(centroids, 0.7, sigma_learned=True, mean_squared_distance=2.0)
    expected = plain.eval()(frames, mask, embedding, 1.0, seed=0)
    model = quantizer(centroids)
    assert not torch.equal(settled(model, frames, mask), centroids)
    found = model.eval()(frames, mask, embedding, 1.0, seed=0)
    assert torch.equal(found.units_BT, expected.units_BT)
    assert torch.equal(found.embedded_BTE, expected.embedded_BTE)
    assert found.losses["kmeans"] == expected.losses["kmeans"]
    assert plain.state_dict().keys() == model.state_dict().keys()


def test_a_unit_in_evaluation_does_not_depend_on_its_batch():
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids).eval()
    whole = model(frames, mask, embedding, 1.0, seed=0)
    for row in range(len(frames)):
        alone = model(frames[row : row + 1], mask[row : row + 1], embedding, 1.0, seed=0)
        assert torch.equal(alone.units_BT[0], whole.units_BT[row])


def test_it_settles_where_an_update_changes_nothing():
    frames, mask, centroids, _ = case(lengths=(40, 40), size=40)
    rest = settled(quantizer(centroids, max_iterations=500, tolerance=1e-6), frames, mask)
    longer = settled(quantizer(centroids, max_iterations=1000, tolerance=0.0), frames, mask)
    torch.testing.assert_close(rest, longer, rtol=1e-3, atol=1e-3)
    exact = iterated_kmeans.update(frames[mask].double(), longer.double(), 0.7, prior=0.0)
    torch.testing.assert_close(longer.double(), exact, rtol=1e-5, atol=1e-5)
    assert (longer - centroids).norm() > 0.1 * centroids.norm()


@pytest.mark.parametrize(("share", "collapses"), [(0.6, True), (1.6, False)])
def test_units_stay_apart_only_above_the_critical_sharpness(share, collapses):
    frames, mask = normal(1, 400, 2) * torch.tensor([2.0, 1.0]), torch.ones(1, 400) > 0
    critical = 1 / (2 * torch.linalg.eigvalsh(torch.cov(frames[0].T))[-1].item())
    model = quantizer(normal(3, 2, seed=1), share * critical, max_iterations=100)
    spread = settled(model, frames, mask).std(dim=0).max().item()
    assert spread < 0.01 if collapses else spread > 0.5


@pytest.mark.parametrize("tolerance", [0.3, 0.03])
def test_it_stops_at_the_first_move_within_the_tolerance(tolerance, monkeypatch):
    frames, mask, centroids, _ = case(lengths=(40, 40), size=40)
    moves = []

    def counted(frames_MD, valid_N, before_KD, sigma_squared, distance):
        after_KD = soft_update(frames_MD, valid_N, before_KD, sigma_squared, distance)
        moves.append(((after_KD - before_KD).norm() / before_KD.norm()).item())
        return after_KD

    monkeypatch.setattr(iterated, "soft_update", counted)
    settled(quantizer(centroids, max_iterations=100, tolerance=tolerance), frames, mask)
    assert len(moves) < 100
    assert moves[-1] <= tolerance < min(moves[:-1])
    moves.clear()
    settled(quantizer(centroids, max_iterations=2, tolerance=0.0), frames, mask)
    assert len(moves) == 2


def test_the_same_seed_gives_the_same_result_and_gradients():
    frames, mask, centroids, embedding = case(lengths=(40, 40), size=40)
    runs = []
    for seed in (7, 7, 8):
        model = quantizer(centroids, 0.2)
        result = model(frames, mask, embedding, 1.0, seed=seed)
        (result.embedded_BTE * normal(2, 40, 3, seed=3)).sum().backward()
        runs.append((result.units_BT, result.embedded_BTE.detach(), model.centroids_KD.grad))
    assert all(map(torch.equal, runs[0], runs[1]))
    assert not torch.equal(runs[0][0], runs[2][0])


def test_padding_is_never_read_and_gets_nothing():
    frames, mask, centroids, embedding = case()
    model = quantizer(centroids)
    clean = model(frames, mask, embedding, 1.0, seed=5)
    dirty_frames = torch.where(mask[..., None], frames, torch.nan).requires_grad_()
    dirty = model(dirty_frames, mask, embedding, 1.0, seed=5)
    assert torch.equal(dirty.embedded_BTE, clean.embedded_BTE)
    (dirty.embedded_BTE * normal(3, 5, 3, seed=3)).sum().backward()
    assert dirty_frames.grad[mask].all()
    assert not dirty_frames.grad[~mask].any()


def test_on_equal_frames_all_units_come_to_them():
    _, mask, centroids, embedding = case()
    frames = torch.ones(3, 5, 4, requires_grad=True)
    model = quantizer(centroids, 0.05)
    torch.testing.assert_close(settled(model, frames, mask), torch.ones(6, 4), rtol=0, atol=1e-4)
    result = model(frames, mask, embedding, 1.0, seed=0)
    (result.embedded_BTE.square().sum() + result.losses["kmeans"]).backward()
    for gradient in (frames.grad, model.centroids_KD.grad, model.log_sigma.grad):
        assert gradient.isfinite().all()


def test_a_batch_without_valid_frames_gives_zeros_and_zero_gradients():
    frames, mask, centroids, embedding = case(lengths=(0, 0))
    model = quantizer(centroids)
    assert torch.equal(settled(model, frames, mask), centroids)
    result = model(frames, mask, embedding.requires_grad_(), 1.0, seed=0)
    (result.embedded_BTE.sum() + result.losses["kmeans"]).backward()
    assert not result.embedded_BTE.any()
    assert not model.centroids_KD.grad.any()
    assert not embedding.grad.any()


def test_autocast_does_not_lower_the_precision():
    frames, mask, centroids, embedding = case(lengths=(50, 30), size=50)
    model = quantizer(centroids)
    plain = model(frames, mask, embedding, 0.5, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(frames, mask, embedding, 0.5, seed=3)
    assert torch.equal(cast.units_BT, plain.units_BT)
    assert torch.equal(cast.embedded_BTE, plain.embedded_BTE)
    assert torch.equal(cast.losses["kmeans"], plain.losses["kmeans"])
    assert torch.equal(cast.stats["entropy"], plain.stats["entropy"])


def test_the_kmeans_loss_pulls_stored_centroids_to_the_frames_that_training_takes_for_theirs():
    frames, mask, centroids, embedding = case(lengths=(40, 40), size=40)
    model = quantizer(centroids, max_iterations=20)
    rest = settled(model, frames, mask)
    loss = model(frames, mask, embedding, 1.0, seed=2).losses["kmeans"]
    loss.backward()
    valid = frames[mask]
    units = [unit for unit, _ in soft_assignment.nearest(valid, rest)]
    assert units != [unit for unit, _ in soft_assignment.nearest(valid, centroids)]
    difference = centroids[units] - valid
    assert loss.item() == pytest.approx(0.5 * difference.square().sum().item() / 2.0, rel=1e-5)
    expected = torch.zeros_like(centroids).index_add_(0, torch.tensor(units), difference / 2.0)
    torch.testing.assert_close(model.centroids_KD.grad, expected, rtol=1e-4, atol=1e-5)


def test_training_on_the_kmeans_loss_makes_evaluation_agree_with_training():
    frames, mask = normal(1, 180, 4, seed=4), torch.ones(1, 180, dtype=torch.bool)
    model = quantizer(normal(6, 4, seed=5), 2.0, max_iterations=20)
    embedding = normal(6, 3, seed=2)

    def disagreement():
        rest = [
            unit for unit, _ in soft_assignment.nearest(frames[0], settled(model, frames, mask))
        ]
        found = model.eval()(frames, mask, embedding, 1.0, seed=0).units_BT[0].tolist()
        model.train()
        return sum(a != b for a, b in zip(rest, found, strict=True))

    before = disagreement()
    optimizer = torch.optim.SGD([model.centroids_KD], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        model(frames, mask, embedding, 1.0, seed=2).losses["kmeans"].backward()
        optimizer.step()
    assert before > 60
    assert disagreement() < 6


def test_the_task_reaches_what_makes_the_frames():
    """Two classes differ in the first of two dimensions, and the second is louder: k-means alone
    splits by the second. A gain per dimension learns, from the task, to split by the first.
    """
    labels = torch.arange(200) % 2
    frames = normal(1, 200, 2) * torch.tensor([0.3, 1.5])
    frames[0, :, 0] += 2.0 * labels - 1
    mask = torch.ones(1, 200, dtype=torch.bool)
    model = quantizer(torch.tensor([[-0.1, -1.2], [0.1, 1.2]]), 1.0)
    log_gain = torch.zeros(2, requires_grad=True)
    scores = torch.tensor([[0.5, -0.5], [-0.5, 0.5]], requires_grad=True)
    optimizer = torch.optim.Adam([log_gain, scores, *model.parameters()], lr=0.05)

    def accuracy():
        model.eval()
        found = model(frames * log_gain.exp(), mask, scores, 1.0, seed=0).embedded_BTE[0].argmax(1)
        model.train()
        return (found == labels).float().mean().item()

    before = accuracy()
    for step in range(150):
        result = model(frames * log_gain.exp(), mask, scores, 1.0, seed=step)
        task = torch.nn.functional.cross_entropy(result.embedded_BTE[0], labels)
        optimizer.zero_grad()
        (task + 0.5 * result.losses["kmeans"] / 200).backward()
        optimizer.step()
    assert before < 0.7
    assert accuracy() > 0.95


def test_bad_frames_are_counted():
    frames, mask, centroids, embedding = case()
    frames[0, 0, 0] = torch.nan
    frames[1, 2, 3] = torch.inf
    with pytest.raises(ValueError, match="2 of 12 frames hold NaN"):
        quantizer(centroids)(frames, mask, embedding, 1.0, 0)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        quantizer(normal(2, 2), max_iterations=0)
    for tolerance in (-1e-4, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance must be finite and not negative"):
            quantizer(normal(2, 2), tolerance=tolerance)
    with pytest.raises(ValueError, match="sigma_squared must be positive"):
        quantizer(normal(2, 2), 0.0)
