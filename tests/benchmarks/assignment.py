"""Nearest centroids of many frames, next to the plain formula and to its peers.

Shapes: N frames, D dimensions, K units, R rows of a tile.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Contender, costs, gather, require_cpu, require_memory
from benchmarks.record import Record
from pipeline.clustering.assignment import assign

TILE_ROWS = 4096
PAIRS = (
    ("ours", "bare product"),
    ("plain", "ours"),
    ("faiss", "ours"),
    ("scikit-learn", "ours"),
)


@dataclass(frozen=True)
class Setting:
    """How large the work is."""

    num_frames: int
    dim: int
    num_units: int
    rounds: int


SIZES = {
    "full": Setting(200_000, 768, 1000, rounds=5),
    "small": Setting(500, 16, 20, rounds=2),
}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    generator = torch.Generator(device).manual_seed(0)
    frames_ND, centroids_KD = (
        torch.randn(rows, setting.dim, generator=generator, device=device)
        for rows in (setting.num_frames, setting.num_units)
    )
    builders = {
        "ours": ours,
        "bare product": bare_product,
        "plain": plain,
        "faiss": faiss_search,
        "scikit-learn": scikit_learn,
    }
    contenders, left_out = gather(
        {name: partial(build, frames_ND, centroids_KD) for name, build in builders.items()}
    )
    return Record(
        "assignment",
        device.type,
        size,
        asdict(setting),
        costs(contenders, device, setting.rounds),
        left_out,
        PAIRS,
        agreement(contenders),
    )


def agreement(contenders: dict[str, Contender]) -> dict[str, float]:
    """The share of frames to which each contender gives the unit that ours gives."""
    units = {
        name: torch.as_tensor(contender.run()[0]).flatten()
        for name, contender in contenders.items()
        if name != "bare product"
    }
    own_N = units.pop("ours")
    return {
        f"share of frames where {name} agrees with ours": float((own_N == found_N).double().mean())
        for name, found_N in units.items()
    }


def ours(frames_ND: Tensor, centroids_KD: Tensor) -> Contender:
    return Contender(
        "pipeline.clustering.assignment.assign", lambda: (assign(frames_ND, centroids_KD),)
    )


def plain(frames_ND: Tensor, centroids_KD: Tensor) -> Contender:
    require_memory(2 * 4 * len(frames_ND) * len(centroids_KD), frames_ND.device)
    return Contender(
        "torch.cdist(frames, centroids).argmin(dim=1)",
        lambda: (torch.cdist(frames_ND, centroids_KD).argmin(dim=1),),
    )


def bare_product(frames_ND: Tensor, centroids_KD: Tensor) -> Contender:
    """The product that no exact way can avoid, a tile at a time, into memory made before."""
    tile_RK = frames_ND.new_empty((min(TILE_ROWS, len(frames_ND)), len(centroids_KD)))

    def call() -> Sequence[Tensor]:
        for frames_RD in frames_ND.split(TILE_ROWS):
            torch.mm(frames_RD, centroids_KD.T, out=tile_RK[: len(frames_RD)])
        return ()

    return Contender("matrix product alone: N x D x K", call, prepared=True)


def faiss_search(frames_ND: Tensor, centroids_KD: Tensor) -> Contender:
    require_cpu(frames_ND.device)
    import faiss

    index = faiss.IndexFlatL2(centroids_KD.shape[1])
    index.add(centroids_KD.numpy())

    def call() -> Sequence[Any]:
        distances_N1, units_N1 = index.search(frames_ND.numpy(), k=1)
        return units_N1, distances_N1

    return Contender("IndexFlatL2.search(frames, k=1)", call)


def scikit_learn(frames_ND: Tensor, centroids_KD: Tensor) -> Contender:
    require_cpu(frames_ND.device)
    from sklearn.metrics import pairwise_distances_argmin

    return Contender(
        "pairwise_distances_argmin(frames, centroids)",
        lambda: (pairwise_distances_argmin(frames_ND.numpy(), centroids_KD.numpy()),),
    )
