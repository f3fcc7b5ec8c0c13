import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.audio.audio_files import probe_seconds
from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Utterance, to_table
from pipeline.config import Config
from pipeline.graph.stage import StageContext
from pipeline.log.read_log import LogReader
from pipeline.log.stage_log import StageLog
from pipeline.progress import Progress
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.training import vocoder as training
from pipeline.training.worker import Worker
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.speakers import AVERAGE_SPEAKER
from pipeline.vocoder.voice import voice_of
from tasks.train_vocoder import STAGE

# utt_id -> split, speaker, frames; "short" has fewer than a segment's.
UTTERANCES = {
    "a1": ("train", "ann", 20),
    "b1": ("train", "bob", 15),
    "short": ("train", "bob", 3),
    "c1": ("valid", "cem", 12),
}
VOCODER = {
    "unit_dim": 8,
    "speaker_dim": 4,
    "istft": {"dim": 16, "blocks": 1},
    "adversaries": {"from_step": 3, "channels": 1},
    "segment_seconds": 0.16,
    "batch_size": 2,
    "steps": 4,
    "checkpoint_steps": 2,
    "log_steps": 2,
}


def make_config(tmp_path, **changes):
    return Config.model_validate(
        {
            "variant": "tiny",
            "corpus": {"kind": "manifest", "manifest": "none.jsonl"},
            "ssl": {"model": str(tmp_path)},
            "vocoder": VOCODER,
            **changes,
        }
    )


def tokens(split):
    random = np.random.default_rng(0)
    rows = [
        {"utt_id": utt_id, "split": split, "units": random.integers(5, size=n), "num_frames": n}
        for utt_id, (of_split, _, n) in UTTERANCES.items()
        if of_split == split
    ]
    schema = table_schemas.TOKENS.with_metadata({"tokenizer": "feed"})
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture
def context(tmp_path):
    names = ("prepare_corpus", "train_joint", "tokenize_corpus/train", "tokenize_corpus/valid")
    inputs = {name: Artifact(str(tmp_path / name)) for name in names}
    utterances = []
    for utt_id, (split, speaker, num_frames) in UTTERANCES.items():
        path = tmp_path / f"{utt_id}.flac"
        samples = np.random.default_rng(num_frames).uniform(-0.1, 0.1, 320 * num_frames + 100)
        write_audio(path, samples, 16000)
        duration = len(samples) / 16000
        utterances.append(Utterance(utt_id, split, str(path), 0.0, duration, speaker, "a"))
    inputs["prepare_corpus"].write_table("corpus.parquet", to_table(utterances))
    for split in ("train", "valid"):
        artifact = inputs[f"tokenize_corpus/{split}"]
        artifact.write_table(f"tokens/{split}-00000.parquet", tokens(split))
    inputs["train_joint"].write_json("tokenizer/config.json", {"num_units": 5})
    front_end = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
    inputs["train_joint"].write_json("tokenizer/ssl/config.json", front_end)
    output = Artifact(str(tmp_path / "output"))
    return StageContext(make_config(tmp_path), output, inputs, StageLog(output))


def test_a_vocoder_of_the_corpus_speakers_and_scores_come_out(context):
    sent = []
    scores = STAGE.run(dataclasses.replace(context, progress=Progress(sent.append)))
    with context.output.read_folder("vocoder") as folder:
        vocoder = UnitVocoder.from_pretrained(folder)
    assert vocoder.speakers == ("ann", "bob")
    assert vocoder.tokenizer == "feed"
    assert (vocoder.num_units, vocoder.grid.hop, vocoder.shift) == (5, 320, 40)
    assert set(scores) == {
        "train.mel_loss",
        "train.duration_loss",
        "valid.mel_loss",
        "valid.duration_loss",
        "too_short_utterances",
    }
    assert scores["too_short_utterances"] == 1
    assert scores["valid.mel_loss"] > 0
    context.log.flush()
    context.output.finish({}, STAGE.temporary(context.config))
    names = context.output.names()
    assert [name for name in names if not name.startswith("log/")] == [
        "examples/c1/step-000004.wav",
        "manifest.json",
        "vocoder/config.json",
        "vocoder/model.safetensors",
    ]
    assert [(each.done, each.total, each.unit) for each in sent] == [
        (2, 4, "steps"),
        (4, 4, "steps"),
    ]
    assert "mel loss" in sent[-1].note


