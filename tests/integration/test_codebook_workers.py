"""k-means over shards: the same for one worker and two, as good as scikit-learn's."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.cluster import KMeans

from pipeline.clustering.assignment import FramesError
from pipeline.clustering.kmeans import partial_sums
from pipeline.config import Cluster, Codebook
from pipeline.features.stored_frames import StoredFrames, frames_column
from pipeline.progress import Progress, Report
from pipeline.runtime.fit_codebook import fit_codebook
from pipeline.runtime.node_run import message
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact, ArtifactError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

NUM_UNITS, DIM = 24, 12


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Frames of overlapping blobs in 70 train shards (more than groups), and shards of other splits."""
    output = Artifact(str(tmp_path_factory.mktemp("features")))
    for number in range(70):
        write_shard(output, "train", number, blobs(number))
    for split in ("train-other", "test"):
        write_shard(output, split, 0, [row + np.float16(100) for row in blobs(0)])
    output.finish({})
    return output


@pytest.fixture
def few(tmp_path):
    """A function that writes features: a split of few shards, each given as its utterances.

    Its shards are numbered from `first`: their names and those of their utterances say so.
    """

    def written(*shards, first=0):
        output = Artifact(str(tmp_path / f"features-{len(list(tmp_path.iterdir()))}"))
        for number, rows in enumerate(shards, first):
            write_shard(output, "train", number, rows)
        output.finish({})
        return output

    return written


def blobs(seed, dim=DIM):
    """A shard's utterances: their frames are of as many blobs as there are units."""
    centres = np.random.default_rng(0).normal(0, 2, (NUM_UNITS, dim))
    generator = np.random.default_rng(seed + 1)
    rows = [
        centres[generator.integers(NUM_UNITS, size=generator.integers(5, 40))]
        for _ in range(generator.integers(2, 6))
    ]
    return [(row + generator.normal(size=row.shape)).astype(np.float16) for row in rows]


def write_shard(output, split, number, rows):
    table = table_schemas.features((0, 2)).empty_table()
    if rows:
        columns = {
            "utt_id": [f"{split}-{number}-{i}" for i in range(len(rows))],
            "split": [split] * len(rows),
            "num_frames": [len(row) for row in rows],
            "layer_00": frames_column([np.zeros_like(row) for row in rows]),
            "layer_02": frames_column(rows),
        }
        table = pa.table(columns, schema=table.schema)
    output.write_table(f"shards/{split}-{number:05d}.parquet", table, row_group_size=2)


def fit(features, workers, output="unused", **settings):
    settings = Codebook.model_validate({"num_units": NUM_UNITS, "layer": 2, **settings})
    frames = StoredFrames.of_split(features, "train", settings.layer)
    cluster = Cluster(codebook_workers=workers)
    sent = []
    fitted = fit_codebook(frames, settings, cluster, Artifact(str(output)), Progress(sent.append))
    return fitted, sent


def same(one, other):
    """Bit for bit, what the stage writes and reports."""
    return (
        one.fit.centroids_KD.equal(other.fit.centroids_KD)
        and one.calibration_ND.equal(other.calibration_ND)
        and one.fit.sums.inertia == other.fit.sums.inertia
        and one.num_rejected == other.num_rejected
    )


def inertia_of(fitted, features):
    """The inertia over all frames, whatever the method measured."""
    return partial_sums(torch.from_numpy(all_frames(features)), fitted.fit.centroids_KD).inertia


def units_of(sent):
    return {item.unit for item in sent if isinstance(item, Report)}


def all_frames(features):
    frames = StoredFrames.of_split(features, "train", 2)
    return np.concatenate([part for shard in frames.shards for part in frames.read(shard)])


@pytest.fixture(scope="module")
def sklearn_inertia(features):
    return KMeans(NUM_UNITS, n_init=10, random_state=0).fit(all_frames(features)).inertia_


def test_out_of_core_fit_is_the_same_for_one_worker_and_two(features, sklearn_inertia):
    (one, sent), (two, _) = (fit(features, n, sample_frames=1000) for n in (1, 2))
    assert one.num_held < 0.5 * one.fit.sums.weight
    assert same(one, two)
    assert one.fit.sums.weight == len(all_frames(features))
    assert one.fit.sums.inertia <= 1.01 * sklearn_inertia
    assert "passes over all frames" in units_of(sent)


