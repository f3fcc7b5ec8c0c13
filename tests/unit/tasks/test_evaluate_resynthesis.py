import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.decode import probe_seconds, write_audio
from pipeline.audio.level import at_one_level
from pipeline.audio.utterance import Utterance, to_table
from pipeline.config import Asr, Config, Istft, Vocoder
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.graph.stage import StageContext
from pipeline.log.read_log import LogReader
from pipeline.log.stage_log import StageLog
from pipeline.metrics import utterance_scores
from pipeline.metrics.resynthesis import F0Comparison, mel_cepstral_distortion_db
from pipeline.metrics.wer import cer, score
from pipeline.resynthesis import likeness
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.vocoder.generator import UnitVocoder
from tasks.evaluate_resynthesis import STAGE

NUM_UNITS = 5
SPEAKERS = ("ann", "bob", "cem", "cem")


def make_vocoder():
    torch.manual_seed(0)
    settings = Vocoder(istft=Istft(dim=16, blocks=1), unit_dim=8)
    return UnitVocoder(settings, NUM_UNITS, ["ann", "bob"]).eval()


def make_asr():
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    pieces = TextPieces.train(TextPiecesSettings(), ["ab cd"])
    model = AsrModel(settings, NUM_UNITS, None, pieces)
    with torch.no_grad():
        model.ctc_head.weight.mul_(10.0)
        model.ctc_head.bias[0] = -5.0
        model.decoder.output.bias[1] = -2.0
    return model.eval()


