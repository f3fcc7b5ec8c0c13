import dataclasses
import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from support import run_shards_here

from pipeline.asr import soft_tau
from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Utterance, to_table
from pipeline.clustering.assignment import mixture
from pipeline.config import Asr, AsrEvaluation, Config
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.graph.stage import Input, StageContext
from pipeline.lm.arpa import LanguageModelError, write_arpa
from pipeline.lm.fused import load
from pipeline.lm.witten_bell import estimate
from pipeline.log.stage_log import StageLog
from pipeline.metrics.word_errors import read_word_errors
from pipeline.progress import Progress
from pipeline.runtime import shard_pool
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact, ArtifactError
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from tasks.evaluate_asr import STAGE

LENGTHS = {"test-1": 20, "test-2": 31, "test-3": 12, "test-clean-1": 25, "test-clean-2": 9}
SPLITS = ("test", "test-clean")
UNITS = {
    utt_id: np.random.default_rng(length).integers(0, 10, length).astype(np.uint16)
    for utt_id, length in LENGTHS.items()
}


def make_config(kind, tmp_path, **evaluation):
    return Config.model_validate(
        {
            "variant": "tiny",
            "corpus": {
                "kind": "manifest",
                "manifest": "none.jsonl",
                "splits": {"test": SPLITS},
            },
            "ssl": {"model": str(tmp_path)},
            "features": {"compile": "off"},
            "quantizer": {"kind": kind},
            "asr_evaluation": {"beam_size": 3, "batch_seconds": 1.0, "nbest": 2, **evaluation},
        }
    )


def make_model(num_units, input_dim):
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    pieces = TextPieces.train(TextPiecesSettings(), ["ab cd"])
    model = AsrModel(settings, num_units, input_dim, pieces)
    with torch.no_grad():
        # Opinions on frames and none on endings make a random model's texts long and different.
        model.ctc_head.weight.mul_(10.0)
        model.ctc_head.bias[0] = -5.0
        model.decoder.output.bias[1] = -2.0
    return model.eval()


def heard(model, inputs):
    """What greedy and beam search make of one utterance alone."""
    searches = (None, AsrEvaluation(beam_size=3))
    return tuple(model.transcribe([inputs], search)[0] for search in searches)


def make_context(tmp_path, kind, model, references, **evaluation):
    config = make_config(kind, tmp_path, **evaluation)
    names = {each.name for split in SPLITS for each in STAGE.inputs(config, split)}
    inputs = {name: Artifact(str(tmp_path / name)) for name in names}
    utterances = []
    for utt_id, length in LENGTHS.items():
        audio = tmp_path / f"{utt_id}.flac"
        write_audio(audio, np.zeros(length * 320, dtype=np.float32), 16000)
        split = utt_id.rpartition("-")[0]
        utterances.append(
            Utterance(utt_id, split, str(audio), 0.0, length / 50, "s", references[utt_id])
        )
    others = [
        Utterance("t", "train", "gone.wav", 0.0, 1.0, "s", "a"),
        Utterance("v", "valid", utterances[0].audio, 0.0, 0.4, "s", references["test-1"]),
    ]
    inputs["prepare_corpus"].write_table("corpus.parquet", to_table([*utterances, *others]))
    with inputs["train_joint"].write_folder("asr") as folder:
        model.save_pretrained(folder)
    output = Artifact(str(tmp_path / "out"))
    return StageContext(config, output, inputs, StageLog(output))


def write_tokens(context):
    for split in SPLITS:
        rows = [
            {"utt_id": utt_id, "split": split, "units": units, "num_frames": len(units)}
            for utt_id, units in UNITS.items()
            if utt_id.rpartition("-")[0] == split
        ]
        for shard in range(2):  # of several rows and of one
            table = pa.Table.from_pylist(rows[shard::2], schema=table_schemas.TOKENS)
            artifact = context.inputs[f"tokenize_corpus/{split}"]
            artifact.write_table(f"tokens/{split}-{shard:05d}.parquet", table)


