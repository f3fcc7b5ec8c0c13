"""The joint training on one process: every variant, what is validated and what is saved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from joint_training import VARIANTS, make_training
from support import tiny_config

from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import FIRST_PIECE
from pipeline.corpus.read_outputs import tokenizer_grid
from pipeline.corpus.speed import read_split_or_copy
from pipeline.features.extraction import ShardWriter
from pipeline.metrics.wer import ErrorCounts
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training import setup
from pipeline.training.measures import StepMeasures
from pipeline.training.phase_run import word_error_rate
from pipeline.training.train_joint import export
from pipeline.training.worker import Worker


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_trains_what_it_says_and_nothing_else(inputs, tmp_path, variant):
    training = make_training(inputs, Artifact(str(tmp_path)), **VARIANTS[variant])
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    scores = training.run()
    after = training.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert (
        changed
        == {
            "kmeans": {"asr"},
            "dkm_codebook": {"asr", "quantizer"},
            "dkm_layers": {"asr", "quantizer", "mix"},
            "iterated_dkm": {"asr", "quantizer", "mix"},
            "dkm_full": {"asr", "quantizer", "mix", "ssl"},
            "phonological": {"asr", "quantizer", "mix", "ssl", "mel_decoder"},
            "continuous": {"asr", "mix"},
            "continuous_full": {"asr", "mix", "ssl"},
            "dkm_frozen_codebook": {"asr", "mix", "ssl"},
            "codebook_learns_later": {"asr", "quantizer"},
            "nearest": {"asr"},
            "nearest_and_then_all": {"asr", "quantizer", "mix", "ssl"},
        }[variant]
    )
    assert scores["steps"] > 0
    assert np.isfinite(scores["valid.asr_loss"])
    assert_scores_of_choices(scores, variant)


def assert_scores_of_choices(scores, variant):
    """Of variants whose p is used at all, those of the last epoch."""
    names = {"train.entropy", "train.perplexity", "train.noisy_share"}
    if variant in {"kmeans", "continuous", "continuous_full"}:
        assert not names & scores.keys()
    else:
        assert scores["train.perplexity"] >= np.exp(scores["train.entropy"]) > 1
        assert (scores["train.noisy_share"] > 0) == (variant != "nearest")


def test_tau_falls_only_in_phases_in_which_it_acts(inputs, tmp_path):
    phases = [{"epochs": 1, "quantizer": "nearest"}, {"epochs": 1}]
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm", "tau_start": 2.0, "tau_end": 0.1, "tau_decay": 0.5},
        training={"phases": phases, "batch_seconds": 2.5, "log_steps": 1},
    )
    training.run()
    taus = [row["tau"] for row in training.history.rows if "tau" in row]
    nearest = taus.count(2.0) - 1
    assert nearest > 1
    assert taus[nearest:] == [max(0.1, 2.0 * 0.5**k) for k in range(len(taus) - nearest)]
    assert training.position.sampled_steps == len(taus) - nearest < training.position.step


def test_tau_without_a_decay_falls_over_the_steps_that_it_acts_in(inputs, tmp_path):
    phases = [
        {"epochs": 1},
        {"epochs": 1, "quantizer": "nearest"},
        {"epochs": 2, "ssl": "finetuned"},
    ]
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm", "tau_start": 2.0, "tau_end": 0.1, "tau_decay": None},
        training={"phases": phases, "batch_seconds": 2.5, "log_steps": 1},
    )
    training.run()
    epochs = {row["step"]: row["epoch"] for row in training.history.rows if "tau" in row}
    taus = [
        row["tau"] for row in training.history.rows if epochs.get(row["step"]) != 1 if "tau" in row
    ]
    assert len(taus) == training.position.sampled_steps < training.position.step
    assert taus == pytest.approx(np.geomspace(2.0, 0.1, len(taus)).tolist())


def test_a_parameter_group_without_a_learning_rate_is_named(inputs, tmp_path, monkeypatch):
    training = make_training(inputs, Artifact(str(tmp_path)), quantizer={"kind": "dkm"})
    quantizer = training.model.quantizer
    groups = {"codes": list(quantizer.parameters())}
    monkeypatch.setattr(quantizer, "parameter_groups", lambda: groups)
    with pytest.raises(ValueError, match=r"'codes' has no learning rate.*'centroids'"):
        training.run()


def test_the_validation_wer_is_that_of_greedy_transcripts(inputs, tmp_path):
    sections = {"training": {"batch_seconds": 1.0, "phases": [{"epochs": 1}]}}
    training = make_training(
        inputs, Artifact(str(tmp_path)), quantizer={"kind": "none"}, **sections
    )
    training.run()
    model, valid = training.model.eval(), training.data.valid
    # It has learnt next to nothing: let it write letters.
    torch.manual_seed(0)
    torch.nn.init.normal_(model.asr.ctc_head.weight)
    model.asr.ctc_head.bias.data[:FIRST_PIECE] = -100.0
    texts = []
    for example in valid:
        loaded = training.data.sources["frozen"].load([example])
        features_TD = model.mix(loaded.hidden_LBTD)[0].detach().numpy()
        texts += model.asr.transcribe([features_TD], None)
    assert all(texts)
    assert all(text != example.utterance.text for text, example in zip(texts, valid, strict=True))
    assert len(training.phase._validation_requests()) > 1
    assert training.phase.validate()[0]["wer"] == 1.0
    valid[0] = replace(valid[0], target=tuple(model.asr.text_pieces.encode(texts[0])))
    assert training.phase.validate()[0]["wer"] == 0.75


def test_word_errors_are_summed_over_workers():
    class OneOfTwo(Worker):
        def sum(self, values):
            return values + torch.tensor([4, 6])

    counts = ErrorCounts(substitutions=1, insertions=2, hits=3)
    assert word_error_rate(counts, OneOfTwo()) == (3 + 4) / (4 + 6)


def test_exported_tokenizer_gives_the_units_that_validation_saw(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, **VARIANTS["dkm_full"])
    training.run()
    sample = training.data.valid[0]
    loaded = training.data.sources["finetuned"].load([sample])
    model = training.model.eval()
    with torch.inference_mode():
        hidden, num_frames_B = model._hidden(loaded)
        mask_BT = torch.ones(hidden.shape[1:3], dtype=torch.bool)
        expected = model.quantizer(
            model.mix(hidden), mask_BT, model.asr.unit_embedding.weight, tau=1.0, seed=0
        ).units_BT[0]
    export(model, model.ssl, [], output)
    tokenizer = UnitTokenizer.from_pretrained(tmp_path / "tokenizer")
    [units] = tokenizer.encode([loaded.waveforms_BS[0].numpy()])
    assert units.dtype == np.uint16
    assert len(units) == int(num_frames_B[0])
    assert units.tolist() == expected.tolist()
    assert AsrModel.from_pretrained(tmp_path / "asr").num_units == tokenizer.num_units


def test_pooled_frames_reach_training_and_the_exported_tokenizer(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    pooled = {**VARIANTS["dkm_full"], "features": {"pool": 2}, "vocoder": {"enabled": False}}
    training = make_training({**inputs, **inputs["pooled"]}, output, **pooled)
    sample = training.data.valid[0]
    stored, heard = (
        training.model._hidden(training.data.sources[kind].load([sample]))
        for kind in ("frozen", "finetuned")
    )
    assert torch.equal(stored[1], heard[1])
    torch.testing.assert_close(stored[0], heard[0], atol=5e-3, rtol=0)
    assert torch.isfinite(torch.tensor(training.run()["valid.asr_loss"]))
    export(training.model, training.model.ssl, [], output)
    tokenizer = UnitTokenizer.from_pretrained(tmp_path / "tokenizer")
    audio = training.data.sources["finetuned"].load([sample]).waveforms_BS[0].numpy()
    [frames_TD] = tokenizer.mixer.encode([audio])
    [units] = tokenizer.encode([audio])
    num_frames = (len(audio) - 400) // 320 + 1
    assert len(units) == len(frames_TD) == num_frames // 2 == int(heard[1][0])
    assert tokenizer_grid(output) == tokenizer.mixer.ssl.grid
    assert tokenizer_grid(output).frames_per_second == 25.0


def test_copies_at_other_speeds_are_trained_on_from_the_store_and_from_audio(inputs, tmp_path):
    sections = {**VARIANTS["dkm_full"], "features": {"layers": [0, 1, 2]}}
    sections["training"] = {**sections["training"], "speeds": [0.9, 1.0, 1.25]}
    config = tiny_config(inputs["ssl"], **sections)
    outputs = {}
    for split in config.speed_copies:
        outputs[f"extract_features/{split}"] = output = Artifact(str(tmp_path / split))
        heard = read_split_or_copy(config, inputs["corpus"], split)
        ShardWriter(config.ssl, config.features, output)(f"shards/{split}-00000.parquet", heard)
    training = make_training(inputs, Artifact(str(tmp_path)), outputs, **sections)
    data = training.data
    assert (len(data.train), len(data.valid)) == (3 * 16, 4)
    rate_hz = config.corpus.sample_rate_hz
    expected = setup._expected_frames(config, [example.utterance for example in data.train])
    for place, speed in ((16, 0.9), (32, 1.25)):
        recorded, copy = data.train[0], data.train[place]
        assert (copy.target, copy.utterance.speed) == (recorded.target, speed)
        stored, heard = (
            training.model._hidden(data.sources[kind].load([copy]))
            for kind in ("frozen", "finetuned")
        )
        num_samples = int(recorded.utterance.duration / speed * rate_hz)
        assert stored[1] == heard[1] == (num_samples - 400) // 320 + 1
        assert expected[copy.utterance.utt_id] == int(heard[1])
        torch.testing.assert_close(stored[0], heard[0], atol=5e-3, rtol=0)
    seen = [
        data.train[index].utterance.utt_id
        for batch in training._timetable.batches(0)
        for index in batch.indices
    ]
    assert sorted(seen) == sorted(example.utterance.utt_id for example in data.train)
    assert np.isfinite(training.run()["valid.asr_loss"])


@pytest.mark.parametrize("variant", ["kmeans", "dkm_layers"])
def test_a_step_in_micro_batches_is_the_same_step(inputs, tmp_path, variant):
    """Without dropout, a batch's losses and gradient are its micro-batches' together.

    The noise of tokens is no matter: each utterance has its own.
    """
    asr = {"dropout": 0.0, "time_masking": {"masks": 0}}
    rows = []
    for accumulate in (1, 3):
        training = make_training(
            inputs,
            Artifact(str(tmp_path / str(accumulate))),
            **VARIANTS[variant],
            asr={**tiny_config(inputs["ssl"]).asr.model_dump(), **asr},
            training={"batch_seconds": 6.0, "accumulate": accumulate},
        )
        training.run()
        rows.append(training.history.rows[0])
    for name in ("train.ctc", "train.attention", "train.kmeans", "train.loss", "gradient_norm"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-4)
    choices = ("train.entropy", "train.perplexity", "train.noisy_share")
    assert [name in rows[0] for name in choices] == [variant == "dkm_layers"] * 3
    for name in choices[: 3 * (variant == "dkm_layers")]:
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-4)


def test_a_gradient_that_is_not_finite_ends_the_training_before_a_checkpoint(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, quantizer={"kind": "none"})
    with torch.no_grad():
        training.model.asr.projection.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite at step 0: lower the learning rates"):
        training.run()
    assert training.store.latest() is None


def test_measures_are_read_once_an_interval_and_reach_the_history_in_order(
    inputs, tmp_path, monkeypatch
):
    read_at = []
    read = StepMeasures.read

    def noted(measures, objective):
        read_at.append(len(measures._unread))
        read(measures, objective)

    monkeypatch.setattr(StepMeasures, "read", noted)
    options = {"quantizer": {"kind": "dkm"}, "training": {"log_steps": 2, "batch_seconds": 1.5}}
    rows = {}
    for log_steps in (1, 2):
        options["training"]["log_steps"] = log_steps
        read_at.clear()
        training = make_training(inputs, Artifact(str(tmp_path / str(log_steps))), **options)
        training.run()
        assert max(read_at) == log_steps
        assert sum(read_at) == training.position.step
        rows[log_steps] = [row for row in training.history.rows if "train.loss" in row]
    for index, row in enumerate(rows[2]):
        single = [each["train.loss"] for each in rows[1][2 * index : 2 * index + 2]]
        assert row["train.loss"] == pytest.approx(sum(single) / 2, rel=1e-12)
