"""Joint training on Ray Train: two real workers train what one does.

What they compute alike, step by step, is seen in `test_several_workers` without Ray.
"""

import os
import signal
from pathlib import Path

import pytest
from support import (
    features_of_splits,
    save_tiny_ssl,
    tiny_config,
    tone_utterances,
    write_codebook,
    write_corpus,
    write_features,
)

from pipeline.graph.stage import StageContext
from pipeline.log.read_log import read_history
from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import Artifact
from pipeline.training.train_joint import train_joint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

# Of what is random, only dropout depends on the number of workers.
STILL = {
    "variant": "still",
    "quantizer": {"kind": "dkm"},
    "asr": {"dropout": 0.0, "time_masking": {"masks": 0}},
}
FULL = {
    "variant": "full",
    "cluster": {"loader_processes": 1, "sharding": "fsdp"},
    "training": {
        "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
        "batch_seconds": 4.0,
        "log_steps": 1,
    },
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    ssl = save_tiny_ssl(root / "ssl")
    (root / "audio").mkdir()
    utterances = [
        utterance
        for split, number in (("train", 15), ("valid", 4))
        for utterance in tone_utterances(root / "audio", split, number)
    ]
    features = write_features(Artifact(str(root / "features")), ssl, utterances)
    return ssl, {
        "prepare_corpus": write_corpus(Artifact(str(root / "corpus")), utterances),
        **features_of_splits(features),
        "fit_codebook": write_codebook(Artifact(str(root / "codebook")), features, 2, 8),
    }


def train(inputs, output, num_workers, function=train_joint, **sections):
    from pipeline.runtime.ray_train import run_workers

    ssl, artifacts = inputs
    cluster = {**sections.pop("cluster", {}), "training_workers": num_workers}
    config = tiny_config(ssl, **sections, cluster=cluster)
    stored = Artifact(str(output))
    context = StageContext(config, stored, artifacts, StageLog(stored))
    run_workers(function, context, f"{num_workers}-workers")
    rows = read_history(stored)
    return {
        name: [row[f"{name}.loss"] for row in rows if f"{name}.loss" in row]
        for name in ("train", "valid")
    }


@pytest.mark.soak  # tests/unit/training/test_several_workers.py shows the same without Ray
def test_two_workers_have_the_losses_of_one(inputs, tmp_path):
    one = train(inputs, tmp_path / "one", 1, **STILL)
    two = train(inputs, tmp_path / "two", 2, **STILL)
    assert len(one["train"]) > 4
    assert two["train"] == pytest.approx(one["train"], abs=1e-5)
    assert two["valid"] == pytest.approx(one["valid"], abs=1e-5)


@pytest.mark.soak  # in make test, the cluster of two nodes trains in parts
def test_two_workers_train_the_ssl_model_in_parts_on_data_from_processes(inputs, tmp_path):
    losses = train(inputs, tmp_path / "full", 2, **FULL)
    frozen, finetuned = losses["valid"]
    assert finetuned < frozen
    assert (tmp_path / "full" / "tokenizer" / "ssl" / "model.safetensors").is_file()


def test_an_error_that_the_function_raises_ends_the_training_at_once(inputs, tmp_path):
    tries = tmp_path / "tries"

    def fail(_config, _inputs, _output, worker, **_keywords):
        if worker.rank == 0:
            worker.barrier()  # the other will not come
        with tries.open("a") as file:
            file.write("x")
        raise KeyError("no such phase")

    with pytest.raises(KeyError, match="no such phase"):
        train(inputs, tmp_path / "out", 2, fail, cluster={"max_failures": 2})
    assert tries.read_text() == "x"


@pytest.mark.soak
def test_a_training_that_loses_a_worker_ends_as_one_that_does_not(inputs, tmp_path):
    lost = tmp_path / "lost"

    def train_and_lose_one(*arguments, **keywords):
        from pipeline.training.loop import JointTraining

        step = JointTraining._step

        def step_or_end(self, batch, micros):
            if self.worker.rank == 1 and self.position.step == 5 and not Path(lost).exists():
                Path(lost).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, batch, micros)

        JointTraining._step = step_or_end
        return train_joint(*arguments, **keywords)

    sections = {**FULL, "cluster": {"loader_processes": 1}}
    expected = train(inputs, tmp_path / "undisturbed", 2, **sections)
    found = train(inputs, tmp_path / "killed", 2, train_and_lose_one, **sections)
    assert lost.exists()
    assert found == expected