def check(context, greedy, beam, references):
    for split in SPLITS:
        check_split(dataclasses.replace(context, split=split), greedy, beam, references)


def check_split(context, greedy, beam, references):
    sent, split = [], context.split
    scores = STAGE.run(dataclasses.replace(context, progress=Progress(sent.append)))
    mine = [utt_id for utt_id in LENGTHS if utt_id.rpartition("-")[0] == split]
    assert sent[-1].done == sent[-1].total == len(mine)
    table = context.output.read_table("hypotheses.parquet")
    assert table.schema == table_schemas.HYPOTHESES
    found = {(row["utt_id"], row["search"]): row for row in table.to_pylist()}
    assert len(found) == 2 * len(mine) == table.num_rows
    assert all(row["score"] is None for row in found.values() if row["search"] == "greedy")
    nbest = context.output.read_table("nbest.parquet").to_pylist()
    for utt_id in mine:
        assert found[utt_id, "greedy"]["hypothesis"] == greedy[utt_id]
        row = found[utt_id, "beam"]
        assert row["hypothesis"] == beam[utt_id]
        first, second = (each for each in nbest if each["utt_id"] == utt_id)
        assert (first["rank"], second["rank"]) == (1, 2)
        assert (first["hypothesis"], first["score"]) == (row["hypothesis"], row["score"])
        assert second["score"] <= first["score"] < 0
        assert row["reference"] == references[utt_id]
        assert (row["substitutions"], row["insertions"], row["deletions"]) == (0, 0, 1)
    words = sum(len(references[utt_id].split()) for utt_id in mine)
    assert scores[f"{split}.wer"] == pytest.approx(len(mine) / words)
    errors = read_word_errors(context.output, context.inputs["prepare_corpus"], split)
    assert errors.rates.tolist() == [scores[f"{split}.wer"]]
    assert scores[f"{split}.deletions"] == len(mine)
    assert scores[f"{split}.substitutions"] == scores[f"{split}.insertions"] == 0
    assert scores[f"{split}.wer_greedy"] > 0
    assert 0 < scores[f"{split}.cer"] < 1


def test_units_come_from_the_stored_tokens(tmp_path):
    model = make_model(10, None)
    results = {utt_id: heard(model, units) for utt_id, units in UNITS.items()}
    greedy = {utt_id: texts[0] for utt_id, texts in results.items()}
    beam = {utt_id: texts[1] for utt_id, texts in results.items()}
    assert len(set(beam.values())) > 2
    references = {utt_id: f"{text} missed" for utt_id, text in beam.items()}
    context = make_context(tmp_path, "dkm", model, references)
    write_tokens(context)
    check(context, greedy, beam, references)


