"""Fitting a codebook: shards on disk by one worker and two, next to peers with all in memory.

Shapes: N frames, D dimensions, K units.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Cost, LeftOutError, require_memory
from benchmarks.record import Record

MINI_BATCH = {
    "MiniBatchKMeans, defaults": {},
    # What the recipes of fairseq and ESPnet pass, but for one start instead of twenty.
    "MiniBatchKMeans, public recipes": {
        "batch_size": 10_000,
        "max_iter": 100,
        "tol": 0.0,
        "max_no_improvement": 100,
        "reassignment_ratio": 0.0,
    },
}
OURS = {
    f"ours, {method}, {words}": (method, workers)
    for method, workers, words in (
        ("coreset", 1, "one worker"),
        ("coreset", 2, "two workers"),
        ("small coreset", 2, "two workers"),
        ("lloyd", 1, "one worker"),
        ("lloyd", 2, "two workers"),
    )
}
PAIRS = (
    ("MiniBatchKMeans, public recipes", "ours, coreset, two workers"),
    ("MiniBatchKMeans, defaults", "ours, small coreset, two workers"),
    ("faiss", "ours, small coreset, two workers"),
    ("ours, coreset, one worker", "ours, coreset, two workers"),
    ("ours, lloyd, one worker", "ours, lloyd, two workers"),
)
MIXTURE_COMPONENTS = 3000
SHARD_FRAMES = 60_000
UTTERANCE_FRAMES = 500
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Setting:
    """How large the work is."""

    num_frames: int
    dim: int
    num_units: int


# Methods are compared at equal inertia: each as thorough as it takes to be no worse than the peer
# that it stands beside. Lloyd's method is there for the ratio of one worker to two.
METHODS = {
    "coreset": {"coreset_frames": 8192, "sample_frames": 250_000, "tolerance": 5e-4},
    "small coreset": {"coreset_frames": 4096, "sample_frames": 150_000, "tolerance": 2e-3},
    "lloyd": {"sample_frames": 100_000, "max_passes": 1},
}
SIZES = {"full": Setting(2_000_000, 768, 1000), "small": Setting(3000, 16, 20)}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    costs: dict[str, Cost] = {}
    checks: dict[str, float] = {}
    left_out: dict[str, str] = {}
    frames_ND = mixture(setting)
    with tempfile.TemporaryDirectory() as folder:
        contenders = {**ours(setting, frames_ND, Path(folder)), **peers(setting, frames_ND)}
        for name, fit in contenders.items():
            try:
                started = time.perf_counter()
                centroids_KD, found = fit()
                seconds = time.perf_counter() - started
            except ModuleNotFoundError as error:
                left_out[name] = f"{error.name} is not installed"
            except LeftOutError as error:
                left_out[name] = str(error)
            else:
                costs[name] = Cost(name, 1.0, (found.pop("seconds", seconds),), None)
                checks |= {f"{name}: {what}": value for what, value in found.items()}
                checks[f"{name}: mean squared distance"] = distortion(frames_ND, centroids_KD)
    return Record(
        "codebook",
        device.type,
        size,
        {**asdict(setting), **METHODS},
        costs,
        left_out,
        PAIRS,
        checks,
    )


def mixture(setting: Setting) -> np.ndarray:
    """Overlapping Gaussians of unequal weight, variance falling as 1 / rank of the dimension."""
    generator = np.random.default_rng(0)
    ranks_D = np.arange(1, setting.dim + 1, dtype=np.float32)
    scale_D = np.sqrt(setting.dim / (1 / ranks_D).sum() / ranks_D)
    means = scale_D * generator.standard_normal((MIXTURE_COMPONENTS, setting.dim), np.float32)
    weights = np.arange(1, MIXTURE_COMPONENTS + 1) ** -0.7
    frames_ND = np.empty((setting.num_frames, setting.dim), np.float16)
    for block in np.array_split(frames_ND, max(1, setting.num_frames // 20_000)):
        which = generator.choice(MIXTURE_COMPONENTS, len(block), p=weights / weights.sum())
        noise = generator.standard_normal(block.shape, np.float32)
        block[:] = means[which] + 0.8 * scale_D * noise
    return frames_ND


def distortion(frames_ND: np.ndarray, centroids_KD: torch.Tensor) -> float:
    """The mean squared distance of all frames to their nearest centroid."""
    from pipeline.clustering.assignment import nearest

    blocks = np.array_split(frames_ND, max(1, len(frames_ND) // 50_000))
    sums = [float(nearest(torch.from_numpy(b), centroids_KD)[1].double().sum()) for b in blocks]
    return sum(sums) / len(frames_ND)


Fitted = tuple[torch.Tensor, dict[str, float]]


def ours(setting: Setting, frames_ND: np.ndarray, folder: Path) -> dict[str, Callable[[], Fitted]]:
    """Each from shards on disk, one CPU a worker; to write them is not timed."""
    features = write_shards(frames_ND, folder)
    return {
        name: partial(fit, features, setting, method, workers, folder / name)
        for name, (method, workers) in OURS.items()
    }


def write_shards(frames_ND: np.ndarray, folder: Path) -> Any:
    import pyarrow as pa

    from pipeline.features.extraction import ROWS_PER_GROUP
    from pipeline.features.stored_frames import frames_column
    from pipeline.storage import table_schemas
    from pipeline.storage.artifacts import Artifact

    features = Artifact(str(folder / "features"))
    for number, first in enumerate(range(0, len(frames_ND), SHARD_FRAMES)):
        shard = frames_ND[first : first + SHARD_FRAMES]
        rows = np.array_split(shard, max(1, len(shard) // UTTERANCE_FRAMES))
        columns = {
            "utt_id": [f"{number}-{place}" for place in range(len(rows))],
            "split": ["train"] * len(rows),
            "num_frames": [len(row) for row in rows],
            "layer_00": frames_column(rows),
        }
        table = pa.table(columns, schema=table_schemas.features((0,)))
        name = f"shards/train-{number:05d}.parquet"
        features.write_table(name, table, row_group_size=ROWS_PER_GROUP)
    features.finish({})
    return features


def fit(features: Any, setting: Setting, method: str, workers: int, output: Path) -> Fitted:
    import ray

    from pipeline.config import Cluster, Codebook
    from pipeline.features.stored_frames import StoredFrames
    from pipeline.runtime.fit_codebook import fit_codebook
    from pipeline.runtime.session import ray_session
    from pipeline.storage.artifacts import Artifact

    settings = Codebook(
        method=method.rpartition(" ")[2],
        layer=0,
        num_units=setting.num_units,
        **METHODS[method],
    )
    cluster = Cluster(codebook_workers=workers)
    frames = StoredFrames.of_split(features, "train", 0)
    threads = torch.get_num_threads()
    with ray_session(cluster), processes_watched() as peaks:
        ray.get([ray.remote(warm_up).remote() for _ in range(workers)])
        torch.set_num_threads(1)  # as Ray has it for the process of a stage
        started = time.perf_counter()
        fitted = fit_codebook(frames, settings, cluster, Artifact(str(output)))
        seconds = time.perf_counter() - started
        torch.set_num_threads(threads)
    passes = float(fitted.fit.num_passes)
    return fitted.fit.centroids_KD, {"seconds": seconds, "passes": passes, **peaks}


def warm_up() -> None:
    """Workers import torch once in their lives; a run's other stages have done so before."""
    torch.ones(1).sum()
    time.sleep(1)  # or one worker would do it for both