def test_sums_of_the_last_pass_are_those_of_all_frames(features):
    fitted, _ = fit(features, 2, sample_frames=1000, max_passes=2)
    frames_ND = all_frames(features).astype(np.float64)
    centroids_KD = fitted.fit.centroids_KD.double().numpy()
    distances_NK = ((frames_ND[:, None] - centroids_KD) ** 2).sum(2)
    assert fitted.fit.sums.inertia == pytest.approx(distances_NK.min(1).sum(), rel=1e-5)
    counts_K = np.bincount(distances_NK.argmin(1), minlength=NUM_UNITS)
    assert fitted.fit.sums.weights_K.tolist() == counts_K.tolist()


def test_sample_of_everything_needs_no_pass(features, sklearn_inertia):
    fitted, sent = fit(features, 2)
    assert fitted.num_held == fitted.fit.sums.weight == len(all_frames(features))
    assert "passes over all frames" not in units_of(sent)
    assert fitted.fit.sums.inertia <= 1.01 * sklearn_inertia


# Settings with which a method cannot hold all frames.
LARGE = {
    "lloyd": {"sample_frames": 1000},
    "minibatch": {"sample_frames": 1000, "batch_shards": 10},
    "coreset": {"sample_frames": 3000, "coreset_frames": 60},
}
# Settings with which it can.
SMALL = {"lloyd": {}, "minibatch": {}, "coreset": {"coreset_frames": 60}}


@pytest.mark.parametrize("method", [pytest.param("minibatch", marks=pytest.mark.soak), "coreset"])
def test_every_method_is_the_same_for_one_worker_and_two(
    tmp_path, features, sklearn_inertia, method
):
    (one, sent), (two, _) = (
        fit(features, workers, tmp_path / str(workers), method=method, **LARGE[method])
        for workers in (1, 2)
    )
    assert same(one, two)
    assert one.num_held <= LARGE[method]["sample_frames"] < 0.6 * len(all_frames(features))
    assert one.fit.sums.weight == pytest.approx(len(all_frames(features)), rel=1e-6)
    assert one.fit.sums.inertia == pytest.approx(inertia_of(one, features), rel=1e-5)
    assert inertia_of(one, features) <= 1.03 * sklearn_inertia
    if method == "coreset":
        assert Report(70, 70, "coresets") in sent
    else:
        assert "passes in batches" in units_of(sent)


def test_what_sigma_is_scaled_from_is_measured_on_all_frames_not_on_a_coreset(tmp_path, features):
    """With four weighted frames a unit, the error on these says nothing of other frames."""
    fitted, sent = fit(features, 2, tmp_path, method="coreset", sample_frames=100)
    assert fitted.num_held <= 105
    true = inertia_of(fitted, features) / len(all_frames(features))
    assert fitted.scores["mean_squared_distance"] == pytest.approx(true, rel=1e-5)
    assert fitted.scores["num_frames"] == len(all_frames(features))
    calibration = partial_sums(fitted.calibration_ND, fitted.fit.centroids_KD)
    assert calibration.mean_squared_distance == pytest.approx(true, rel=0.1)
    assert "passes to measure" in units_of(sent)


def test_coresets_small_enough_to_hold_are_not_condensed_again(tmp_path, features, sklearn_inertia):
    fitted, _ = fit(features, 2, tmp_path, method="coreset", coreset_frames=60)
    assert 3000 < fitted.num_held <= 70 * 60
    assert inertia_of(fitted, features) <= 1.03 * sklearn_inertia


def test_later_shards_refine_an_earlier_codebook_without_the_earlier_ones(tmp_path, few):
    shards = [blobs(number) for number in range(12)]
    settings = {"method": "coreset", "coreset_frames": 40, "sample_frames": 400}
    at_once, _ = fit(few(*shards), 2, tmp_path / "at once", **settings)
    fit(few(*shards[:8]), 2, tmp_path / "earlier", **settings)
    earlier = str(tmp_path / "earlier")
    later, sent = fit(few(*shards), 2, tmp_path / "later", refine=earlier, **settings)
    assert f"reuses 8 coresets of {earlier}, makes 4 for 12 shards" in sent
    assert same(later, at_once)
    # The earlier shards are no longer needed, but what is gone is not measured either.
    new = few(*shards[8:], first=8)
    alone, _ = fit(new, 2, tmp_path / "alone", refine=earlier, **settings)
    assert alone.fit.centroids_KD.equal(at_once.fit.centroids_KD)
    assert alone.fit.sums.weight == len(all_frames(new))
    assert alone.fit.sums.inertia == pytest.approx(inertia_of(alone, new), rel=1e-5)
    # A fit that starts again makes no coreset again.
    again, sent = fit(few(*shards), 2, tmp_path / "later", refine=earlier, **settings)
    assert f"reuses 0 coresets of {earlier}, makes 0 for 12 shards" in sent
    assert same(again, at_once)


