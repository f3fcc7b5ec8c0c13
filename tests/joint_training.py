"""Joint trainings of tiny variants, on one process."""

import pytest
import torch
from support import (
    features_of_splits,
    save_tiny_ssl,
    tiny_config,
    tone_utterances,
    write_codebook,
    write_corpus,
    write_features,
)

from pipeline.asr.targets import text_pieces
from pipeline.clustering.codebook import Codebook
from pipeline.storage.artifacts import Artifact
from pipeline.training import setup
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.loop import JointTraining
from pipeline.training.speech_targets import speaker_rows
from pipeline.training.worker import Worker

VARIANTS = {
    "kmeans": {"quantizer": {"kind": "kmeans", "layer_weights": "fixed"}},
    "dkm_codebook": {"quantizer": {"kind": "dkm", "layer_weights": "fixed"}},
    "dkm_layers": {"quantizer": {"kind": "dkm"}},
    "iterated_dkm": {"quantizer": {"kind": "iterated_dkm"}},
    "dkm_full": {
        "quantizer": {"kind": "dkm"},
        "training": {
            "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
            "batch_seconds": 2.5,
            "checkpoint_steps": 2,
            "log_steps": 1,
        },
    },
    "phonological": {
        "quantizer": {"kind": "dkm"},
        "resynthesis_loss": {"weight": 0.5, "dim": 8},
        "training": {
            "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
            "batch_seconds": 2.5,
        },
    },
    "continuous": {"quantizer": {"kind": "none"}},
    "continuous_full": {
        "quantizer": {"kind": "none"},
        "training": {"phases": [{"epochs": 1, "ssl": "finetuned"}], "batch_seconds": 2.5},
    },
    "dkm_frozen_codebook": {
        "quantizer": {"kind": "dkm", "sigma": {"learned": True}},
        "training": {
            "phases": [
                {"epochs": 1, "codebook": "frozen"},
                {"epochs": 1, "ssl": "finetuned", "codebook": "frozen"},
            ],
            "batch_seconds": 2.5,
            "remember_front_end": True,
        },
    },
    "nearest": {
        "quantizer": {"kind": "dkm", "sigma": {"learned": True}},
        "training": {"phases": [{"epochs": 1, "quantizer": "nearest"}], "batch_seconds": 2.5},
    },
    "nearest_and_then_all": {
        "quantizer": {"kind": "dkm"},
        "training": {
            "phases": [
                {"epochs": 1, "quantizer": "nearest"},
                {"epochs": 1, "ssl": "finetuned"},
            ],
            "batch_seconds": 2.5,
        },
    },
    "codebook_learns_later": {
        "quantizer": {"kind": "dkm", "layer_weights": "fixed"},
        "training": {
            "phases": [{"epochs": 1, "codebook": "frozen"}, {"epochs": 1}],
            "batch_seconds": 2.5,
        },
    },
}


COSTS = {"step_seconds", "data_wait_seconds", "audio_seconds_per_second", "peak_memory_gib"}


class InterruptedTrainingError(RuntimeError):
    """Stands for a kill."""


def make_inputs(root):
    """A corpus of tones, its features and codebooks, in `root`."""
    ssl = save_tiny_ssl(root / "ssl")
    audio = root / "audio"
    audio.mkdir()
    utterances = tone_utterances(audio, "train", 16) + tone_utterances(audio, "valid", 4)
    corpus = write_corpus(Artifact(str(root / "corpus")), utterances)
    features = write_features(Artifact(str(root / "features")), ssl, utterances)
    codebook = write_codebook(Artifact(str(root / "codebook")), features, layer=2, num_units=8)
    pooled = write_features(Artifact(str(root / "pooled")), ssl, utterances, pool=2)
    fitted = write_codebook(Artifact(str(root / "pooled_codebook")), pooled, layer=2, num_units=8)
    return {
        "ssl": ssl,
        "corpus": corpus,
        "features": features,
        "codebook": codebook,
        "pooled": {"features": pooled, "codebook": fitted},
    }


def make_training(inputs, output, more_outputs=None, history=None, device="cpu", **sections):
    config = tiny_config(inputs["ssl"], **sections)
    codebook = Codebook.read(inputs["codebook"]) if config.quantizer.has_units else None
    pieces = text_pieces(config, inputs["corpus"])
    num_speakers = len(speaker_rows(config, inputs["corpus"]))
    model = setup.build_model(config, pieces, setup.load_ssl(config, {}), codebook, num_speakers)
    worker = Worker(device=torch.device(device))
    outputs = {"prepare_corpus": inputs["corpus"], **features_of_splits(inputs["features"])}
    outputs |= more_outputs or {}
    data, _ = setup.training_data(config, outputs, model.asr, worker.device)
    store = CheckpointStore(output)
    history = history or History(2)
    return JointTraining(config, model, data, worker, store=store, history=history)


def interrupt(training, stop_at):
    """Run until a step fails before anything of it is done."""
    step = training._step

    def interrupted(batch, micros):
        if training.position.step == stop_at:
            raise InterruptedTrainingError
        step(batch, micros)

    training._step = interrupted
    with pytest.raises(InterruptedTrainingError):
        training.run()


def rows_without_costs(training):
    return [
        {name: value for name, value in row.items() if name not in COSTS}
        for row in training.history.rows
    ]


def assert_same(found, expected, where=""):
    """Bit for bit, through mappings and lists."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_same(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{where}/{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where
