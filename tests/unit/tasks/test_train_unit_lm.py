"""The stages of the language model of units, on a few tokens: model, scores, and what they are of."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from reference import likelihood as reference
from support import write_corpus

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.graph.stage import StageContext
from pipeline.lm.unit_lm import UnitLm
from pipeline.log.read_log import read_history
from pipeline.log.stage_log import StageLog
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from tasks import evaluate_unit_lm
from tasks.train_unit_lm import STAGE

NUM_UNITS = 6
SPLITS = {"train": 12, "valid": 4, "test": 5}
SETTINGS = {
    "enabled": True,
    "transformer": {"dim": 16, "layers": 1, "heads": 2, "feedforward_dim": 32},
    "training": {"epochs": 2, "batch_symbols": 60, "log_steps": 1},
}


def make_config(tmp_path, **changes):
    return Config.model_validate(
        {
            "variant": "tiny",
            "corpus": {"kind": "manifest", "manifest": "none.jsonl"},
            "ssl": {"model": str(tmp_path)},
            "unit_lm": {**SETTINGS, **changes},
        }
    )


@pytest.fixture
def context(tmp_path):
    names = ("prepare_corpus", "train_joint", *(f"tokenize_corpus/{split}" for split in SPLITS))
    inputs = {name: Artifact(str(tmp_path / name)) for name in names}
    chance, utterances = np.random.default_rng(0), []
    for split, number in SPLITS.items():
        rows = []
        for index in range(number):
            # Unit 5 is heard in the test alone.
            runs = chance.integers(NUM_UNITS if split == "test" else 5, size=8)
            units = np.repeat(runs, chance.integers(1, 4, size=8))
            name = f"{split}-{index}"
            rows.append({"utt_id": name, "split": split, "units": units, "num_frames": len(units)})
            seconds = 0.02 * len(units) + 0.013
            utterances.append(Utterance(name, split, "x.wav", 0.0, seconds, "ann", "a"))
        schema = table_schemas.TOKENS.with_metadata({"tokenizer": "feed"})
        table = pa.Table.from_pylist(rows, schema=schema)
        inputs[f"tokenize_corpus/{split}"].write_table(f"tokens/{split}-00000.parquet", table)
    write_corpus(inputs["prepare_corpus"], utterances)
    inputs["train_joint"].write_json("tokenizer/config.json", {"num_units": NUM_UNITS})
    inputs["train_joint"].write_json(
        "tokenizer/ssl/config.json", {"conv_kernel": [400], "conv_stride": [320]}
    )
    output = Artifact(str(tmp_path / "output"))
    return StageContext(make_config(tmp_path), output, inputs, StageLog(output))


def evaluated(context):
    inputs = {**context.inputs, "train_unit_lm": context.output}
    test = dataclasses.replace(context, inputs=inputs, split="test")
    return evaluate_unit_lm.STAGE.run(test)


@pytest.mark.parametrize(
    "settings",
    [{}, {"deduplicate": False}, {"subwords": {"kind": "bpe", "vocabulary_size": 9}}],
)
def test_scores_of_the_test_split_are_those_of_a_loop(context, tmp_path, settings):
    context = dataclasses.replace(context, config=make_config(tmp_path, **settings))
    trained = STAGE.run(context)
    assert {"valid.loss", "best_epoch", "steps", "symbols", "training_seconds"} == set(trained)
    with context.output.read_folder("unit_lm") as folder:
        lm = UnitLm.from_pretrained(folder)
    assert (lm.tokenizer, lm.num_units, lm.units_per_second) == ("feed", NUM_UNITS, 50.0)
    test = (
        context.inputs["tokenize_corpus/test"].read_table("tokens/test-00000.parquet").to_pylist()
    )
    probabilities = []
    for row in test:
        symbols = lm.encode(row["units"])
        assert 0 not in symbols  # none is unknown, though no training utterance has unit 5
        log_probs_1N = lm.model([symbols]).detach().double()
        probabilities.append(log_probs_1N[0].exp().tolist())
    seconds = [0.02 * len(row["units"]) + 0.013 for row in test]
    scores = evaluated(context)
    expected = reference.bits_per_second(probabilities, seconds)
    assert scores["test.lm_bits_per_second"] == pytest.approx(expected, rel=1e-5)
    expected = reference.perplexity(probabilities)
    assert scores["test.lm_perplexity"] == pytest.approx(expected, rel=1e-5)
    symbols = sum(map(len, probabilities))
    assert scores["test.lm_symbols_per_second"] == pytest.approx(symbols / sum(seconds))


def test_checkpoints_go_when_the_stage_has_ended(context):
    STAGE.run(context)
    context.output.finish({}, STAGE.temporary(context.config))
    names = context.output.names()
    assert "unit_lm/model.safetensors" in names
    assert not [name for name in names if name.startswith("checkpoints")]
    context.log.flush()
    assert len([row for row in read_history(context.output) if "valid.loss" in row]) == 2


def test_a_vocabulary_that_cannot_be_is_a_message(context, tmp_path):
    settings = {"subwords": {"kind": "bpe", "vocabulary_size": 3}}
    context = dataclasses.replace(context, config=make_config(tmp_path, **settings))
    with pytest.raises(ValueError, match=r"subwords\.vocabulary_size to 6 or more"):
        STAGE.run(context)


def test_settings_are_in_the_digest_where_they_change_the_result(tmp_path):
    def settings(**changes):
        return STAGE.settings(make_config(tmp_path, **changes))

    training = SETTINGS["training"]
    same = ({"training": {**training, "log_steps": 7, "checkpoint_steps": 9}},)
    others = (
        {"training": {**training, "seed": 1}},
        {"deduplicate": False},
        {"transformer": {**SETTINGS["transformer"], "dropout": 0.3}},
        {"subwords": {"kind": "bpe"}},
    )
    assert all(settings(**changes) == settings() for changes in same)
    assert all(settings(**changes) != settings() for changes in others)


def test_it_is_opt_in(tmp_path):
    assert STAGE.applies(make_config(tmp_path))
    assert not STAGE.applies(make_config(tmp_path, enabled=False))
    assert not Config.model_fields["unit_lm"].default.enabled