def test_losses_and_examples_of_valid_are_logged_as_it_goes(context, tmp_path):
    config = make_config(tmp_path, vocoder={**VOCODER, "example_steps": 2})
    STAGE.run(dataclasses.replace(context, config=config))
    context.log.flush()
    entries = LogReader(context.output).new()
    first = ["duration_loss", "mel_loss", "stft_loss"]
    adversaries = ["adversarial_loss", "discriminator_loss", "feature_matching_loss"]
    logged = {each["step"]: sorted(each["metrics"]) for each in entries if "step" in each}
    assert logged == {2: first, 4: sorted(first + adversaries)}
    shown = [each["file"] for each in entries if "file" in each]
    assert shown == [f"examples/c1/step-{step:06d}.wav" for step in (2, 4)]
    for name in shown:
        assert probe_seconds(context.output.path(name)) == (12 * 320 + 80) / 16000


def test_anybody_can_speak_with_an_encoder_and_a_pitch(context, tmp_path):
    changes = {"speaker": "encoder", "pitch": "predicted"}
    config = make_config(tmp_path, vocoder=VOCODER | changes)
    scores = STAGE.run(dataclasses.replace(context, config=config))
    assert {"train.pitch_loss", "valid.pitch_loss"} <= set(scores)
    with context.output.read_folder("vocoder") as folder:
        vocoder = UnitVocoder.from_pretrained(folder)
    ann, bob = vocoder.voices.voices_NV
    assert torch.allclose(vocoder.voices.mean_V, (ann + 2 * bob) / 3, atol=1e-4)  # of a1, b1, short
    voice = voice_of(np.random.default_rng(0).normal(size=16000).astype(np.float32), 16000)
    assert len(vocoder.resynthesize([0, 1, 2], voice)) == 3 * 320 + 80


def test_a_stopped_training_goes_on(context, tmp_path):
    expected = STAGE.run(context)
    vocoder = context.output.read_folder
    with vocoder("vocoder") as folder:
        weights = (folder / "model.safetensors").read_bytes()
    output = Artifact(str(tmp_path / "stopped"))
    stopped = StageContext(context.config, output, context.inputs, StageLog(output))
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(dataclasses.replace(stopped, progress=Progress(stop_at_four)))
    assert "checkpoints/step-00000002/values.json" in stopped.output.names()
    assert STAGE.run(stopped) == expected
    with stopped.output.read_folder("vocoder") as folder:
        assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
@pytest.mark.soak  # tests/unit/training/test_loading.py shows it for joint training
def test_processes_read_what_the_training_would_read_itself(context, tmp_path):
    config = make_config(tmp_path, cluster={"loader_processes": 1})
    output = Artifact(str(tmp_path / "other"))
    other = StageContext(config, output, context.inputs, StageLog(output))
    assert STAGE.run(other) == STAGE.run(context)
    weights = []
    for output in (context.output, other.output):
        with output.read("vocoder/model.safetensors") as file:
            weights.append(file.read())
    assert weights[0] == weights[1]


def stop_at_four(report):
    if report.done == 4:
        raise KeyboardInterrupt


def test_variants_without_units_have_no_vocoder(tmp_path):
    assert STAGE.applies(make_config(tmp_path))
    assert not STAGE.applies(make_config(tmp_path, vocoder={"enabled": False}))
    assert not STAGE.applies(make_config(tmp_path, quantizer={"kind": "none"}))


def test_what_changes_no_result_is_no_setting(tmp_path):
    quick = make_config(
        tmp_path, vocoder={**VOCODER, "log_steps": 1, "checkpoint_steps": 9, "example_steps": 7}
    )
    other = make_config(tmp_path, vocoder={**VOCODER, "seed": 1})
    assert STAGE.settings(quick) == STAGE.settings(make_config(tmp_path))
    assert STAGE.settings(other) != STAGE.settings(make_config(tmp_path))


def test_who_speaks_for_unseen_speakers_learns_from_own_segments_alone(context, tmp_path):
    def speakers(**changes):
        settings = {**VOCODER, "speaker_dropout": 0.5, "batch_size": 100, **changes}
        config = make_config(tmp_path, vocoder=settings)
        vocoder = training._build(config, context.inputs)
        made = training._batches(config, context.inputs, "train", vocoder, Worker())
        return made[0].speakers_B.tolist()

    # Each of the two that are long enough, one of ann and one of bob, is cut fifty times.
    assert Counter(speakers(unseen_speaker="bob")) == {0: 50, 1: 50}
    assert 30 < Counter(speakers())[AVERAGE_SPEAKER] < 70
