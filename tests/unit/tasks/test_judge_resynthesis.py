import numpy as np
import pytest
from support import (
    SMALL_ASR,
    save_tiny_ssl,
    save_tiny_whisper,
    tiny_config,
    tone_utterances,
    write_corpus,
)

from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.decode import read_audio, write_audio
from pipeline.config import Asr, ConfigError
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.features.encoders.load import load_encoder
from pipeline.graph.graph import build
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.metrics import utterance_scores
from pipeline.metrics.utterance_scores import ScoredUtterance, Share
from pipeline.metrics.wer import cer, score
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from tasks.bound_resynthesis import STAGE as BOUNDS
from tasks.judge_resynthesis import STAGE


@pytest.fixture
def make(tmp_path):
    """A context of the stage, for speech that is as the recordings; one of them was not chosen."""
    corpus = Artifact(str(tmp_path / "corpus"))
    (tmp_path / "audio").mkdir()
    utterances = tone_utterances(tmp_path / "audio", "test", 4)
    write_corpus(corpus, utterances)
    spoken = Artifact(str(tmp_path / "spoken"))
    scored = [
        ScoredUtterance(each.utt_id, "test", each.speaker, {"mcd_db": Share(1.0)})
        for each in utterances[1:]
    ]
    utterance_scores.write(spoken, scored)
    for utterance in utterances[1:]:
        with spoken.write(f"audio/{utterance.utt_id}.wav") as file:
            write_audio(file, read_audio(utterance.audio, 16000), 16000, format="WAV")

    def make(judge, measures=(), **inputs) -> StageContext:
        settings = {"judge": judge, "measures": measures, "utterances_per_split": 3}
        ssl = save_tiny_ssl(tmp_path / "ssl")
        config = tiny_config(ssl, storage=str(tmp_path), resynthesis=settings)
        named = {"prepare_corpus": corpus, "evaluate_resynthesis/test": spoken, **inputs}
        output = Artifact(str(tmp_path / "out"))
        return StageContext(config, output, named, StageLog(output), split="test")

    return make, utterances


def save_continuous(folder):
    """What a variant without units trains: features of two layers, and an ASR model of them."""
    trained = Artifact(str(folder / "trained"))
    mixer = FeatureMixer(
        load_encoder(save_tiny_ssl(folder / "ssl")), (0, 2), LayerMix(2, 1, 0.8, learned=False)
    )
    pieces = TextPieces.train(TextPiecesSettings(), ["ab ba"])
    asr = AsrModel(Asr(**SMALL_ASR), None, 16, pieces).eval()
    with trained.write_folder("features") as saved:
        mixer.eval().save_pretrained(saved)
    with trained.write_folder("asr") as saved:
        asr.save_pretrained(saved)
    return trained, mixer, asr


def test_the_asr_of_another_variant_hears_speech_through_its_own_features(make, tmp_path):
    context_of, utterances = make
    trained, mixer, asr = save_continuous(tmp_path)
    ssl = save_tiny_ssl(tmp_path / "ssl")
    judge = tiny_config(
        ssl,
        variant="continuous",
        storage=str(tmp_path),
        quantizer={"kind": "none"},
        asr_evaluation={"beam_size": 2},
    )
    context = context_of(judge.model_dump(), train_joint=trained)
    scores = STAGE.run(context)
    speech = [read_audio(each.audio, 16000) for each in utterances[1:]]
    texts = [asr.transcribe(mixer.encode([one]), judge.asr_evaluation)[0] for one in speech]
    references = [each.text for each in utterances[1:]]
    assert scores["test.resynthesis_wer"] == score(references, texts).wer
    assert scores["test.resynthesis_cer"] == pytest.approx(cer(references, texts))
    rows = context.output.read_table("heard.parquet").to_pylist()
    assert [row["hypothesis"] for row in rows] == texts
    assert {row["speech"] for row in rows} == {"resynthesis"}
    assert [each.utt_id for each in utterance_scores.read(context.output)] == [
        each.utt_id for each in utterances[1:]
    ]


