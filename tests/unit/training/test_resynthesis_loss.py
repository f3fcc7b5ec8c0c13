"""The resynthesis loss beside the ASR loss: whom it trains, and whom it leaves alone."""

import numpy as np
import pytest
import torch
from joint_training import VARIANTS, make_training
from support import tiny_config

from pipeline.storage.artifacts import Artifact
from pipeline.training.speech_targets import speaker_rows
from pipeline.vocoder.speakers import AVERAGE_SPEAKER
from tasks import train_joint

PHONOLOGICAL = VARIANTS["phonological"]
WITHOUT = {**PHONOLOGICAL, "resynthesis_loss": {"weight": 0.0}}


def first_step(training):
    """The sums of the first batch, with the noise of the first step."""
    training._start_phase(0)
    training.model.train_in(training.phase.phase)
    [(_, [(inputs, _)]), *_] = training.phase.read(0, training._timetable.batches(0))
    torch.manual_seed(0)
    return training.model(inputs, tau=1.0, seed=0)


def test_its_gradient_reaches_the_codebook_the_layer_weights_and_the_ssl_model(inputs, tmp_path):
    sections = {**PHONOLOGICAL, "training": {"phases": [{"epochs": 1, "ssl": "finetuned"}]}}
    training = make_training(inputs, Artifact(str(tmp_path)), **sections)
    first_step(training)["resynthesis"].backward()
    model = training.model
    for parameters in (
        [model.quantizer.centroids_KD],
        model.mix.parameters(),
        model.ssl.blocks()[0].parameters(),
        model.mel_decoder.parameters(),
    ):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    assert all(parameter.grad is None for parameter in model.asr.encoder.parameters())
    rows = model.asr.unit_embedding.weight.grad
    assert rows is None or not rows.any()


def test_the_first_step_reads_the_same_units_with_the_same_weights_bit_for_bit(inputs, tmp_path):
    with_loss, without = (
        first_step(make_training(inputs, Artifact(str(tmp_path / name)), **sections))
        for name, sections in (("with", PHONOLOGICAL), ("without", WITHOUT))
    )
    assert "resynthesis" in with_loss
    assert with_loss.keys() - without.keys() == {"resynthesis"}
    for name, value in without.items():
        assert torch.equal(with_loss[name], value), name


def test_both_losses_are_logged_and_epochs_are_chosen_by_asr_alone(inputs, tmp_path):
    training = make_training(inputs, Artifact(str(tmp_path)), **PHONOLOGICAL)
    training.run()
    rows = training.history.rows
    epochs = [row for row in rows if "valid.loss" in row]
    for row in epochs:
        weighted = 0.5 * row["valid.resynthesis"]
        assert row["valid.loss"] == pytest.approx(row["valid.asr_loss"] + weighted)
    assert training.best.entries[0][0][0] == min(row["valid.asr_loss"] for row in epochs)
    assert epochs[-1]["valid.resynthesis"] < epochs[0]["valid.resynthesis"]


def test_without_it_nothing_of_it_is_logged_or_in_the_digest(inputs, tmp_path):
    training = make_training(inputs, Artifact(str(tmp_path)), **WITHOUT)
    training.run()
    assert training.model.mel_decoder is None
    assert not any("resynthesis" in name for row in training.history.rows for name in row)
    config = tiny_config(inputs["ssl"], resynthesis_loss={"weight": 0.0, "dim": 7})
    assert "resynthesis_loss" not in train_joint.STAGE.settings(config)
    assert "train/speaker" not in train_joint.STAGE.inputs(config, "")[0].parts
    config = tiny_config(inputs["ssl"], **PHONOLOGICAL)
    assert train_joint.STAGE.settings(config)["resynthesis_loss"] == {"weight": 0.5, "dim": 8}
    assert "train/speaker" in train_joint.STAGE.inputs(config, "")[0].parts


@pytest.mark.parametrize("kind", ["frozen", "finetuned"])
def test_targets_have_a_row_for_each_frame_and_speaker(inputs, tmp_path, kind):
    training = make_training(inputs, Artifact(str(tmp_path)), **PHONOLOGICAL)
    source, examples = training.data.sources[kind], training.data.train[:3]
    loaded = source.load(examples)
    num_frames_B = training.model._hidden(loaded)[1]
    assert loaded.log_mels_BTM.shape == (3, int(num_frames_B.max()), 80)
    assert loaded.speakers_B.tolist() == [0, 0, 0]
    [alone] = source.load(examples[1:2]).log_mels_BTM
    assert torch.equal(loaded.log_mels_BTM[1, : len(alone)], alone)
    assert not loaded.log_mels_BTM[1, len(alone) :].any()
    assert np.isfinite(loaded.log_mels_BTM.numpy()).all()
    source._targets._rows = {"another": 0}
    assert source.load(examples).speakers_B.tolist() == [AVERAGE_SPEAKER] * 3


def test_rows_are_those_of_the_training_splits_speakers(inputs):
    assert speaker_rows(tiny_config(inputs["ssl"], **PHONOLOGICAL), inputs["corpus"]) == {
        "speaker": 0
    }
    assert speaker_rows(tiny_config(inputs["ssl"], **WITHOUT), inputs["corpus"]) == {}


@pytest.mark.parametrize("kind", ["none", "kmeans"])
def test_a_quantizer_without_units_that_learn_is_refused(inputs, kind):
    with pytest.raises(ValueError, match=rf"resynthesis_loss.weight 0.5 .* '{kind}' has none that"):
        tiny_config(
            inputs["ssl"],
            quantizer={"kind": kind, "layer_weights": "fixed"},
            resynthesis_loss={"weight": 0.5},
        )
