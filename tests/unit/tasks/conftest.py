"""What stages read that compare units with an alignment."""

from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pytest
from support import write_corpus

from pipeline.audio.utterance import Segment, Utterance
from pipeline.config import Config
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.progress import Progress
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

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
        output = Artifact(str(tmp_path / "out"))
        log, progress = StageLog(output), Progress(sent.append)
        return StageContext(config, output, inputs, log, progress, split="test")

    return make
