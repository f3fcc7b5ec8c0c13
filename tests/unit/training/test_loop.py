"""The joint training on one process: every variant, resuming, what is saved."""

import random
from dataclasses import replace

import numpy as np
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

from pipeline.asr.model import AsrModel
from pipeline.asr.targets import text_pieces
from pipeline.asr.text_pieces import FIRST_PIECE
from pipeline.clustering.codebook import Codebook
from pipeline.corpus.read_outputs import tokenizer_grid
from pipeline.corpus.speed import read_split_or_copy
from pipeline.features.extraction import ShardWriter
from pipeline.metrics.wer import ErrorCounts
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training import setup
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.loop import JointTraining
from pipeline.training.objective import Objective
from pipeline.training.phase_run import PhaseRun, word_error_rate
from pipeline.training.train_joint import export
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


# What a resumed training must repeat: both phases, and micro-batches.
RESUMED = {
    "dkm_layers": VARIANTS["dkm_layers"],
    "dkm_full": VARIANTS["dkm_full"],
    "accumulated": {
        **VARIANTS["dkm_full"],
        "training": {
            **VARIANTS["dkm_full"]["training"],
            "accumulate": 2,
            "checkpoint_steps": 3,
            "gradient_checkpointing": True,
        },
    },
}
RESUMED["layer_decay"] = {
    **VARIANTS["dkm_full"],
    "training": {
        **VARIANTS["dkm_full"]["training"],
        "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned", "ssl_layer_decay": 0.5}],
        "ssl_dropout": 0.2,
    },
}
RESUMED["moving_average"] = {
    **VARIANTS["dkm_full"],
    "training": {
        **VARIANTS["dkm_full"]["training"],
        "phases": [
            {"epochs": 2, "schedule": "noam", "warmup_steps": 3},
            {"epochs": 1, "ssl": "finetuned"},
        ],
        "ema_decay": 0.8,
        "patience": 1,
    },
}
COSTS = {"step_seconds", "data_wait_seconds", "audio_seconds_per_second", "peak_memory_gib"}


class InterruptedTrainingError(RuntimeError):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
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


