"""The stages of token-only ASR in the graph: what they read, what touches them, what they score."""

from dataclasses import replace

import pytest
from support import SMALL_ASR, write_corpus
from token_corpus import corpus_of, write_tokens

from pipeline.config import Config
from pipeline.graph.graph import build
from pipeline.graph.sources import Fingerprints
from pipeline.graph.stage import Input, StageContext
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.training.train_token_asr import train_token_asr
from pipeline.training.worker import Worker
from tasks import evaluate_asr, tokenize_corpus
from tasks import train_token_asr as stage


class Alike(Fingerprints):
    """Takes every source for the same, so that none need be there."""

    def of(self, source):  # noqa: ARG002
        return "same"


def make_config(folder, *, enabled=True, **sections):
    values = {
        "variant": "tokens" if enabled else "plain",
        "storage": str(folder),
        "corpus": {"kind": "manifest", "manifest": "unused.jsonl"},
        "vocoder": {"enabled": False},
        "token_asr": {
            "enabled": enabled,
            "subwords": {"vocabulary_size": 14},
            "asr": SMALL_ASR,
            "phases": [{"epochs": 1, "warmup_steps": 2}],
        },
    }
    return Config.model_validate({**values, **sections})


def nodes(*configs):
    return [member.nodes for member in build(configs, fingerprints=Alike()).members]


def test_the_joint_training_and_its_tokens_are_shared_and_the_evaluation_is_not(tmp_path):
    plain, tokens = nodes(make_config(tmp_path, enabled=False), make_config(tmp_path))
    assert tokens.keys() - plain.keys() == {"train_token_asr"}
    assert plain.keys() <= tokens.keys()
    others = {name for name in plain if plain[name].digest != tokens[name].digest}
    assert others == {"evaluate_asr/test"}
    assert set(tokens["evaluate_asr/test"].inputs) == {
        "prepare_corpus",
        "train_token_asr",
        "tokenize_corpus/test",
    }
    assert set(tokens["train_token_asr"].inputs) == {
        "prepare_corpus",
        "tokenize_corpus/train",
        "tokenize_corpus/valid",
    }


def test_each_seed_has_a_model_of_its_own(tmp_path):
    first, second = nodes(make_config(tmp_path, training={"seeds": [0, 1]}))
    for name in ("train_token_asr", "evaluate_asr/test"):
        assert first[name].digest != second[name].digest


def test_units_that_a_variant_has_not_cannot_be_learnt_from(tmp_path):
    with pytest.raises(ValueError, match="token_asr reads units"):
        make_config(tmp_path, quantizer={"kind": "none"})


def test_it_reads_texts_and_tokens_and_nothing_of_the_audio(tmp_path):
    rows, *tokens = stage.STAGE.inputs(make_config(tmp_path), "")
    assert rows == Input("prepare_corpus", parts=("train/text", "valid/text"))
    assert tokens == [Input("tokenize_corpus", "train"), Input("tokenize_corpus", "valid")]


def test_a_test_split_is_scored_with_the_subwords_of_training(tmp_path):
    spoken, config = corpus_of(), make_config(tmp_path)
    corpus = Artifact(str(tmp_path / "corpus"))
    inputs = {
        "prepare_corpus": write_corpus(
            corpus, [each for rows in spoken.values() for each, _ in rows]
        ),
        **{
            f"tokenize_corpus/{split}": write_tokens(Artifact(str(tmp_path / split)), rows)
            for split, rows in spoken.items()
        },
        "train_token_asr": Artifact(str(tmp_path / "trained")),
    }
    reports = {"log": StageLog(inputs["train_token_asr"]), "progress": SILENT}
    train_token_asr(config, inputs, inputs["train_token_asr"], Worker(), **reports)
    output = Artifact(str(tmp_path / "scores"))
    scores = evaluate_asr.STAGE.run(
        StageContext(config, output, inputs, StageLog(output), split="test")
    )
    assert 0 < scores["test.wer"] <= 1
    ids = output.read_table("hypotheses.parquet")["utt_id"].to_pylist()
    assert set(ids) == {each.utt_id for each, _ in spoken["test"]}


def test_units_of_copies_at_other_speeds_are_learnt_from_too(tmp_path):
    spoken, config = corpus_of(), make_config(tmp_path, training={"speeds": [1.0, 1.1]})
    copies = [
        (replace(each, utt_id=f"sp1.1-{each.utt_id}", split="train_sp1.1"), units_T[::2])
        for each, units_T in spoken["train"]
    ]
    rows, *tokens = stage.STAGE.inputs(config, "")
    assert rows == Input("prepare_corpus", parts=("train/text", "valid/text"))
    splits = ("train", "valid", "train_sp1.1")
    assert tokens == [Input("tokenize_corpus", split) for split in splits]
    assert {"train_sp1.1", "test"} < set(tokenize_corpus.STAGE.splits(config))
    recorded = [each for split in spoken.values() for each, _ in split]
    inputs = {
        "prepare_corpus": write_corpus(Artifact(str(tmp_path / "corpus")), recorded),
        **{
            f"tokenize_corpus/{split}": write_tokens(Artifact(str(tmp_path / split)), spoken_units)
            for split, spoken_units in {**spoken, "train_sp1.1": copies}.items()
            if split != "test"
        },
    }
    output = Artifact(str(tmp_path / "trained"))
    reports = {"log": StageLog(output), "progress": SILENT}
    scores = train_token_asr(config, inputs, output, Worker(), **reports)
    seconds = sum(each.duration * (1 + 1 / 1.1) for each, _ in spoken["train"])
    used = 1 - scores["rejected_utterances"] / 48
    assert scores["steps"] >= used * seconds / config.training.batch_seconds
    assert used > 0.5


def test_a_corpus_of_units_alone_has_no_other_speeds(tmp_path):
    with pytest.raises(ValueError, match="plays recordings slower or faster, and this corpus has"):
        make_config(
            tmp_path,
            corpus={"kind": "tokens", "tokens": "unused"},
            training={"speeds": [1.0, 1.1]},
        )
