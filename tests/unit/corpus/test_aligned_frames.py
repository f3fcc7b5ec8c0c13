"""Joint counts of a stored corpus, read shard by shard, against loops over its frames."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from reference import frame_labels as reference_labels
from reference import purity as reference
from support import write_corpus

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment, Utterance
from pipeline.config import Purity
from pipeline.corpus import read_outputs
from pipeline.corpus.read_outputs import read_aligned_frames
from pipeline.metrics.purity import JointCounts, one_silence
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact, ArtifactError

GRID = FrameGrid(400, 320, 16000)
NUM_UNITS = 5


def utterance(name, alignment, split="test"):
    return Utterance(name, split, f"{name}.wav", 0.0, 1.0, "ann", "x", alignment)


def stored(tmp_path, utterances, units, of_shard=3):
    """The outputs that purity reads."""
    corpus, trained, tokens = (
        Artifact(str(tmp_path / name)) for name in ("corpus", "dkm", "units")
    )
    write_corpus(corpus, utterances)
    trained.write_json("tokenizer/ssl/config.json", {"conv_kernel": [400], "conv_stride": [320]})
    names = sorted(units)
    for shard, first in enumerate(range(0, len(names), of_shard)):
        rows = [
            {"utt_id": name, "split": "test", "units": units[name], "num_frames": len(units[name])}
            for name in names[first : first + of_shard]
        ]
        table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
        tokens.write_table(f"tokens/test-{shard:05d}.parquet", table)
    return corpus, trained, tokens


def counted(outputs):
    counts = JointCounts(NUM_UNITS)
    for frames in read_aligned_frames(*outputs, "test"):
        labels = one_silence(frames.labels, Purity())
        counts.add_spans(labels, frames.label_N, frames.num_frames_N, frames.units_F)
    return Counter(
        {
            (label, unit): int(number)
            for label, row_U in zip(counts.phones, counts.matrix, strict=True)
            for unit, number in enumerate(row_U)
            if number
        }
    )


@pytest.mark.parametrize(("most_frames", "rows"), [(10**8, 1024), (60, 4), (1, 1)])
def test_counts_of_a_corpus_are_those_of_loops(tmp_path, monkeypatch, most_frames, rows):
    monkeypatch.setattr(read_outputs, "MOST_FRAMES", most_frames)
    monkeypatch.setattr(read_outputs, "ROWS", rows)
    chance = np.random.default_rng(1)
    utterances, units = [], {}
    for number in range(20):
        times = np.sort(chance.uniform(0, 1, chance.integers(0, 12))).tolist()
        alignment = tuple(
            Segment(start, start + chance.uniform(0, 0.15), chance.choice(["a", "b", "", "spn"]))
            for start in times
        )
        name = f"{chance.integers(10**6)}-{number}"
        utterances.append(utterance(name, None if number % 5 == 4 else alignment))
        units[name] = chance.integers(0, NUM_UNITS, chance.integers(0, 50)).tolist()
    others = [utterance("valid-1", (Segment(0, 1, "z"),), "valid")]
    of_frames = [
        (reference_labels.frame_segments(one.alignment, len(row), GRID.centre_seconds), row)
        for one in utterances
        if one.alignment is not None
        for row in [units[one.utt_id]]
    ]
    expected = reference.joint_counts(of_frames, Purity().silence_labels)
    assert len(expected) == 3 * NUM_UNITS
    assert counted(stored(tmp_path, [*utterances, *others], units)) == expected


def test_a_label_is_that_of_the_last_start_and_a_frame_beside_all_has_none(tmp_path):
    alignment = (Segment(0.02, 0.05, "a"), Segment(0.04, 0.06, "b"))  # centres: 0.0125, 0.0325, …
    outputs = stored(tmp_path, [utterance("u", alignment)], {"u": [0, 1, 2, 3, 4]})
    [frames] = read_aligned_frames(*outputs, "test")
    labels = [frames.labels[i] for i in np.repeat(frames.label_N, frames.num_frames_N)]
    assert labels == ["", "a", "b", "", ""]
    assert np.repeat(frames.in_segment_N, frames.num_frames_N).tolist() == [0, 1, 1, 0, 0]
    assert frames.units_F.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("most_frames", [10**8, 1])
def test_an_aligned_utterance_without_units_is_an_error(tmp_path, monkeypatch, most_frames):
    monkeypatch.setattr(read_outputs, "MOST_FRAMES", most_frames)
    aligned = [utterance(name, (Segment(0, 1, "a"),)) for name in "uvw"]
    outputs = stored(tmp_path, aligned, {"u": [1, 2], "v": [3]}, of_shard=1)
    with pytest.raises(ArtifactError, match="lacks 1 aligned utterances of split 'test'"):
        list(read_aligned_frames(*outputs, "test"))