def make_training(inputs, output, more_outputs=None, history=None, **sections):
    config = tiny_config(inputs["ssl"], **sections)
    codebook = Codebook.read(inputs["codebook"]) if config.quantizer.has_units else None
    pieces = text_pieces(config, inputs["corpus"])
    model = setup.build_model(config, pieces, setup.load_ssl(config, {}), codebook)
    worker = Worker()
    outputs = {"prepare_corpus": inputs["corpus"], **features_of_splits(inputs["features"])}
    outputs |= more_outputs or {}
    data, _ = setup.training_data(config, outputs, model.asr, worker.device)
    store = CheckpointStore(output)
    history = history or History(2)
    return JointTraining(config, model, data, worker, store=store, history=history)


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


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Each of `RESUMED` trained in one go."""
    trainings = {}
    for variant, sections in RESUMED.items():
        output = Artifact(str(tmp_path_factory.mktemp(variant)))
        trainings[variant] = make_training(inputs, output, **sections)
        trainings[variant].run()
    return trainings


@pytest.mark.parametrize("variant", RESUMED)
@pytest.mark.parametrize("seed", range(3))
def test_resumed_training_equals_the_uninterrupted_one_bit_for_bit(
    inputs, tmp_path, whole, variant, seed
):
    expected = whole[variant]
    # A third each of all steps: the start, the change of phases, the end.
    third = expected.position.step / 3
    stop_at = random.Random(f"{variant}/{seed}").randrange(  # noqa: S311 - no secret
        int(seed * third), int((seed + 1) * third)
    )
    output = Artifact(str(tmp_path))
    interrupt(make_training(inputs, output, **RESUMED[variant]), stop_at)
    resumed = make_training(inputs, output, **RESUMED[variant])
    assert resumed.position.step <= stop_at
    resumed.run()

    found, wanted = resumed.store.latest(), expected.store.latest()
    for part in ("model", "optimizer", "best", "early_stop", "moving_average"):
        assert_same(found[part], wanted[part], part)
    assert_same(dict(resumed.model.state_dict()), dict(expected.model.state_dict()))
    assert rows_without_costs(resumed) == rows_without_costs(expected)
    assert resumed.history.of_epoch == expected.history.of_epoch
    steps = [row["step"] for row in resumed.history.rows if "train.loss" in row]
    assert steps == list(range(1, expected.position.step + 1))


def test_a_resumed_training_passes_its_past_on_again_before_it_adds_to_it(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    interrupt(make_training(inputs, output, **RESUMED["dkm_layers"]), 5)
    told = []
    history = History(2, log=lambda row, step: told.append((step, row)))
    resumed = make_training(inputs, output, history=history, **RESUMED["dkm_layers"])
    assert [step for step, _ in told] == [1, 2, 3, 4][: resumed.position.step]
    assert told
    resumed.run()
    assert [step for step, _ in told] == [row["step"] for row in history.rows]
    assert all(row.keys() >= COSTS for _, row in told if "train.loss" in row)


def test_the_best_epoch_is_kept_though_a_kill_came_before_its_checkpoint(inputs, tmp_path):
    """Weights of an epoch that the last checkpoint names are there, whatever came after it."""
    sections = {
        **VARIANTS["dkm_layers"],
        "training": {"average_best": 1, "checkpoint_steps": 100, "phases": [{"epochs": 3}]},
    }
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, **sections)
    save = training.store.save

    def killed(step, state):
        if state["progress"]["epoch"] == 2:
            raise InterruptedTrainingError
        save(step, state)

    training.store.save = killed
    with pytest.raises(InterruptedTrainingError):
        training.run()
    resumed = make_training(inputs, output, **sections)
    [(_, epoch, _)] = resumed.best.entries
    assert resumed.store.load_epoch(epoch)
    resumed.run()
    [(_, best, _)] = resumed.best.entries
    assert {name.split("/")[1] for name in output.names("checkpoints") if "epoch" in name} == {
        f"epoch-{best:04d}"
    }


def test_epochs_are_chosen_by_the_asr_loss_though_the_kmeans_term_rises(
    inputs, tmp_path, monkeypatch
):
    # CTC, attention and k-means of three epochs, then of the average, which is no better. The
    # objective is lowest in the first epoch, the ASR loss in the second.
    measured = iter([(2.0, 1.0, 0.1), (1.0, 0.5, 9.0), (1.5, 0.7, 9.0), (3.0, 3.0, 0.0)])
    objective = Objective(ctc_weight=0.3, kmeans_weight=0.25)

    def validate(_phase):
        parts = torch.tensor(next(measured), dtype=torch.float64)
        return {**objective.report(parts, Worker()), "wer": 0.25}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"average_best": 2, "phases": [{"epochs": 3}]},
    )
    scores = training.run()
    assert (scores["best_epoch"], scores["valid.asr_loss"]) == (1, pytest.approx(0.65))
    assert [epoch for _, epoch, _ in training.best.entries] == [1, 2]
    assert_same(dict(training.model.state_dict()), training.store.load_epoch(1))
    rows = [row for row in training.history.rows if "valid.loss" in row]
    assert [row["valid.asr_loss"] for row in rows] == pytest.approx([1.3, 0.65, 0.94])
    assert [row["valid.loss"] for row in rows] == pytest.approx([1.325, 2.9, 3.19])


@pytest.mark.parametrize(
    ("select", "kept"), [("loss", [0, 2]), ("wer", [3, 1])], ids=["loss", "wer"]
)
def test_select_says_by_what_epochs_are_chosen_and_the_other_decides_between_equals(
    inputs, tmp_path, monkeypatch, select, kept
):
    # ASR loss and WER of four epochs, then of the average, which is worse.
    measured = [(0.5, 0.4), (0.9, 0.2), (0.6, 0.3), (0.8, 0.2), (1.0, 0.5)]
    remaining = iter(measured)

    def validate(_phase):
        loss, wer = next(remaining)
        return {"loss": loss, "asr_loss": loss, "wer": wer}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"select": select, "average_best": 2, "phases": [{"epochs": 4}]},
    )
    scores = training.run()
    assert scores["best_epoch"] == kept[0]
    assert (scores["valid.asr_loss"], scores["valid.wer"]) == measured[kept[0]]
    assert [epoch for _, epoch, _ in training.best.entries] == kept
    assert_same(dict(training.model.state_dict()), training.store.load_epoch(kept[0]))


def test_the_n_best_epochs_by_wer_are_averaged(inputs, tmp_path, monkeypatch):
    # ASR loss and WER of four epochs, then of the average, which is better than any.
    measured = iter([(0.5, 0.4), (0.9, 0.2), (0.6, 0.3), (0.8, 0.5), (0.7, 0.1)])

    def validate(_phase):
        loss, wer = next(measured)
        return {"loss": loss, "asr_loss": loss, "wer": wer}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"select": "wer", "average_best": 3, "phases": [{"epochs": 4}]},
    )
    assert training.run()["valid.wer"] == 0.1
    kept = [training.store.load_epoch(epoch) for epoch in (0, 1, 2)]
    for name, weights in training.model.state_dict().items():
        mean = sum(state[name].double() for state in kept) / 3
        torch.testing.assert_close(weights.double(), mean, atol=1e-7, rtol=1e-6)
    assert not torch.equal(kept[0]["asr.ctc_head.weight"], kept[1]["asr.ctc_head.weight"])


def test_a_moving_average_is_validated_and_kept_while_the_weights_train_on(
    inputs, tmp_path, monkeypatch
):
    settings = {"average_best": 1, "phases": [{"epochs": 2}], "batch_seconds": 2.5}
    plain, averaged = (
        make_training(
            inputs,
            Artifact(str(tmp_path / str(decay))),
            quantizer={"kind": "dkm"},
            training={**settings, "ema_decay": decay},
        )
        for decay in (None, 0.5)
    )
    plain.run()
    learning = {n: p for n, p in averaged.model.named_parameters() if p.requires_grad}
    wanted = {name: weight.detach().double() for name, weight in learning.items()}
    step, validate, seen = averaged._step, PhaseRun.validate, []

    def watched_step(batch, micros):
        number = averaged.position.step
        step(batch, micros)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, weight in learning.items():
            wanted[name] = decay * wanted[name] + (1 - decay) * weight.detach().double()

    def watched_validate(phase):
        seen.append({name: weight.detach().clone() for name, weight in learning.items()})
        return validate(phase)

    averaged._step = watched_step
    monkeypatch.setattr(PhaseRun, "validate", watched_validate)
    averaged.run()
    last, without = averaged.store.latest(), plain.store.latest()
    assert_same(last["model"], without["model"])
    assert_same(last["optimizer"], without["optimizer"])
    assert without["moving_average"] == {}
    for name, weight in wanted.items():
        for found in (last["moving_average"][name], seen[1][name]):
            torch.testing.assert_close(found.double(), weight, atol=1e-5, rtol=1e-5)
    [(_, best, _)] = averaged.best.entries
    kept = averaged.store.load_epoch(best)
    assert all(torch.equal(kept[name], weight) for name, weight in seen[best].items())
    assert not torch.equal(kept["asr.ctc_head.weight"], last["model"]["asr.ctc_head.weight"])


# What each epoch validates as; the first phase stops after its third, the second ends by itself.
STOPPING = {0: 0.5, 1: 0.6, 2: 0.7, 5: 0.9, 6: 0.95, 7: 0.8}


def stopping(inputs, output, monkeypatch):
    training = make_training(
        inputs,
        output,
        history=History(8),
        quantizer={"kind": "none"},
        training={
            "patience": 2,
            "phases": [{"epochs": 5}, {"epochs": 3}],
            "batch_seconds": 60.0,
            "checkpoint_steps": 1,
        },
    )

    def validate(_phase):
        loss = STOPPING.get(training.position.epoch, 1.0)
        return {"loss": loss, "asr_loss": loss, "wer": loss}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    return training


def test_a_phase_stops_early_and_the_next_begins_also_after_a_kill(inputs, tmp_path, monkeypatch):
    training = stopping(inputs, Artifact(str(tmp_path / "whole")), monkeypatch)
    training.run()
    rows, sizes = training.history.rows, training._timetable.sizes
    assert [row["valid.loss"] for row in rows if "valid.loss" in row] == [*STOPPING.values()]
    assert sorted({row["epoch"] for row in rows if "epoch" in row}) == [*STOPPING]
    assert training.position.epoch == 8
    assert training.position.step == sum(sizes[epoch] for epoch in STOPPING)
    first_phase = sum(sizes[:3])
    for stop_at in (first_phase - 1, first_phase):
        output = Artifact(str(tmp_path / str(stop_at)))
        interrupt(stopping(inputs, output, monkeypatch), stop_at)
        resumed = stopping(inputs, output, monkeypatch)
        resumed.run()
        assert rows_without_costs(resumed) == rows_without_costs(training)
        assert_same(resumed.store.latest()["model"], training.store.latest()["model"])


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


def test_checkpoints_keep_the_last_two_and_a_torn_one_is_passed_over(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, **VARIANTS["dkm_layers"])
    training.run()
    steps = training.store.steps()
    assert len(steps) == 2
    # What a kill in the middle of an upload leaves: tensors without the values written last.
    output.delete(f"checkpoints/step-{steps[-1]:08d}/values.json")
    assert training.store.steps() == steps[:1]
    assert training.store.latest()["progress"]["step"] == steps[0]


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
    export(model, model.ssl, training.history, [], output)
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
    export(training.model, training.model.ssl, training.history, [], output)
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