class Whisper:
    """Hears an a in all that is loud."""

    def __init__(self, folder, language):
        assert (folder, language) == ("some/whisper", None)
        self.normalize = str.lower

    def transcribe(self, waveforms):
        return ["A" if np.abs(one).max() > 0.1 else "" for one in waveforms]


@pytest.fixture
def whisper(monkeypatch):
    monkeypatch.setattr("pipeline.resynthesis.judge.WhisperRecogniser", Whisper)


def test_a_whisper_is_judged_by_normalized_texts(make, whisper):
    context_of, utterances = make
    context = context_of("some/whisper")
    scores = STAGE.run(context)
    rows = context.output.read_table("heard.parquet").to_pylist()
    assert [(row["hypothesis"], row["compared_hypothesis"]) for row in rows] == [("A", "a")] * 3
    references = [each.text for each in utterances[1:]]
    assert scores["test.resynthesis_wer"] == score(references, ["a"] * 3).wer


def test_bounds_have_the_judges_errors_on_recordings_and_their_copies(make, whisper):
    context_of, utterances = make
    context = context_of("some/whisper")
    scores = BOUNDS.run(context)
    references = [each.text for each in utterances[:3]]
    expected = score(references, ["a"] * 3).wer
    assert scores["test.recordings_wer"] == scores["test.copy_synthesis_wer"] == expected
    assert 0 < scores["test.copy_synthesis_mcd_db"] < scores["test.other_utterance_mcd_db"]
    rows = context.output.read_table("heard.parquet").to_pylist()
    assert [row["speech"] for row in rows] == ["recordings"] * 3 + ["copy_synthesis"] * 3
    assert len(context.output.names("audio")) == 3


def test_without_a_judge_bounds_are_measured_alone(make):
    context_of, _ = make
    context = context_of("own")
    scores = BOUNDS.run(context)
    assert "test.copy_synthesis_mcd_db" in scores
    assert not [name for name in scores if "wer" in name]
    assert "heard.parquet" not in context.output.names()


def test_measures_compare_speech_with_its_recording(make, monkeypatch):
    context_of, _ = make

    def open_measures(names):
        assert names == ("similarity",)
        return lambda recording, made: {"alike": Share(float(np.abs(recording - made).max()))}

    monkeypatch.setattr("pipeline.resynthesis.measures.open_measures", open_measures)
    context = context_of("own", measures=["similarity"])
    assert STAGE.run(context) == {"test.alike": pytest.approx(0, abs=1e-4)}
    assert len(utterance_scores.read(context.output)) == 3
    assert STAGE.applies(context.config)


@pytest.mark.parametrize("stage", [STAGE, BOUNDS])
def test_a_measure_that_is_not_installed_is_refused_before_anything_runs(make, monkeypatch, stage):
    monkeypatch.setattr("pipeline.resynthesis.measures.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="needs the packages torchcrepe: pip install"):
        stage.requires(make[0]("own", measures=["crepe"]).config)


def test_another_model_in_the_folder_is_another_digest(make, tmp_path):
    context_of, _ = make
    folder = tmp_path / "whisper"
    config = context_of(str(folder)).config
    (tmp_path / "manifest.jsonl").write_text("")
    corpus = config.corpus.model_copy(update={"manifest": str(tmp_path / "manifest.jsonl")})
    config = config.model_copy(update={"corpus": corpus})

    def digest() -> str:
        nodes = {node.name: node for node in build([config]).nodes}
        assert "train_joint" not in nodes["judge_resynthesis/test"].inputs
        return nodes["judge_resynthesis/test"].digest

    with pytest.raises(FileNotFoundError, match="whisper is no Whisper model with its tokenizer"):
        digest()
    save_tiny_whisper(folder)
    (folder / "tokenizer.json").write_text("{}")
    first = digest()
    assert digest() == first
    (folder / "tokenizer.json").write_text("{} ")
    assert digest() != first


def test_it_applies_where_speech_has_a_judge(make):
    context_of, _ = make
    assert STAGE.applies(context_of("some/whisper").config)
    assert not STAGE.applies(context_of("own").config)
    silent = tiny_config(".", resynthesis={"judge": "some/whisper"}, vocoder={"enabled": False})
    assert not STAGE.applies(silent)
