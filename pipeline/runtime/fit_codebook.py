"""k-means over the feature shards by a pool of Ray tasks, out of core.

A start on frames held in memory (a sample, or the union of the shards' coresets), then passes over
all frames: those that the method needs, the last of which measures the result. The tasks' sums are
merged in the order of the shards, in parts that do not depend on the number of workers, so the
result does not either.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from pipeline.clustering.assignment import FramesError
from pipeline.clustering.codebook import FittedCodebook
from pipeline.clustering.coreset import Coreset, condense, every_frame, union
from pipeline.clustering.coreset_store import CoresetStore
from pipeline.clustering.kmeans import Fit, PartialSums, iterate, iterate_batches, partial_sums
from pipeline.clustering.seeding import FRAMES_PER_UNIT, initialise
from pipeline.config import Cluster, Codebook
from pipeline.features.stored_frames import StoredFrames
from pipeline.progress import SILENT, Progress
from pipeline.runtime.task_pool import TaskPool
from pipeline.storage.artifacts import Artifact

CALIBRATION_FRAMES = 2000
# Tasks of a pass over the shards, and of one over the frames in memory: enough for all workers, and
# few enough that merging their K x D sums costs little.
SHARD_PARTS = 64
HELD_PARTS = 8
# Passes over a quarter of the frames in memory end once they lower the inertia by less than this.
ROUGH_TOLERANCE = 1e-3


def fit_codebook(
    frames: StoredFrames,
    settings: Codebook,
    cluster: Cluster,
    output: Artifact,
    progress: Progress = SILENT,
) -> FittedCodebook:
    """Fit `settings.num_units` centroids; the same for any number of workers.

    `lloyd` goes over all frames until the inertia settles, `minibatch` moves the centroids after
    every few shards, `coreset` reads every shard once and leaves its coreset in `output`. Whatever
    the method, the sums are those of all frames of `frames`.

    Raises:
        FramesError: there are fewer distinct frames than units.
    """
    pool = TaskPool(cluster.codebook_workers, cluster, progress)
    num_frames = _count(frames, pool)
    if settings.method == "coreset":
        held = _union_of_coresets(frames, settings, output, pool)
    else:
        held = _sample(frames, settings.sample_frames / max(num_frames, 1), settings.seed, pool)
    fit, num_rejected = _fit_held(held, settings, pool), held.num_rejected
    if not held.is_unweighted or len(held.weights_M) + num_rejected < num_frames:
        fit = _PASSES[settings.method](fit, frames, settings, pool)
        num_rejected = fit.sums.num_rejected
    calibration_ND = _calibration(held, frames, settings.seed, pool)
    return FittedCodebook(fit, calibration_ND, len(held.weights_M), num_rejected)


def _fit_held(held: Coreset, settings: Codebook, pool: TaskPool) -> Fit:
    """Seed, then Lloyd's passes over frames that the workers share in memory.

    If there are many, passes over a quarter of them come first: they do most of the work.
    """
    start_KD = initialise(held.frames_MD, settings.num_units, settings.seed, held.weights_M)
    # Every part has frames of every shard; without `contiguous`, each would send all frames.
    parts = [
        ray.put(
            [
                (
                    held.frames_MD[first::HELD_PARTS].contiguous(),
                    held.weights_M[first::HELD_PARTS].contiguous(),
                )
            ]
        )
        for first in range(HELD_PARTS)
    ]
    if len(held.weights_M) > 4 * FRAMES_PER_UNIT * settings.num_units:
        rough = settings.model_copy(update={"tolerance": max(settings.tolerance, ROUGH_TOLERANCE)})
        quarter = parts[: HELD_PARTS // 4]
        start_KD = _iterate(start_KD, quarter, rough, pool, "rough passes in memory").centroids_KD
    return _iterate(start_KD, parts, settings, pool, "passes in memory")


def _lloyd(fit: Fit, frames: StoredFrames, settings: Codebook, pool: TaskPool) -> Fit:
    """Passes over all frames; the centroids move after each pass."""
    parts = _groups_of_shards(frames)
    return _iterate(fit.centroids_KD, parts, settings, pool, "passes over all frames")


def _iterate(
    start_KD: Tensor, parts: Sequence[Any], settings: Codebook, pool: TaskPool, unit: str
) -> Fit:
    """Lloyd's passes over `parts`, counted in `unit` for the progress, fractions included."""
    number, note = itertools.count(), ""

    def measure(centroids_KD: Tensor) -> PartialSums:
        nonlocal note
        current = next(number)

        def report(share: float) -> None:
            pool.progress.update(current + share, settings.max_passes + 1, unit, note)

        sums = _pass(parts, pool, centroids_KD, report)
        note = f"mean squared distance {sums.mean_squared_distance:.5g}"
        report(1.0)
        return sums

    return iterate(start_KD, measure, settings.max_passes, settings.tolerance)