def test_features_come_from_audio(tmp_path, monkeypatch):
    features = {
        n: torch.randn(n, 6, generator=torch.manual_seed(n)).numpy() for n in LENGTHS.values()
    }

    class Mixer:
        def place(self, _device, compiling):
            assert compiling == "off"
            return self

        def encode(self, waveforms):
            return [features[len(waveform) // 320] for waveform in waveforms]

    monkeypatch.setattr(FeatureMixer, "from_pretrained", lambda _folder: Mixer())
    model = make_model(None, 6)
    results = {utt_id: heard(model, features[n]) for utt_id, n in LENGTHS.items()}
    greedy = {utt_id: texts[0] for utt_id, texts in results.items()}
    beam = {utt_id: texts[1] for utt_id, texts in results.items()}
    assert len(set(beam.values())) > 2
    references = {utt_id: f"{text} missed" for utt_id, text in beam.items()}
    context = make_context(tmp_path, "none", model, references)
    with context.inputs["train_joint"].write_folder("features") as folder:
        (folder / "config.json").write_text("{}")
    check(context, greedy, beam, references)


class Tokenizer:
    """Says of each utterance, by its length, how close its frames are to ten units."""

    centroids_KD = torch.eye(10)  # the root of 2 apart

    def place(self, _device, compiling):
        assert compiling == "off"
        return self

    def closeness(self, waveforms, _batch_seconds=None):
        lengths = [len(waveform) // 320 for waveform in waveforms]
        return [-9 * np.random.default_rng(n).random((n, 10), np.float32) for n in lengths]


def soft_inputs(tau):
    return {
        utt_id: mixture(torch.from_numpy(Tokenizer().closeness([range(n * 320)])[0]), tau).numpy()
        for utt_id, n in LENGTHS.items()
    }


@pytest.mark.parametrize("tau", [0.3, None])
def test_mixtures_come_from_audio_with_a_temperature_that_is_chosen_on_valid(
    tmp_path, monkeypatch, tau
):
    monkeypatch.setattr(UnitTokenizer, "from_pretrained", lambda _folder: Tokenizer())
    model = make_model(10, None)
    chosen = tau or math.sqrt(2) / 8
    inputs = soft_inputs(chosen)
    results = {utt_id: heard(model, mixtures) for utt_id, mixtures in inputs.items()}
    greedy = {utt_id: texts[0] for utt_id, texts in results.items()}
    beam = {utt_id: texts[1] for utt_id, texts in results.items()}
    assert len(set(beam.values())) > 2
    references = {utt_id: f"{text} missed" for utt_id, text in beam.items()}
    context = make_context(tmp_path, "dkm", model, references, assignment="soft", soft_tau=tau)
    with context.inputs["train_joint"].write_folder("tokenizer") as folder:
        (folder / "config.json").write_text("{}")
    # Makes the wanted temperature the best on valid, without making its text the reference.
    monkeypatch.setattr(soft_tau, "best", lambda wers: min(wers, key=lambda t: abs(t - chosen)))
    check(context, greedy, beam, references)
    scores = STAGE.run(dataclasses.replace(context, split="test"))
    assert scores["test.soft_tau"] == pytest.approx(chosen)
    assert context.output.exists("soft_tau.json") == (tau is None)
    if tau is None:
        tried = context.output.read_json("soft_tau.json")
        assert len(tried) == 13
        assert all(each["wer_greedy"] > 0 for each in tried)


def test_a_split_without_tokens_is_named(tmp_path):
    references = dict.fromkeys(LENGTHS, "a")
    context = make_context(tmp_path, "dkm", make_model(10, None), references)
    with pytest.raises(ArtifactError, match="no tokens of split 'test'"):
        STAGE.run(dataclasses.replace(context, split="test"))


def test_workers_decode_what_the_stage_does_by_itself(tmp_path, monkeypatch):
    asked = []

    def run_shards(worker, arguments, shards, *more, num_workers):
        asked.extend((len(shards), num_workers))
        # Workers answer in JSON.
        return json.loads(json.dumps(run_shards_here(worker, arguments, shards, *more)))

    monkeypatch.setattr(shard_pool, "run_shards", run_shards)
    context = make_context(tmp_path, "dkm", make_model(10, None), dict.fromkeys(LENGTHS, "a b"))
    write_tokens(context)
    alone = STAGE.run(dataclasses.replace(context, split="test"))
    tables = ("hypotheses.parquet", "nbest.parquet")
    wanted = [context.output.read_table(name).to_pylist() for name in tables]
    sections = {
        "cluster": context.config.cluster.model_copy(update={"decoding_workers": 2}),
        "features": context.config.features.model_copy(update={"shard_utterances": 2}),
    }
    config = context.config.model_copy(update=sections)
    assert STAGE.workers(config) == 2
    together = STAGE.run(dataclasses.replace(context, config=config, split="test"))
    assert asked == [2, 2]
    assert together == pytest.approx(alone)
    for name, rows in zip(tables, wanted, strict=True):
        found = context.output.read_table(name).to_pylist()
        assert [without_score(row) for row in found] == [without_score(row) for row in rows]
        scores = ([row["score"] or 0.0 for row in some] for some in (found, rows))
        assert next(scores) == pytest.approx(next(scores), abs=1e-4)


def without_score(row):
    return {name: value for name, value in row.items() if name != "score"}


def test_one_best_text_needs_no_further_table(tmp_path):
    context = make_context(tmp_path, "dkm", make_model(10, None), dict.fromkeys(LENGTHS, "a"))
    settings = context.config.asr_evaluation.model_copy(update={"nbest": 1})
    config = context.config.model_copy(update={"asr_evaluation": settings})
    write_tokens(context)
    STAGE.run(dataclasses.replace(context, config=config, split="test"))
    assert not context.output.exists("nbest.parquet")


def save_language_model(path, texts):
    write_arpa(str(path), estimate([text.split() for text in texts], 2))
    return {"path": str(path), "weight": 3.0}


def test_a_language_model_takes_part(tmp_path):
    model = make_model(10, None)
    settings = save_language_model(tmp_path / "model.arpa", ["cd a", "cd"])
    search = AsrEvaluation(beam_size=3, language_model=settings)
    scorers = load(search.language_model, model.text_pieces)
    alone = {utt_id: heard(model, units)[1] for utt_id, units in UNITS.items()}
    fused = {
        utt_id: model.transcribe([units], search, scorers)[0] for utt_id, units in UNITS.items()
    }
    assert alone != fused
    references = dict.fromkeys(LENGTHS, "a")
    context = make_context(tmp_path, "dkm", model, references, language_model=settings)
    write_tokens(context)
    STAGE.run(dataclasses.replace(context, split="test"))
    rows = context.output.read_table("hypotheses.parquet").to_pylist()
    found = {row["utt_id"]: row["hypothesis"] for row in rows if row["search"] == "beam"}
    assert found == {utt_id: fused[utt_id] for utt_id in found}


def test_the_content_of_a_language_model_counts_and_not_its_place(tmp_path):
    def digests_of(name, texts, **changes):
        settings = save_language_model(tmp_path / name, texts) | changes
        config = make_config("dkm", tmp_path, language_model=settings)
        sources = STAGE.sources(config)
        return STAGE.settings(config), {
            name: each.fingerprint(each.section) for name, each in sources.items()
        }

    first = digests_of("one.arpa", ["cd a"])
    assert digests_of("two.arpa", ["cd a"]) == first
    assert digests_of("one.arpa", ["cd b"])[1] != first[1]
    assert digests_of("one.arpa", ["cd a"], weight=0.1)[0] != first[0]
    without = make_config("dkm", tmp_path)
    assert STAGE.sources(without) == {}
    assert "language_model" not in STAGE.settings(without)["asr_evaluation"]
    missing = make_config("dkm", tmp_path, language_model={"path": str(tmp_path / "gone.arpa")})
    [source] = STAGE.sources(missing).values()
    with pytest.raises(LanguageModelError, match=r"gone.arpa is no file"):
        source.fingerprint(source.section)


def test_inputs_follow_the_variant(tmp_path):
    continuous = STAGE.inputs(make_config("none", tmp_path), "test")
    assert continuous == (
        Input("prepare_corpus", parts=("test/audio", "test/text")),
        Input("train_joint"),
    )
    units = STAGE.inputs(make_config("dkm", tmp_path), "test")
    assert units[0].parts == ("test/text",)
    assert units[-1] == Input("tokenize_corpus", "test")


def test_soft_assignment_reads_audio_and_validation_where_it_chooses(tmp_path):
    def parts(kind, **evaluation):
        rows, trained = STAGE.inputs(make_config(kind, tmp_path, **evaluation), "test")
        assert trained == Input("train_joint")
        return rows.parts

    mine, valid = ("test/audio", "test/text"), ("valid/audio", "valid/text")
    assert parts("dkm", assignment="soft", soft_tau=2.0) == mine
    assert parts("dkm", assignment="soft") == mine + valid
    assert parts("none", assignment="soft") == mine


def test_a_variant_without_units_does_not_depend_on_the_assignment(tmp_path):
    def settings(kind, **evaluation):
        return STAGE.settings(make_config(kind, tmp_path, **evaluation))

    soft = {"assignment": "soft", "soft_tau": 2.0}
    assert settings("none", **soft) == settings("none")
    assert settings("dkm", **soft) != settings("dkm")
    assert "assignment" not in settings("dkm")["asr_evaluation"]
