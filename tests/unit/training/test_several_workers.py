"""Two real workers, over gloo and without Ray: they train what one does, in copies and in parts."""

import json
from pathlib import Path

import pytest
import torch
from joint_training import interrupt
from support import (
    features_of_splits,
    save_tiny_ssl,
    tiny_config,
    tone_utterances,
    write_codebook,
    write_corpus,
    write_features,
)
from torch import distributed

from pipeline.asr.targets import text_pieces
from pipeline.clustering.codebook import Codebook
from pipeline.storage.artifacts import Artifact
from pipeline.training import setup
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.loop import JointTraining
from pipeline.training.sharding import is_sharded
from pipeline.training.speech_targets import speaker_rows
from pipeline.training.worker import Worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STILL_SSL = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
# phonological in float32, tokens sampled: nothing random but dropout depends on the workers.
FULL = {
    "variant": "full",
    "quantizer": {"kind": "dkm"},
    "resynthesis_loss": {"weight": 0.5, "dim": 8},
    "asr": {"encoder_layers": 2, "dropout": 0.0, "time_masking": {"masks": 0}},
    "training": {
        "batch_seconds": 2.5,
        "checkpoint_steps": 3,
        "log_steps": 1,
        "clip_norm": 0.5,
        "ema_decay": 0.5,
    },
}


def make_training(root, output, worker=Worker(), sharding="ddp", **training):  # noqa: B008
    torch.set_num_threads(1)
    epochs = json.loads((root / "epochs.json").read_text())
    phases = [
        {"epochs": epochs},
        {"epochs": epochs, "ssl": "finetuned", "ssl_layer_decay": 0.5},
    ]
    sections = {**FULL, "training": {**FULL["training"], "phases": phases, **training}}
    config = tiny_config(root / "ssl", **sections, cluster={"sharding": sharding})
    corpus, features = Artifact(str(root / "corpus")), Artifact(str(root / "features"))
    pieces = text_pieces(config, corpus)
    codebook = Codebook.read(Artifact(str(root / "codebook")))
    num_speakers = len(speaker_rows(config, corpus))
    model = setup.build_model(config, pieces, setup.load_ssl(config, {}), codebook, num_speakers)
    inputs = {"prepare_corpus": corpus, **features_of_splits(features)}
    data, _ = setup.training_data(config, inputs, model.asr, worker.device)
    store = CheckpointStore(Artifact(str(output)))
    return JointTraining(config, model, data, worker, store=store, history=History(10))


def two_workers(rank, root, jobs):
    """Each job: its name, how it shares the model, and where it starts or stops."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=2
    )
    worker = Worker(rank, 2)
    for name, sharding, options in jobs:
        stop_at = options.pop("stop_at", None)
        training = make_training(root, root / name, worker, sharding, **options)
        if stop_at is not None:
            interrupt(training, stop_at)
        else:
            assert is_sharded(training.model) == (sharding == "fsdp")
            scores = training.run()
            weights = training.weights()
            if rank == 0:
                write_outcome(root / name, training, scores, weights)
        distributed.barrier()
    distributed.destroy_process_group()


def write_outcome(folder, training, scores, weights):
    torch.save(weights, folder / "weights.pt")
    rows = {"rows": training.history.rows, "scores": scores}
    (folder / "outcome.json").write_text(json.dumps(rows))


@pytest.fixture(scope="module", params=[1, pytest.param(5, marks=pytest.mark.soak)])
def epochs(request):
    """Of each phase; an epoch has five steps."""
    return request.param


@pytest.fixture(scope="module")
def root(tmp_path_factory, epochs):
    """A corpus, what one worker makes of it, and what two do in every way there is."""
    root = tmp_path_factory.mktemp("workers")
    (root / "epochs.json").write_text(json.dumps(epochs))
    ssl = save_tiny_ssl(root / "ssl")
    path = ssl / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, **dict.fromkeys(STILL_SSL, 0.0)}))
    (root / "audio").mkdir()
    utterances = [
        utterance
        for split, number in (("train", 15), ("valid", 5))
        for utterance in tone_utterances(root / "audio", split, number)
    ]
    features = write_features(Artifact(str(root / "features")), ssl, utterances)
    write_corpus(Artifact(str(root / "corpus")), utterances)
    write_codebook(Artifact(str(root / "codebook")), features, 2, 8)
    one = make_training(root, root / "one")
    write_outcome(root / "one", one, one.run(), one.weights())
    for name in ("ddp from one", "fsdp from one"):
        # In the second phase, as the last checkpoint is: inside an epoch.
        interrupt(make_training(root, root / name), 5 * epochs + 3)
    jobs = [
        ("ddp", "ddp", {}),
        ("fsdp", "fsdp", {"accumulate": 2, "gradient_checkpointing": True}),
        ("ddp from one", "ddp", {"gradient_checkpointing": True}),
        ("fsdp from one", "fsdp", {}),
        ("one from fsdp", "fsdp", {"stop_at": 7}),
    ]
    torch.multiprocessing.spawn(two_workers, (root, jobs), nprocs=2)
    last = make_training(root, root / "one from fsdp")
    assert last.position.step > 0
    write_outcome(root / "one from fsdp", last, last.run(), last.weights())
    return root


def losses(root, name, kind="train.loss"):
    rows = json.loads((root / name / "outcome.json").read_text())["rows"]
    return [row[kind] for row in rows if kind in row]


@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp from one", "fsdp from one", "one from fsdp"])
def test_losses_are_those_of_one_worker(root, epochs, name):
    expected = losses(root, "one")
    assert len(expected) >= 10 * epochs
    compared = 10 * epochs
    assert losses(root, name)[:compared] == pytest.approx(expected[:compared], abs=1e-5)
    choices = losses(root, name, "train.perplexity")[:compared]
    assert choices == pytest.approx(losses(root, "one", "train.perplexity")[:compared], rel=1e-4)
    assert losses(root, name, "valid.loss") == pytest.approx(
        losses(root, "one", "valid.loss"), abs=1e-4
    )


@pytest.mark.parametrize("name", ["ddp", "fsdp", "one from fsdp"])
def test_the_weights_are_whole_under_the_same_names(root, name):
    expected = torch.load(root / "one" / "weights.pt", weights_only=True)
    found = torch.load(root / name / "weights.pt", weights_only=True)
    assert list(found) == list(expected)
    for part, weight in expected.items():
        torch.testing.assert_close(found[part], weight, rtol=0, atol=2e-3, msg=part)


def test_two_workers_measure_one_pace(root):
    rows = json.loads((root / "ddp" / "outcome.json").read_text())["rows"]
    steps = [row for row in rows if "train.loss" in row]
    assert all(row["audio_seconds_per_second"] > 0 for row in steps)
    assert all(0 <= row["data_wait_seconds"] <= row["step_seconds"] for row in steps)
    assert Path(root / "fsdp" / "checkpoints").is_dir()
