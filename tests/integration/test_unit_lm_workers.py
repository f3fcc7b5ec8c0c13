"""A language model of units on Ray Train, with a worker that is killed."""

import os
import signal

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file
from support import tiny_config, write_corpus

from pipeline.audio.utterance import Utterance
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.training.unit_lm import train_unit_lm

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.usefixtures("local_ray")]

UNIT_LM = {
    "enabled": True,
    "transformer": {"dim": 16, "layers": 1, "heads": 2, "feedforward_dim": 32},
    "training": {"epochs": 3, "batch_symbols": 40, "checkpoint_steps": 3, "log_steps": 1},
}


@pytest.fixture
def inputs(tmp_path):
    names = ("prepare_corpus", "train_joint", "tokenize_corpus/train", "tokenize_corpus/valid")
    artifacts = {name: Artifact(str(tmp_path / name)) for name in names}
    chance, utterances = np.random.default_rng(0), []
    for split, number in (("train", 16), ("valid", 4)):
        rows = []
        for index in range(number):
            units, name = chance.integers(6, size=12), f"{split}-{index}"
            rows.append({"utt_id": name, "split": split, "units": units, "num_frames": 12})
            utterances.append(Utterance(name, split, "x.wav", 0.0, 0.25, "ann", "a"))
        table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
        artifacts[f"tokenize_corpus/{split}"].write_table(f"tokens/{split}-00000.parquet", table)
    write_corpus(artifacts["prepare_corpus"], utterances)
    artifacts["train_joint"].write_json("tokenizer/config.json", {"num_units": 6})
    front_end = {"conv_kernel": [400], "conv_stride": [320]}
    artifacts["train_joint"].write_json("tokenizer/ssl/config.json", front_end)
    return artifacts


def train(inputs, output, function=train_unit_lm):
    from pipeline.runtime.ray_train import run_workers

    config = tiny_config(output, unit_lm=UNIT_LM, cluster={"training_workers": 2})
    stored = Artifact(str(output))
    context = StageContext(config, stored, inputs, StageLog(stored))
    scores = run_workers(function, context, output.name)
    weights = load_file(output / "unit_lm" / "model.safetensors")
    return {name: score for name, score in scores.items() if "seconds" not in name}, weights


def test_a_training_that_loses_a_worker_ends_as_one_that_does_not(inputs, tmp_path):
    lost = tmp_path / "lost"

    def train_and_lose_one(*arguments, **keywords):
        from pipeline.training.causal_lm import CausalLmTraining

        step = CausalLmTraining._step

        def step_or_end(self, batch):
            if self.worker.rank == 1 and self.position.step == 8 and not lost.exists():
                lost.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, batch)

        CausalLmTraining._step = step_or_end
        return train_unit_lm(*arguments, **keywords)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    expected, weights = train(inputs, tmp_path / "whole")
    found, after = train(inputs, tmp_path / "killed", train_and_lose_one)
    assert lost.exists()
    assert found == expected
    assert all((weights[name] == after[name]).all() for name in weights)
