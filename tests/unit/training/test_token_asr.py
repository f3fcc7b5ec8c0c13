"""ASR from stored tokens: what is drawn for it, that it learns, and that it resumes to the bit."""

import pytest
import torch
from safetensors.torch import load_file
from support import SMALL_ASR, write_corpus
from token_corpus import corpus_of, write_tokens

from pipeline.asr.model import AsrModel
from pipeline.audio.utterance import CorpusError
from pipeline.config import Config, TokenAsr
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.inputs import Example
from pipeline.training.token_asr import UnitSource
from pipeline.training.train_token_asr import train_token_asr
from pipeline.training.worker import Worker
from pipeline.units.subwords import Subwords

SPOKEN = corpus_of()
UNITS = {each.utt_id: units for split in SPOKEN.values() for each, units in split}


def make_config(epochs=3, size=14, subsampling=1, **sections):
    values = {
        "variant": "tokens",
        "corpus": {"kind": "manifest", "manifest": "unused.jsonl"},
        "training": {"batch_seconds": 10, "checkpoint_steps": 2, "log_steps": 1},
        "token_asr": {
            "enabled": True,
            "subwords": {"vocabulary_size": size, "sampling": 0.3},
            "asr": {**SMALL_ASR, "subsampling": subsampling},
            "phases": [{"epochs": epochs, "warmup_steps": 5, "learning_rates": {"asr": 0.01}}],
        },
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section}
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    corpus = Artifact(str(folder / "corpus"))
    write_corpus(corpus, [each for split in SPOKEN.values() for each, _ in split])
    tokens = {
        f"tokenize_corpus/{split}": write_tokens(Artifact(str(folder / split)), rows)
        for split, rows in SPOKEN.items()
    }
    return {"prepare_corpus": corpus, **tokens}


def train(config, inputs, output):
    return train_token_asr(config, inputs, output, Worker(), log=StageLog(output), progress=SILENT)


def make_source(sampling=0.5, size=14, seed=0, subsampling=1):
    settings = {"vocabulary_size": size, "sampling": sampling}
    section = TokenAsr.model_validate({"subwords": settings})
    subwords = Subwords.train(section, [units for _, units in SPOKEN["train"]])
    return UnitSource(UNITS, subwords, subsampling, seed), subwords


EXAMPLES = [Example(utterance, (2, 3, 4)) for utterance, _ in SPOKEN["train"]]


def test_each_epoch_draws_other_subwords_and_validation_none():
    source, subwords = make_source()
    first, again, second = (source.load(EXAMPLES[:4], epoch) for epoch in (0, 0, 1))
    assert torch.equal(first.subwords_BT, again.subwords_BT)
    assert first.lengths_B.tolist() != second.lengths_B.tolist()
    best = source.load(EXAMPLES[:4])
    for row, length, (_, units) in zip(
        best.subwords_BT, best.lengths_B, SPOKEN["train"][:4], strict=True
    ):
        assert row[:length].tolist() == subwords.encode(units).tolist()


def test_a_draw_is_the_same_in_any_batch_and_another_with_another_seed():
    source, _ = make_source()
    whole, alone = source.load(EXAMPLES[:4], 2), source.load(EXAMPLES[3:4], 2)
    length = alone.lengths_B[0]
    assert torch.equal(whole.subwords_BT[3, :length], alone.subwords_BT[0])
    other, _ = make_source(seed=1)
    assert other.load(EXAMPLES, 2).lengths_B.tolist() != source.load(EXAMPLES, 2).lengths_B.tolist()


def test_a_draw_that_is_too_short_for_its_text_gives_way_to_the_best_segmentation(monkeypatch):
    source, subwords = make_source()
    best = len(subwords.encode(SPOKEN["train"][0][1]))
    encode = Subwords.encode
    monkeypatch.setattr(
        Subwords,
        "encode",
        lambda self, units, seed=None: encode(self, units, seed)[
            : None if seed is None else best - 1
        ],
    )
    target = tuple(2 + i % 2 for i in range(best))
    tight = [Example(EXAMPLES[0].utterance, target)]
    assert source.load(tight, 0).lengths_B.tolist() == [best]
    loose = [Example(EXAMPLES[0].utterance, target[:-1])]
    assert source.load(loose, 0).lengths_B.tolist() == [best - 1]


def test_it_learns_to_read_tokens_and_stores_what_evaluation_needs(inputs, tmp_path):
    output = Artifact(str(tmp_path / "out"))
    scores = train(make_config(epochs=20), inputs, output)
    assert scores["valid.wer"] < 0.2
    assert scores["rejected_utterances"] == 0
    assert scores["subwords"] == 15
    assert scores["units_per_subword"] > 1.5
    with output.read_folder("asr") as folder:
        model = AsrModel.from_pretrained(folder)
    with output.read_folder(Subwords.FOLDER) as folder:
        subwords = Subwords.load(folder)
    assert model.num_units == len(subwords) == 15
    read = [subwords.encode(units) for _, units in SPOKEN["test"]]
    texts = model.transcribe(read, None)
    right = sum(text == each.text for text, (each, _) in zip(texts, SPOKEN["test"], strict=True))
    assert right >= 3


@pytest.mark.parametrize("saves", [1, 4])
def test_a_killed_training_resumes_and_repeats_the_uninterrupted_one(
    inputs, tmp_path, monkeypatch, saves
):
    config = make_config(epochs=3)
    whole, killed = (Artifact(str(tmp_path / name)) for name in ("whole", "killed"))
    expected = train(config, inputs, whole)
    save, done = CheckpointStore.save, []

    def die(self, step, state):
        save(self, step, state)
        done.append(step)
        if len(done) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointStore, "save", die)
    with pytest.raises(KeyboardInterrupt):
        train(config, inputs, killed)
    monkeypatch.undo()
    scores = train(config, inputs, killed)
    assert {n: v for n, v in scores.items() if "seconds" not in n} == {
        n: v for n, v in expected.items() if "seconds" not in n
    }
    with whole.read_folder("asr") as one, killed.read_folder("asr") as other:
        ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("most", "refused"), [(0.05, True), (0.9, False)])
def test_texts_that_do_not_fit_are_counted_or_too_many(inputs, tmp_path, most, refused):
    """Of subwords that the encoder joins two by two there are fewer than letters."""
    config = make_config(
        epochs=1, subsampling=2, corpus={"kind": "manifest", "max_reject_share": most}
    )
    output = Artifact(str(tmp_path / "out"))
    if refused:
        with pytest.raises(CorpusError, match="text is longer than its frames allow") as raised:
            train(config, inputs, output)
        assert "token_asr.asr.subsampling" in str(raised.value)
        return
    scores = train(config, inputs, output)
    rejects = output.read_table("rejects.parquet")
    assert scores["rejected_utterances"] == rejects.num_rows > 0
    assert all("longer than its frames" in reason for reason in rejects["reason"].to_pylist())
