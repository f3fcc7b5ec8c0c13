"""k-means over the feature shards as Ray Data jobs, out of core.

A start on a sample in memory, then Lloyd's passes over all frames. Partial sums are merged in the
order of the shards, in groups that do not depend on the number of workers, and so is the outcome.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.artifacts import Artifact
from pipeline.config import Cluster, Codebook
from pipeline.features.columns import frames_of
from pipeline.features.extraction import FOLDER
from pipeline.quantizer.kmeans import Fit, PartialSums, fit_sample, iterate, partial_sums
from pipeline.runtime.shards import Row, map_rows
from pipeline.schema import layer_column

CALIBRATION_FRAMES = 2000
MAX_GROUPS = 64


@dataclass(frozen=True)
class FittedCodebook:
    """A fit over all frames, and a few frames to calibrate sigma^2 on (N x D float32)."""

    fit: Fit
    calibration_ND: Tensor
    num_sampled: int


@dataclass(frozen=True)
class Frames:
    """One layer of one split's shards."""

    features: Artifact
    layer: int
    shards: tuple[str, ...]

    @classmethod
    def of_split(cls, features: Artifact, split: str, layer: int) -> "Frames":
        """The shards of `split` that `features` holds.

        Raises:
            ValueError: there are none.
        """
        names = features.names(FOLDER)
        shards = tuple(n for n in names if n.rpartition("-")[0] == f"{FOLDER}/{split}")
        if not shards:
            raise ValueError(f"{features.uri} has no shard of split '{split}': extract it first")
        return cls(features, layer, shards)

    def num_frames(self, shard: str) -> int:
        column = self.features.read_table(shard, columns=["num_frames"])["num_frames"]
        return sum(column.to_pylist())

    def read(self, shard: str) -> Iterator[np.ndarray]:
        """The frames (N x D, float16) of each row group."""
        column = layer_column(self.layer)
        with self.features.read(shard) as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=[column])
                yield np.concatenate(frames_of(table[column]))

    def groups(self) -> list[tuple[str, ...]]:
        """Neighbouring shards in at most MAX_GROUPS groups: one job's rows."""
        size = -(-len(self.shards) // MAX_GROUPS)
        return [self.shards[i : i + size] for i in range(0, len(self.shards), size)]


def fit_codebook(
    frames: Frames, settings: Codebook, cluster: Cluster, say: Callable[[str], None]
) -> FittedCodebook:
    """Fit `settings.num_units` centroids; the same for any number of workers.

    Raises:
        ValueError: there are fewer distinct frames than units.
    """
    counts = {shard: frames.num_frames(shard) for shard in frames.shards}
    total = sum(counts.values())
    sample_ND = _sample(frames, counts, settings, cluster)
    say(f"k-means of {settings.num_units} units on {len(sample_ND)} of {total} frames")
    fit = fit_sample(
        sample_ND, settings.num_units, settings.seed, settings.max_passes, settings.tolerance
    )
    if len(sample_ND) < total:

        def measure(centroids_KD: Tensor) -> PartialSums:
            sums = _pass(frames, centroids_KD, cluster)
            say(f"a pass over {total} frames: distance {sums.mean_squared_distance:.5g}")
            return sums

        fit = iterate(fit.centroids_KD, measure, settings.max_passes, settings.tolerance)
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(sample_ND), generator=generator)[:CALIBRATION_FRAMES]
    return FittedCodebook(fit, sample_ND[chosen], len(sample_ND))


def _sample(frames: Frames, counts: dict[str, int], settings: Codebook, cluster: Cluster) -> Tensor:
    """Frames of every shard in proportion to its size, all of them where they are few."""
    share = min(1.0, settings.sample_frames / sum(counts.values()))

    def draw(row: Row) -> Row:
        drawn = []
        for shard in row["shards"]:
            all_ND = np.concatenate(list(frames.read(shard)))
            generator = random.Random(f"{settings.seed}/{shard}")  # noqa: S311 (no secret)
            size = round(share * len(all_ND))
            drawn.append(all_ND[sorted(generator.sample(range(len(all_ND)), size))])
        return {"index": row["index"], "frames": np.concatenate(drawn)}

    rows = _in_order(frames, draw, cluster)
    return torch.cat([torch.tensor(row["frames"]).float() for row in rows])


def _pass(frames: Frames, centroids_KD: Tensor, cluster: Cluster) -> PartialSums:
    """Assign all frames and sum them up by cluster."""

    def measure(row: Row) -> Row:
        parts = (
            partial_sums(torch.from_numpy(frames_ND), centroids_KD)
            for shard in row["shards"]
            for frames_ND in frames.read(shard)
        )
        sums = reduce(add, parts)
        arrays = {name: np.asarray(value) for name, value in vars(sums).items()}
        return {"index": row["index"], **arrays}

    return reduce(add, (_sums(row) for row in _in_order(frames, measure, cluster)))


def _in_order(frames: Frames, function: Callable[[Row], Row], cluster: Cluster) -> Iterator[Row]:
    """`function` on each group of shards by a pool of workers; results in the groups' order."""
    rows = [
        {"index": index, "shards": list(shards)} for index, shards in enumerate(frames.groups())
    ]
    early: dict[int, Row] = {}
    following = 0
    for row in map_rows(rows, function, cluster.codebook_workers, cluster):
        early[int(row["index"])] = row
        while following in early:
            yield early.pop(following)
            following += 1


def _sums(row: Row) -> PartialSums:
    return PartialSums(
        sums_KD=torch.tensor(row["sums_KD"]),
        counts_K=torch.tensor(row["counts_K"]),
        inertia=float(row["inertia"]),
        num_frames=int(row["num_frames"]),
        farthest_FD=torch.tensor(row["farthest_FD"]),
        farthest_squared_distances_F=torch.tensor(row["farthest_squared_distances_F"]),
    )