def _minibatch(fit: Fit, frames: StoredFrames, settings: Codebook, pool: TaskPool) -> Fit:
    """Passes over all frames in an order of their own, the centroids moving within each."""
    number = itertools.count()

    def batches() -> Iterable[Callable[[Tensor], PartialSums]]:
        shards, current = list(frames.shards), next(number)
        random.Random(f"{settings.seed}/{current}").shuffle(shards)  # noqa: S311 (no secret)
        pool.progress.update(current, settings.max_passes, "passes in batches")
        for first in range(0, len(shards), settings.batch_shards):
            batch = shards[first : first + settings.batch_shards]
            yield partial(_pass, [_ShardBlocks(frames, [shard]) for shard in batch], pool)

    moved = iterate_batches(fit.centroids_KD, batches, settings.max_passes, settings.tolerance)
    return _measured(moved, frames, settings, pool)


def _measured(fit: Fit, frames: StoredFrames, _settings: Codebook, pool: TaskPool) -> Fit:
    """`fit` with the sums of a pass over all frames in place of those that it was fitted to."""

    def report(share: float) -> None:
        pool.progress.update(share, 1, "passes to measure")

    return replace(fit, sums=_pass(_groups_of_shards(frames), pool, fit.centroids_KD, report))


_PASSES = {"lloyd": _lloyd, "minibatch": _minibatch, "coreset": _measured}


@dataclass(frozen=True)
class _ShardBlocks:
    """The blocks of some shards, each frame of weight 1; read where they are gone over."""

    frames: StoredFrames
    shards: Sequence[str]

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        for shard in self.shards:
            for block_ND in self.frames.read(shard):
                yield torch.from_numpy(block_ND), None


def _groups_of_shards(frames: StoredFrames) -> list[_ShardBlocks]:
    return [_ShardBlocks(frames, list(group)) for group in _split(frames.shards, SHARD_PARTS)]


def _pass(
    parts: Sequence[Any],
    pool: TaskPool,
    centroids_KD: Tensor,
    report: Callable[[float], None] = lambda _share: None,
) -> PartialSums:
    """Assign the frames of all parts and sum them up by cluster; `report` gets the share done."""

    def measured() -> Iterator[PartialSums]:
        for done, sums in enumerate(pool.map("", _measure, parts, centroids_KD), start=1):
            yield sums
            report(done / len(parts))

    return reduce(add, measured())


def _measure(blocks: Iterable[tuple[Tensor, Tensor | None]], centroids_KD: Tensor) -> PartialSums:
    """On a worker: the sums over its part, wherever that is kept."""
    device = _device()
    centroids_KD = centroids_KD.to(device)
    sums = partial_sums(centroids_KD[:0], centroids_KD)
    for frames_ND, weights_N in blocks:
        weights = None if weights_N is None else weights_N.to(device)
        sums = sums + partial_sums(frames_ND.to(device), centroids_KD, weights)
    tensors: dict[str, Any] = {
        name: value.cpu() for name, value in vars(sums).items() if torch.is_tensor(value)
    }
    return replace(sums, **tensors)


def _count(frames: StoredFrames, pool: TaskPool) -> int:
    return sum(pool.map("shards counted", frames.num_frames, frames.shards))


