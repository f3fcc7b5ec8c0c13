"""Differentiable k-means, forward and backward, next to the plain formula and to its peers.

Shapes: N frames, D dimensions, K units, E embedding, R rows of a tile.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Contender, costs, gather, require_memory
from benchmarks.record import Record
from pipeline.clustering.assignment import nearest
from pipeline.clustering.logits import Distance
from pipeline.quantizer.dkm import DifferentiableKMeans
from pipeline.quantizer.iterated import IteratedKMeans

TILE_ROWS = 4096
TAU = 1.0
# Of iterated k-means, before units are chosen.
ITERATIONS = 2
FLOAT_BYTES = 4
# wav2vec 2.0's quantizer makes a matrix frames x units x embedding; it gets as many frames as keep
# that within 2 GiB of float32.
CUBE_ELEMENTS = 1 << 29
PAIRS = (
    ("ours", "bare products"),
    ("plain", "ours"),
    ("wav2vec2", "ours"),
    ("vector_quantize", "ours"),
    ("vector_quantize gumbel", "ours"),
    ("ours, euclidean", "ours"),
    ("plain, euclidean", "ours, euclidean"),
    ("ours, iterated", "ours"),
)


@dataclass(frozen=True)
class Setting:
    """How large the work is."""

    num_frames: int
    dim: int
    num_units: int
    embedding_dim: int
    rounds: int


SIZES = {
    "full": Setting(48_000, 1024, 2000, 512, rounds=5),
    "small": Setting(300, 16, 20, 8, rounds=2),
}


@dataclass(frozen=True)
class Data:
    """What all contenders read: the first three take gradients, `upstream_NE` comes from above."""

    frames_ND: Tensor
    centroids_KD: Tensor
    embedding_KE: Tensor
    upstream_NE: Tensor
    mean_squared_distance: float

    @classmethod
    def make(cls, setting: Setting, device: torch.device) -> "Data":
        """Frames around centroids."""
        generator = torch.Generator(device).manual_seed(0)
        normal = partial(torch.randn, generator=generator, device=device)
        centroids_KD = normal(setting.num_units, setting.dim)
        units_N = torch.arange(setting.num_frames, device=device) % setting.num_units
        frames_ND = centroids_KD[units_N] + normal(setting.num_frames, setting.dim)
        mean_squared_distance = float(nearest(frames_ND, centroids_KD)[1].mean())
        return cls(
            frames_ND.requires_grad_(),
            centroids_KD.requires_grad_(),
            normal(setting.num_units, setting.embedding_dim).requires_grad_(),
            normal(setting.num_frames, setting.embedding_dim),
            mean_squared_distance,
        )

    def sigma_squared(self, distance: Distance) -> float:
        """As sharp as the project's default: ten over a typical distance."""
        if distance == "squared":
            return 10 / self.mean_squared_distance
        return 10 / math.sqrt(self.mean_squared_distance)

    def require_matrices(self, number: int) -> None:
        """Refuse what holds `number` matrices N x K at its peak, if they would not fit."""
        elements = len(self.frames_ND) * len(self.centroids_KD)
        require_memory(number * FLOAT_BYTES * elements, self.frames_ND.device)


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    data = Data.make(setting, device)
    builders = {
        "ours": ours,
        "bare products": bare_products,
        "plain": plain,
        "ours, euclidean": partial(ours, distance="euclidean"),
        "plain, euclidean": partial(plain, distance="euclidean"),
        "ours, iterated": partial(
            ours, kind=IteratedKMeans, max_iterations=ITERATIONS, tolerance=0.0
        ),
        "wav2vec2": wav2vec2,
        "vector_quantize": vector_quantize,
        "vector_quantize gumbel": partial(vector_quantize, gumbel=True),
    }
    contenders, left_out = gather({name: partial(b, data) for name, b in builders.items()})
    found = costs(contenders, device, setting.rounds)
    return Record("dkm", device.type, size, asdict(setting), found, left_out, PAIRS)


def ours(
    data: Data,
    distance: Distance = "squared",
    kind: type[DifferentiableKMeans] = DifferentiableKMeans,
    **settings: float,
) -> Contender:
    quantizer = kind(
        data.centroids_KD,
        data.sigma_squared(distance),
        sigma_learned=False,
        mean_squared_distance=data.mean_squared_distance,
        distance=distance,
        **settings,
    ).to(data.frames_ND.device)
    # On the host, as a training step has it.
    mask_1N = torch.ones((1, len(data.frames_ND)), dtype=torch.bool)
    kmeans_weight = data.frames_ND.new_tensor(0.5 / len(data.frames_ND))
    inputs = (data.frames_ND, quantizer.centroids_KD, data.embedding_KE)

    def call() -> Sequence[Tensor]:
        quantized = quantizer(data.frames_ND[None], mask_1N, data.embedding_KE, TAU, seed=1)
        outputs = (quantized.embedded_BTE, quantized.losses["kmeans"])
        upstream = (data.upstream_NE[None], kmeans_weight)
        gradients = torch.autograd.grad(outputs, inputs, upstream)
        return quantized.embedded_BTE.detach(), quantized.units_BT, *gradients

    what = f"{kind.__name__}, {distance} distance, with k-means loss and statistics"
    return Contender(what, call)