class Tokenizer:
    """Every frame of the vocoder's speech becomes the unit 3."""

    num_units = NUM_UNITS

    def encode(self, waveforms):
        return [np.full((len(w) - 400) // 320 + 1, 3, dtype=np.uint16) for w in waveforms]


@pytest.fixture
def units():
    random = np.random.default_rng(0)
    return {f"test-{i}": random.integers(NUM_UNITS, size=12 + 3 * i) for i in range(4)}


@pytest.fixture
def context(tmp_path, monkeypatch, units):
    names = ("prepare_corpus", "train_joint", "tokenize_corpus/test", "train_vocoder")
    inputs = {name: Artifact(str(tmp_path / name)) for name in names}
    rows, utterances = [], []
    for (utt_id, row), speaker in zip(units.items(), SPEAKERS, strict=True):
        samples = 0.2 * np.sin(np.arange(320 * len(row) + 80) / 16000 * 2 * np.pi * 150)
        write_audio(tmp_path / f"{utt_id}.flac", samples, 16000)
        audio, duration = str(tmp_path / f"{utt_id}.flac"), len(samples) / 16000
        utterances.append(Utterance(utt_id, "test", audio, 0.0, duration, speaker, "ab cd"))
        rows.append({"utt_id": utt_id, "split": "test", "units": row, "num_frames": len(row)})
    inputs["prepare_corpus"].write_table("corpus.parquet", to_table(utterances))
    table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
    inputs["tokenize_corpus/test"].write_table("tokens/test-00000.parquet", table)
    with inputs["train_vocoder"].write_folder("vocoder") as folder:
        make_vocoder().save_pretrained(folder)
    with inputs["train_joint"].write_folder("asr") as folder:
        make_asr().save_pretrained(folder)
    inputs["train_joint"].write_json("tokenizer/config.json", {})
    monkeypatch.setattr(UnitTokenizer, "from_pretrained", lambda _folder: Tokenizer())
    config = Config.model_validate(
        {
            "variant": "tiny",
            "corpus": {"kind": "manifest", "manifest": "none.jsonl"},
            "ssl": {"model": str(tmp_path)},
            "asr_evaluation": {"beam_size": 2, "batch_seconds": 0.6},
            "resynthesis": {"utterances_per_split": 3, "audio_examples": 2},
        }
    )
    output = Artifact(str(tmp_path / "out"))
    return StageContext(config, output, inputs, StageLog(output), split="test")


def test_scores_compare_recordings_and_resynthesis(context, units):
    scores = STAGE.run(context)
    asr, search = make_asr(), context.config.asr_evaluation
    # Three of four, evenly spread over the corpus.
    chosen = ["test-0", "test-1", "test-2"]
    references = ["ab cd"] * 3
    of_recordings = [asr.transcribe([units[utt_id]], search)[0] for utt_id in chosen]
    of_made = [asr.transcribe([np.full(len(units[utt_id]), 3)], search)[0] for utt_id in chosen]
    assert of_recordings != of_made
    assert scores["test.resynthesis_wer_own"] == score(references, of_made).wer
    assert scores["test.resynthesis_cer_own"] == pytest.approx(cer(references, of_made))
    assert scores["test.recordings_wer_own"] == score(references, of_recordings).wer
    kept = np.mean([(units[utt_id] == 3).mean() for utt_id in chosen])
    assert scores["test.units_kept"] == pytest.approx(kept)
    assert 0 < scores["test.synthesis_rtf"] < 60
    heard = context.output.read_table("heard.parquet")
    assert heard.schema.equals(table_schemas.HEARD)
    assert [
        row["hypothesis"] for row in heard.to_pylist() if row["speech"] == "resynthesis"
    ] == of_made


def test_what_each_utterance_scores_is_stored(context, units):
    scores = STAGE.run(context)
    found = utterance_scores.read(context.output)
    assert [(each.utt_id, each.speaker) for each in found] == [
        (f"test-{i}", SPEAKERS[i]) for i in range(3)
    ]
    distortions = [each.shares["mcd_db"].value for each in found]
    assert scores["test.mcd_db"] == pytest.approx(np.mean(distortions))
    assert all(map(math.isfinite, scores.values()))


@pytest.mark.parametrize(
    ("cents", "mean"), [([50.0, math.nan, 150.0], 100.0), ([math.nan] * 3, None)]
)
def test_utterances_without_common_voicing_have_no_f0_error(context, monkeypatch, cents, mean):
    comparisons = iter([F0Comparison(math.nan, error, 0.5) for error in cents])
    monkeypatch.setattr(likeness, "compare_f0", lambda *_: next(comparisons))
    scores = STAGE.run(context)
    found = [each.shares.get("f0_rmse_cents") for each in utterance_scores.read(context.output)]
    assert found == [None if math.isnan(value) else (value, 1.0) for value in cents]
    assert scores.get("test.f0_rmse_cents") == mean
    assert scores["test.f0_voicing_error"] == 0.5
    assert "test.f0_correlation" not in scores


def test_known_speakers_speak_with_their_own_embedding(context, units):
    STAGE.run(context)
    vocoder = make_vocoder()
    found = utterance_scores.read(context.output)
    for each, speaker in zip(found, ("ann", "bob", None), strict=True):
        utt_id = each.utt_id
        recording = 0.2 * np.sin(np.arange(320 * len(units[utt_id]) + 80) / 16000 * 2 * np.pi * 150)
        made = vocoder.resynthesize(units[utt_id], speaker)
        levelled = (at_one_level(samples, 16000) for samples in (recording, made))
        expected = mel_cepstral_distortion_db(*levelled, 16000)
        assert each.shares["mcd_db"].value == pytest.approx(expected, abs=0.02)


def test_the_audio_is_kept_and_some_of_it_shown(context, units):
    STAGE.run(context)
    context.log.flush()
    shown = [each["file"] for each in LogReader(context.output).new() if "file" in each]
    assert context.output.names("audio") == [f"audio/test-{i}.wav" for i in range(3)]
    assert shown == ["audio/test-0.wav", "audio/test-1.wav"]
    seconds = probe_seconds(context.output.path("audio/test-0.wav"))
    assert seconds == (320 * len(units["test-0"]) + 80) / 16000


def test_it_comes_with_the_vocoder(context):
    assert STAGE.applies(context.config)
    without = context.config.model_copy(update={"vocoder": Vocoder(enabled=False)})
    assert not STAGE.applies(without)
    assert STAGE.inputs(context.config, "test")[-1].name == "train_vocoder"