@contextmanager
def processes_watched() -> Iterator[dict[str, float]]:
    """Peak memory of this process above what it holds now, and of the largest Ray worker, in GB."""
    import psutil

    this = psutil.Process()
    peaks = {"driver GB": 0.0, "worker GB": 0.0}
    before, stop = own_bytes(this), threading.Event()

    def look() -> None:
        while not stop.wait(SECONDS_BETWEEN_LOOKS):
            peaks["driver GB"] = max(peaks["driver GB"], (own_bytes(this) - before) / 1e9)
            workers = [p for p in this.children(recursive=True) if is_worker(p)]
            largest = max((own_bytes(worker) for worker in workers), default=0)
            peaks["worker GB"] = max(peaks["worker GB"], largest / 1e9)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        stop.set()
        watcher.join()


def own_bytes(process: Any) -> int:
    """Resident memory that it shares with nobody; what Ray's object store holds is shared."""
    import psutil

    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    return memory.rss - memory.shared


def is_worker(process: Any) -> bool:
    import psutil

    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::")
    except psutil.NoSuchProcess:
        return False


def peers(setting: Setting, frames_ND: np.ndarray) -> dict[str, Callable[[], Fitted]]:
    """Each from float32 frames that are in memory already."""
    require_memory(3 * 4 * frames_ND.size, torch.device("cpu"))
    wide_ND = frames_ND.astype(np.float32)
    found = {
        name: partial(mini_batch, wide_ND, setting.num_units, arguments)
        for name, arguments in MINI_BATCH.items()
    }
    return {**found, "faiss": partial(faiss_kmeans, wide_ND, setting.num_units)}


def mini_batch(frames_ND: np.ndarray, num_units: int, arguments: dict[str, Any]) -> Fitted:
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(num_units, random_state=0, n_init=1, **arguments).fit(frames_ND)
    return torch.from_numpy(fitted.cluster_centers_), {"steps": float(fitted.n_steps_)}


def faiss_kmeans(frames_ND: np.ndarray, num_units: int) -> Fitted:
    import faiss

    kmeans = faiss.Kmeans(frames_ND.shape[1], num_units, niter=25, seed=0)
    kmeans.train(frames_ND)
    return torch.from_numpy(kmeans.centroids), {"passes": 25.0}