def test_coresets_made_otherwise_are_not_added_to(tmp_path, few):
    output = few(blobs(0), blobs(1))
    fit(output, 1, tmp_path / "earlier", method="coreset", coreset_frames=40)
    for changed in ({"coreset_frames": 50}, {"seed": 1}, {"layer": 0}):
        settings = {"coreset_frames": 40, "refine": str(tmp_path / "earlier"), **changed}
        with pytest.raises(ArtifactError, match="keep its layer, coreset_frames and seed"):
            fit(output, 1, tmp_path / "later", method="coreset", **settings)


@pytest.mark.parametrize("held", [LARGE, SMALL], ids=["out of core", "in memory"])
@pytest.mark.parametrize("method", LARGE)
def test_frames_that_are_not_finite_are_left_out_and_counted(tmp_path, few, method, held):
    shards = [blobs(number) for number in range(12)]
    settings = {"method": method, "num_units": 8, **held[method]}
    if "sample_frames" in settings:
        settings["sample_frames"] = 300
    bad = np.full((3, DIM), 1, dtype=np.float16)
    bad[[0, 1, 2], [0, 5, 11]] = [np.nan, np.inf, -np.inf]
    shards[3].append(bad)
    shards[5] = [bad, bad]
    fitted, _ = fit(few(*shards), 2, tmp_path / "fit", **settings)
    assert fitted.num_rejected == 9
    assert fitted.fit.centroids_KD.isfinite().all()
    assert fitted.calibration_ND.isfinite().all()
    num_finite = sum(len(row) for rows in shards for row in rows) - 9
    assert fitted.fit.sums.weight == pytest.approx(num_finite, rel=1e-6)


@pytest.mark.parametrize("method", LARGE)
def test_an_empty_shard_changes_nothing(tmp_path, few, method):
    """The empty shard is the last, since draws depend on the names and the order of shards."""
    shards = [blobs(number) for number in range(6)]
    settings = {"method": method, **LARGE[method], "sample_frames": 200}
    without, _ = fit(few(*shards), 2, tmp_path / "without", **settings)
    fitted, _ = fit(few(*shards, []), 2, tmp_path / "with", **settings)
    if method == "minibatch":  # one more shard changes the order of batches
        assert fitted.fit.sums.weight == without.fit.sums.weight
        assert fitted.fit.sums.inertia == pytest.approx(without.fit.sums.inertia, rel=0.1)
    else:
        assert same(fitted, without)


@pytest.mark.parametrize("method", LARGE)
def test_more_units_than_distinct_frames_are_refused(tmp_path, few, method):
    """Ninety frames, of which five differ."""
    rows = [np.arange(5, dtype=np.float16)[:, None] * np.ones(DIM, np.float16)] * 9
    with pytest.raises(FramesError, match=r"6 units need as many distinct frames.*has 5"):
        fit(few(rows, rows), 2, tmp_path / "fit", method=method, num_units=6)
    fitted, _ = fit(few(rows, rows), 2, tmp_path / "fit", method=method, num_units=5)
    assert fitted.fit.sums.inertia == 0


@pytest.mark.parametrize("method", LARGE)
def test_only_frames_that_are_not_finite_are_refused(tmp_path, few, method):
    rows = [np.full((5, DIM), np.nan, np.float16)]
    with pytest.raises(FramesError, match=r"of 0 has 0"):
        fit(few(rows, rows), 2, tmp_path / "fit", method=method)


@pytest.mark.parametrize("number", [2, 70])
@pytest.mark.parametrize("method", LARGE)
def test_shards_of_different_dimensions_are_refused(tmp_path, few, method, number):
    """The driver merges few shards; tasks merge some of many."""
    shards = [blobs(0)] * (number - 1)
    output = few(*shards, blobs(1, dim=DIM + 1))
    with pytest.raises(FramesError) as caught:
        fit(output, 2, tmp_path / "fit", method=method)
    assert message(caught.value) == (
        f"frames of one layer have [{DIM}, {DIM + 1}] dimensions in different shards: were all of "
        "them extracted with one SSL model?"
    )


def test_features_without_frames_are_refused(tmp_path, few):
    for method in LARGE:
        with pytest.raises(FramesError, match="holds no frame of layer 2"):
            fit(few([], []), 2, tmp_path / method, method=method)


def test_split_without_shards_is_named(features):
    with pytest.raises(ValueError, match="no shard of split 'dev'"):
        StoredFrames.of_split(features, "dev", 2)
