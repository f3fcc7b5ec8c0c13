"""The quantizer inside a model that is checkpointed, compiled or trained by two processes."""

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from pipeline.clustering import tiles
from pipeline.quantizer.dkm import DifferentiableKMeans


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask_of(*lengths, size=5):
    return torch.arange(size) < torch.tensor(lengths)[:, None]


FRAMES, MASK = normal(3, 5, 4), mask_of(5, 3, 4)


class Model(nn.Module):
    """Layers before and behind a quantizer: a loss for each frame, padded ones too."""

    def __init__(self, assignment="sampled"):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, 4)
        self.quantizer = DifferentiableKMeans(
            normal(6, 4, seed=1),
            0.7,
            sigma_learned=True,
            mean_squared_distance=2.0,
            assignment=assignment,
        )
        self.embedding = nn.Parameter(normal(6, 3, seed=2))
        self.decoder = nn.Linear(3, 2)

    def quantized(self, frames, mask, seed):
        result = self.quantizer(self.encoder(frames), mask, self.embedding, 0.5, seed=seed)
        return result.embedded_BTE, result.losses["kmeans"]

    def forward(self, frames, mask, seed=3):
        embedded, kmeans = self.quantized(frames, mask, seed)
        return self.decoder(embedded).tanh().square().sum() + kmeans


class CheckpointedModel(Model):
    def quantized(self, *given):
        return checkpoint(super().quantized, *given, use_reentrant=False)


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("elements", [tiles.ELEMENTS["cpu"], 30])
@pytest.mark.parametrize("assignment", ["sampled", "argmax", "soft"])
def test_gradients_are_the_same_bit_for_bit_where_the_step_is_checkpointed(
    monkeypatch, elements, assignment
):
    monkeypatch.setitem(tiles.ELEMENTS, "cpu", elements)
    found = []
    for kind in (Model, CheckpointedModel):
        model = kind(assignment)
        loss = model(FRAMES, MASK)
        loss.backward()
        found.append({"loss": loss.detach(), **gradients(model)})
    for name, plain in found[0].items():
        assert torch.equal(found[1][name], plain), name
        assert plain.any(), name


@pytest.mark.parametrize("training", [True, False])
def test_a_compiled_model_gives_the_values_and_gradients_of_a_plain_one(training):
    model = Model().train(training)
    plain = model(FRAMES, MASK)
    plain.backward()
    expected = {name: found for name, found in gradients(model).items() if found is not None}
    model.zero_grad()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")(FRAMES, MASK)
    compiled.backward()
    torch.testing.assert_close(compiled, plain)
    assert ("encoder.weight" in expected) == training
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients(model)[name], gradient)


def share_gradients(rank, folder, frames, mask):
    """One of two processes: a step on its own frames with noise of its own."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    model = Model()
    parallel = DistributedDataParallel(model)
    parallel(frames[rank], mask[rank], seed=10 + rank).backward()
    torch.save(gradients(model), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_average_the_gradients_of_both(tmp_path):
    """They have different numbers of frames, and the second has an utterance without any."""
    frames = normal(2, 3, 5, 4)
    mask = torch.stack([mask_of(5, 3, 4), mask_of(2, 0, 1)])
    torch.multiprocessing.spawn(share_gradients, (str(tmp_path), frames, mask), nprocs=2)
    one = Model()
    for rank in range(2):
        (one(frames[rank], mask[rank], seed=10 + rank) / 2).backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, expected in gradients(one).items():
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
            assert expected.any(), name


class LargestTensor(TorchDispatchMode):
    """How many elements the largest tensor has that any operation gives."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, given=(), named=None):
        found = function(*given, **(named or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return found


@pytest.mark.parametrize("assignment", ["sampled", "soft", "nearest"])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_nothing_of_frames_times_units_is_made_or_kept(distance, assignment):
    num_frames, num_units, dim = 20_000, 1000, 32
    frames = normal(1, num_frames, dim).requires_grad_()
    embedding = normal(num_units, 16, seed=2).requires_grad_()
    model = DifferentiableKMeans(
        normal(num_units, dim, seed=1),
        0.05,
        sigma_learned=True,
        mean_squared_distance=2.0,
        distance=distance,
        assignment=assignment,
    )
    mask = torch.ones(1, num_frames, dtype=torch.bool)
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with LargestTensor() as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        result = model(frames, mask, embedding, 1.0, seed=0)
        loss = result.embedded_BTE.square().sum() + result.losses["kmeans"]
    with LargestTensor() as backward:
        loss.backward()
    assert num_frames * dim <= forward.elements < num_frames * num_units / 4
    assert num_units * dim <= backward.elements < num_frames * num_units / 4
    assert num_frames * dim <= sum(kept) < num_frames * num_units / 4


def test_what_the_plain_formula_makes_would_be_seen():
    frames = normal(50, 4).requires_grad_()
    with LargestTensor() as forward:
        loss = torch.softmax(frames @ normal(4, 30), dim=1).square().sum()
    with LargestTensor() as backward:
        loss.backward()
    assert forward.elements == backward.elements == 50 * 30
