"""The stage on the units and alignments of a few frames: its scores with and without silence."""

from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pytest
from support import write_corpus

from pipeline.audio.utterance import Segment, Utterance
from pipeline.config import Config
from pipeline.graph.stage import StageContext
from pipeline.progress import Progress
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.tracking import StageRun
from tasks.phone_purity import STAGE

FRAME_SECONDS = 0.02


@pytest.fixture
def context_of(tmp_path):
    """A function of the units of an utterance and the labels of its frames, None being no label."""

    def make(units, labels, sent):
        names = ("prepare_corpus", "train_joint", "tokenize_corpus/test")
        inputs = {name: Artifact(str(tmp_path / name)) for name in names}
        runs = [list(run) for _, run in groupby(enumerate(labels), key=itemgetter(1))]
        alignment = tuple(
            Segment(run[0][0] * FRAME_SECONDS, (run[-1][0] + 1) * FRAME_SECONDS, run[0][1])
            for run in runs
            if run[0][1] is not None
        )
        seconds = (len(units) + 1) * FRAME_SECONDS
        utterance = Utterance("u", "test", "u.wav", 0.0, seconds, "ann", "x", alignment)
        write_corpus(inputs["prepare_corpus"], [utterance])
        row = {"utt_id": "u", "split": "test", "units": units, "num_frames": len(units)}
        table = pa.Table.from_pylist([row], schema=table_schemas.TOKENS)
        inputs["tokenize_corpus/test"].write_table("tokens/test-00000.parquet", table)
        trained = inputs["train_joint"]
        trained.write_json("tokenizer/config.json", {"num_units": 3})
        trained.write_json(
            "tokenizer/ssl/config.json", {"conv_kernel": [400], "conv_stride": [320]}
        )
        config = Config.model_validate(
            {
                "variant": "tiny",
                "corpus": {"kind": "manifest", "manifest": "none.jsonl"},
                "ssl": {"model": str(tmp_path)},
            }
        )
        output, tracker = Artifact(str(tmp_path / "out")), StageRun.disabled()
        return StageContext(config, output, inputs, tracker, Progress(sent.append), split="test")

    return make


def test_scores_are_those_without_silence_and_those_with_it(context_of):
    labels = ["sil", "a", "a", "b", None, "b", "c", "sil", "sil", "spn"]
    context = context_of([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], labels, [])
    scores = STAGE.run(context)
    assert {name: round(value, 6) for name, value in scores.items() if "pnmi_" not in name} == {
        "test.phone_purity": 0.6,
        "test.cluster_purity": 0.8,
        "test.pnmi": 0.375150,
        "test.phone_purity_with_silence": 0.6,
        "test.cluster_purity_with_silence": 0.7,
        "test.units_per_phone": 1.0,
    }
    table = context.output.read_table("counts-test.parquet")
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {
        "a": [2, 0, 0],
        "b": [1, 1, 0],
        "c": [0, 1, 0],
        "sil": [1, 1, 3],
    }
    assert "purity-test.png" in context.output.names("")


def test_units_per_phone_are_runs_within_a_segment(context_of):
    """Two in `a`, one in `b`, three in the other `a`."""
    labels = ["sil", "a", "a", "a", "b", "b", "sil", "a", "a", "a"]
    scores = STAGE.run(context_of([0, 1, 2, 2, 2, 2, 0, 0, 1, 0], labels, []))
    assert scores["test.units_per_phone"] == 2.0


def test_an_alignment_of_silence_alone_gives_no_scores(context_of):
    sent = []
    assert STAGE.run(context_of([0, 1], ["sil", None], sent)) == {}
    assert sent == ["has no purity for test: no utterance has aligned phones"]