def plain(data: Data, distance: Distance = "squared") -> Contender:
    """The formula as it reads, left to autograd; without k-means loss and statistics."""
    data.require_matrices(8)
    inputs = (data.frames_ND, data.centroids_KD, data.embedding_KE)

    def forward() -> Tensor:
        distances_NK = torch.cdist(data.frames_ND, data.centroids_KD)
        if distance == "squared":
            distances_NK = distances_NK.square()
        log_p_NK = torch.log_softmax(-data.sigma_squared(distance) * distances_NK, dim=1)
        del distances_NK  # a name would keep what autograd does not need
        chosen_NK = torch.nn.functional.gumbel_softmax(log_p_NK, tau=TAU, hard=True)
        del log_p_NK
        return chosen_NK @ data.embedding_KE

    def call() -> Sequence[Tensor]:
        embedded_NE = forward()
        return embedded_NE.detach(), *torch.autograd.grad(embedded_NE, inputs, data.upstream_NE)

    what = (
        f"{distance} distance: cdist, log_softmax, gumbel_softmax(hard), one-hot product; autograd"
    )
    return Contender(what, call)


def bare_products(data: Data) -> Contender:
    """The five products that no exact way can avoid, a tile at a time, into memory made before."""
    frames_ND, centroids_KD, embedding_KE, upstream_NE = (
        tensor.detach()
        for tensor in (data.frames_ND, data.centroids_KD, data.embedding_KE, data.upstream_NE)
    )
    tile_RK = frames_ND.new_empty((min(TILE_ROWS, len(frames_ND)), len(centroids_KD)))
    gradient_ND, gradient_KD = torch.empty_like(frames_ND), torch.zeros_like(centroids_KD)

    def call() -> Sequence[Tensor]:
        for first in range(0, len(frames_ND), TILE_ROWS):
            place = slice(first, first + TILE_ROWS)
            frames_RD = frames_ND[place]
            products_RK = tile_RK[: len(frames_RD)]
            torch.mm(frames_RD, centroids_KD.T, out=products_RK)
            torch.mm(frames_RD, centroids_KD.T, out=products_RK)  # backward computes it again
            torch.mm(upstream_NE[place], embedding_KE.T, out=products_RK)
            torch.mm(products_RK, centroids_KD, out=gradient_ND[place])
            gradient_KD.addmm_(products_RK.T, frames_RD, beta=0)
        return ()

    what = "matrix products alone: N x D x K four times, N x E x K once"
    return Contender(what, call, prepared=True)


def wav2vec2(data: Data) -> Contender:
    """A linear map instead of distances; otherwise the same Gumbel-softmax."""
    from transformers import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

    (num_frames, dim), (num_units, width) = data.frames_ND.shape, data.embedding_KE.shape
    settings = Wav2Vec2Config(
        conv_dim=(dim,) * 7,
        num_codevectors_per_group=num_units,
        num_codevector_groups=1,
        codevector_dim=width,
    )
    peer = Wav2Vec2GumbelVectorQuantizer(settings).to(data.frames_ND.device).train()
    with torch.no_grad():
        peer.codevectors.copy_(data.embedding_KE)
    taken = min(num_frames, max(1, CUBE_ELEMENTS // (num_units * width)))
    require_memory(3 * FLOAT_BYTES * taken * num_units * width, data.frames_ND.device)
    frames_1ND = data.frames_ND.detach()[None, :taken].clone().requires_grad_()
    inputs = (frames_1ND, *peer.parameters())

    def call() -> Sequence[Tensor]:
        embedded_1NE, _ = peer(frames_1ND)
        upstream = data.upstream_NE[None, :taken]
        return embedded_1NE.detach(), *torch.autograd.grad(embedded_1NE, inputs, upstream)

    return Contender("Wav2Vec2GumbelVectorQuantizer of transformers", call, taken / num_frames)


def vector_quantize(data: Data, *, gumbel: bool = False) -> Contender:
    """Moving averages instead of codebook gradients; no embedding of its own."""
    from vector_quantize_pytorch import VectorQuantize

    sampling = {
        "stochastic_sample_codes": True,
        "sample_codebook_temp": TAU,
        "straight_through": True,
        "rotation_trick": False,
    }
    data.require_matrices(10)
    num_units, dim = data.centroids_KD.shape
    peer = VectorQuantize(dim=dim, codebook_size=num_units, **(sampling if gumbel else {}))
    peer.to(data.frames_ND.device).train()
    peer.codebook = data.centroids_KD.detach()
    upstream_1ND = torch.ones_like(data.frames_ND.detach())[None]

    def call() -> Sequence[Tensor]:
        chosen_1ND, units_1N, loss = peer(data.frames_ND[None])
        upstream = (upstream_1ND, torch.ones_like(loss))
        gradients = torch.autograd.grad((chosen_1ND, loss), (data.frames_ND,), upstream)
        return chosen_1ND.detach(), units_1N, *gradients

    what = "its Gumbel straight-through sampling" if gumbel else "as it comes, rotation trick"
    return Contender(f"VectorQuantize of vector-quantize-pytorch, {what}", call)