def _sample(frames: StoredFrames, share: float, seed: int, pool: TaskPool) -> Coreset:
    """Frames of every shard in proportion to its size, all of them if `share` is 1 or more."""
    drawn = pool.map("shards sampled", _draw, frames.shards, frames, min(1.0, share), seed)
    return _union(drawn, frames)


def _draw(shard: str, frames: StoredFrames, share: float, seed: int) -> Coreset | None:
    """On a worker: a seeded sample of one shard; None of an empty one."""
    num_frames = frames.num_frames(shard)
    generator = random.Random(f"{seed}/{shard}")  # noqa: S311 (no secret)
    chosen = np.sort(generator.sample(range(num_frames), round(share * num_frames)))
    samples, first = [], 0
    for block_ND in frames.read(shard):
        here = chosen[
            np.searchsorted(chosen, first) : np.searchsorted(chosen, first + len(block_ND))
        ]
        samples.append(every_frame(torch.from_numpy(block_ND[here - first])))
        first += len(block_ND)
    return union(samples) if samples else None


def _union_of_coresets(
    frames: StoredFrames, settings: Codebook, output: Artifact, pool: TaskPool
) -> Coreset:
    """The coresets of all shards, old ones where there are, condensed to what may be held."""
    kind = (frames.layer, settings.coreset_frames, settings.seed)
    store = CoresetStore(output, *kind, frames.encoder())
    num_reused = 0 if settings.refine is None else store.take_over(Artifact(settings.refine))
    keys = {store.key(checksum): shard for shard, checksum in frames.checksums().items()}
    missing = sorted(keys.keys() - set(store.keys()))
    if settings.refine is not None:
        reused = f"{num_reused} coresets of {settings.refine}"
        pool.progress.message(f"reuses {reused}, makes {len(missing)} for {len(keys)} shards")
    for _ in pool.map(
        "coresets", _make_coreset, [(key, keys[key]) for key in missing], frames, store
    ):
        pass
    groups = _split(store.keys(), SHARD_PARTS)
    limit = -(-settings.sample_frames // max(len(groups), 1))
    return _union(pool.map("groups of coresets merged", _merge, groups, store, limit), frames)


def _make_coreset(part: tuple[str, str], frames: StoredFrames, store: CoresetStore) -> None:
    """On a worker: write the coreset of one shard, made block by block."""
    key, shard = part
    num_frames = frames.num_frames(shard)
    coresets = [
        condense(
            every_frame(torch.from_numpy(block_ND).to(_device())),
            -(-store.size * len(block_ND) // num_frames),
            int(key[-12:], 16) + number,
        )
        for number, block_ND in enumerate(frames.read(shard))
    ]
    if coresets:
        store.write(key, union(coresets))


def _merge(keys: Sequence[str], store: CoresetStore, size: int) -> Coreset | None:
    """On a worker: one coreset for those of some shards."""
    coresets = [store.read(key) for key in keys]
    return condense(union(coresets), size, store.seed) if coresets else None


def _union(parts: Iterable[Coreset | None], frames: StoredFrames) -> Coreset:
    coresets = [part for part in parts if part is not None]
    if not coresets:
        raise FramesError(f"{frames.features.uri} holds no frame of layer {frames.layer}")
    return union(coresets)


def _calibration(held: Coreset, frames: StoredFrames, seed: int, pool: TaskPool) -> Tensor:
    """A few frames, each as likely as any other.

    The centroids lie nearer to a coreset's frames than to others, so where frames are weighted,
    others are drawn, from some of the shards.
    """
    if not held.is_unweighted:
        some = replace(frames, shards=frames.shards[:: -(-len(frames.shards) // SHARD_PARTS)])
        held = _sample(some, CALIBRATION_FRAMES / max(_count(some, pool), 1), seed, pool)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(held.weights_M), generator=generator)[:CALIBRATION_FRAMES]
    return held.frames_MD[chosen].float()


def _split(names: Sequence[str], at_most: int) -> list[Sequence[str]]:
    """Neighbouring names in at most so many groups."""
    size = max(1, -(-len(names) // at_most))
    return [names[first : first + size] for first in range(0, len(names), size)]


def _device() -> torch.device:
    """A worker sees a GPU if the config gives it one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
