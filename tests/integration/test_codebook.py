"""k-means over shards: the same for one worker and two, as good as scikit-learn's."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans

from pipeline import schema
from pipeline.artifacts import Artifact
from pipeline.config import Cluster, Codebook
from pipeline.features.columns import frames_column
from pipeline.features.stored_frames import StoredFrames
from pipeline.runtime.codebook import fit_codebook

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

NUM_UNITS, DIM = 24, 12


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Frames of overlapping blobs in 70 train shards (more than groups), and others to leave out."""
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 3, (40, DIM))
    output = Artifact(str(tmp_path_factory.mktemp("features")))
    for split, number in [("train", i) for i in range(70)] + [("train-other", 0), ("test", 0)]:
        rows = [
            centres[generator.integers(40, size=generator.integers(5, 40))]
            for _ in range(generator.integers(2, 6))
        ]
        rows = [(r + generator.normal(size=r.shape)).astype(np.float16) for r in rows]
        if split != "train":
            rows = [row + np.float16(100) for row in rows]
        columns = {
            "utt_id": [f"{split}-{number}-{i}" for i in range(len(rows))],
            "split": [split] * len(rows),
            "num_frames": [len(row) for row in rows],
            "layer_00": frames_column([np.zeros_like(row) for row in rows]),
            "layer_02": frames_column(rows),
        }
        table = pa.table(columns, schema=schema.features((0, 2)))
        output.write_table(f"shards/{split}-{number:05d}.parquet", table, row_group_size=2)
    return output


def fit(features, workers, output="unused", **settings):
    settings = Codebook(num_units=NUM_UNITS, layer=2, **settings)
    frames = StoredFrames.of_split(features, "train", 2)
    cluster = Cluster(codebook_workers=workers)
    said = []
    return fit_codebook(frames, settings, cluster, Artifact(str(output)), said.append), said


def all_frames(features):
    frames = StoredFrames.of_split(features, "train", 2)
    return np.concatenate([part for shard in frames.shards for part in frames.read(shard)])


@pytest.fixture(scope="module")
def sklearn_inertia(features):
    return KMeans(NUM_UNITS, n_init=10, random_state=0).fit(all_frames(features)).inertia_


def test_out_of_core_fit_is_the_same_for_one_worker_and_two(features, sklearn_inertia):
    (one, said), (two, _) = (fit(features, n, sample_frames=1000) for n in (1, 2))
    assert one.num_held < 0.5 * one.fit.sums.weight
    assert one.fit.centroids_KD.equal(two.fit.centroids_KD)
    assert one.calibration_ND.equal(two.calibration_ND)
    assert one.fit.sums.inertia == two.fit.sums.inertia
    assert one.fit.sums.weight == len(all_frames(features))
    assert one.fit.sums.inertia <= 1.01 * sklearn_inertia
    assert any("pass 1 over" in line for line in said)


def test_sums_of_the_last_pass_are_those_of_all_frames(features):
    fitted, _ = fit(features, 2, sample_frames=1000, max_passes=2)
    frames_ND = all_frames(features).astype(np.float64)
    centroids_KD = fitted.fit.centroids_KD.double().numpy()
    distances_NK = ((frames_ND[:, None] - centroids_KD) ** 2).sum(2)
    assert fitted.fit.sums.inertia == pytest.approx(distances_NK.min(1).sum(), rel=1e-5)
    counts_K = np.bincount(distances_NK.argmin(1), minlength=NUM_UNITS)
    assert fitted.fit.sums.weights_K.tolist() == counts_K.tolist()


def test_sample_of_everything_needs_no_pass(features, sklearn_inertia):
    fitted, said = fit(features, 2)
    assert fitted.num_held == fitted.fit.sums.weight == len(all_frames(features))
    assert len(said) == 1
    assert fitted.fit.sums.inertia <= 1.01 * sklearn_inertia


def test_split_without_shards_is_named(features):
    with pytest.raises(ValueError, match="no shard of split 'dev'"):
        StoredFrames.of_split(features, "dev", 2)
