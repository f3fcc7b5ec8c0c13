"""transcribe: windows of long files, formats, bad files. What is read is known, but for one tiny model."""

import json
import re
import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from support import save_tiny_tokenizer, tone_utterances
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.asr.word_times import TimedPiece, Word
from pipeline.audio.utterance import CorpusError, Utterance, to_table
from pipeline.commands import transcribe as command
from pipeline.commands.named_audio import NamedAudio
from pipeline.commands.transcript import Transcript
from pipeline.config import Asr, AsrEvaluation, ConfigError
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.corpus.alignment.ctm import Ctm
from pipeline.lm.arpa import read_arpa
from pipeline.storage.artifacts import Artifact
from pipeline.storage.writable import UnwritableError

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def spoken_words(seconds):
    """A word in every half second, the same for all files."""
    draws = np.random.default_rng(3).choice(DIGITS, int(2 * seconds))
    return [(0.5 * index, word) for index, word in enumerate(draws)]


def read_truth(recognizer, windows):
    """What an ideal model reads: the words of each window, cut off where the window ends."""
    found = []
    for window in windows:
        characters = [
            (start + 0.08 * index, character)
            for start, word in spoken_words(200)
            for index, character in enumerate(f"{word} ")
        ]
        found.append(
            [
                TimedPiece(character, time, time + 0.08, 0.5)
                for time, character in characters
                if window.start <= time and time + 0.08 <= window.end
            ]
        )
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = save_tiny_tokenizer(tmp_path_factory.mktemp("train_joint"))
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    pieces = TextPieces.train(TextPiecesSettings(), ["ab cd"])
    AsrModel(settings, 8, None, pieces).save_pretrained(folder / "asr")
    return folder


@pytest.fixture
def ideal(monkeypatch):
    monkeypatch.setattr(command.Recognizer, "read", read_truth)


def write_noise(path, seconds, rate_hz=16000):
    samples = 0.1 * np.random.default_rng(0).normal(size=int(seconds * rate_hz))
    soundfile.write(path, samples, rate_hz)
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)])


def told(result):
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.mark.parametrize("seconds", [20, 31, 170])
@pytest.mark.parametrize("window", [8, 30])
def test_no_word_of_a_long_file_is_doubled_or_lost(trained, ideal, tmp_path, seconds, window):
    path = write_noise(tmp_path / "long.flac", seconds, 8000)
    said = told(invoke(trained, path, "--window-seconds", window, "--format", "json"))
    row = json.loads(said)
    expected = [(start, word) for start, word in spoken_words(seconds) if start + 0.4 < seconds]
    assert row["text"].split()[: len(expected)] == [word for _, word in expected]
    assert len(row["words"]) - len(expected) in {0, 1}
    for (start, word), found in zip(expected, row["words"], strict=False):
        assert found["word"] == word
        assert found["start"] == pytest.approx(start, abs=1e-3)
        assert found["end"] == pytest.approx(start + 0.08 * len(word), abs=1e-3)


def trained_with(trained, folder, ctc_weight):
    """A copy of the model as if it had been trained with this weight of CTC."""
    shutil.copytree(trained, folder)
    described = json.loads((folder / "asr" / "config.json").read_text())
    described["asr"]["ctc_weight"] = ctc_weight
    (folder / "asr" / "config.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(("trained_by", "searched_by"), [(0.0, 0.0), (0.3, 0.4), (1.0, 1.0)])
def test_what_was_not_trained_scores_no_text(trained, tmp_path, trained_by, searched_by):
    folder = trained_with(trained, tmp_path / "train_joint", trained_by)
    recognizer = command.Recognizer.load(str(folder), AsrEvaluation())
    assert recognizer.search == AsrEvaluation(ctc_weight=searched_by)


def test_an_untrained_ctc_times_no_word(trained, tmp_path, monkeypatch):
    model = trained_with(trained, tmp_path / "train_joint", 0.0)
    path = write_noise(tmp_path / "long.wav", 20)
    lengths, nbest = [], AsrModel.nbest

    def known(asr, heard, *search):
        """What the decoder writes of each window: another text each time, also of its own length."""
        lengths.extend(heard.lengths_B.tolist())
        found = nbest(asr, heard, *search)
        texts = ("ab cd", "cd", "d a")[len(lengths) - len(found) : len(lengths)]
        return [
            [each[0]._replace(text=text), *each[1:]]
            for each, text in zip(found, texts, strict=True)
        ]

    monkeypatch.setattr(AsrModel, "nbest", known)
    row = json.loads(told(invoke(model, path, "--format", "json", "--window-seconds", 8)))
    assert row == {"utt_id": "long", "audio": str(path), "text": "ab cd cd d a"}
    assert sum(lengths) == pytest.approx(20 * 25, abs=3)  # each second was read once
    for form in ("ctm", "srt"):
        result = invoke(model, path, "--format", form)
        assert isinstance(result.exception, ConfigError)
        assert f"of '{model}' was not trained (asr.ctc_weight 0)" in str(result.exception)


def test_a_long_file_is_never_in_memory(trained, ideal, tmp_path, monkeypatch):
    path = write_noise(tmp_path / "long.wav", 400, 8000)
    monkeypatch.setattr(command, "CHUNK_SECONDS", 40.0)
    tracemalloc.start()
    told(invoke(trained, path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6  # its samples at 16 kHz would be 26 MB


def test_mixtures_of_units_are_read_where_a_temperature_is_given(trained, tmp_path, monkeypatch):
    path = write_noise(tmp_path / "x.wav", 1.3)
    read, hear = [], AsrModel.hear

    def heard(model, inputs):
        read.append(inputs[0])
        return hear(model, inputs)

    monkeypatch.setattr(AsrModel, "hear", heard)
    hard = told(invoke(trained, path))
    units_T = read[-1]
    # So low a temperature leaves the nearest unit alone.
    assert told(invoke(trained, path, "--soft-tau", 1e-5)) == hard
    assert read[-1].shape == (len(units_T), 8)
    assert (read[-1].argmax(1) == units_T).all()
    assert read[-1].max(1).mean() > 0.99
    told(invoke(trained, path, "--soft-tau", 3))
    assert read[-1].max(1).mean() < 0.9


def test_a_model_that_reads_no_units_has_none_to_mix(trained, tmp_path):
    path = write_noise(tmp_path / "x.wav", 1.3)
    shutil.copytree(trained / "asr", tmp_path / "continuous" / "asr")
    result = invoke(tmp_path / "continuous", path, "--soft-tau", 1)
    assert isinstance(result.exception, ConfigError)
    assert "reads no units that could be mixed" in str(result.exception)
    assert isinstance(invoke(trained, path, "--soft-tau", -1).exception, ConfigError)


def test_a_model_of_stored_tokens_hears_no_audio(trained, tmp_path):
    output = tmp_path / "train_token_asr" / "0123456789abcdef"
    shutil.copytree(f"{trained}/asr", output / "asr")
    (output / "subwords").mkdir()
    (output / "subwords" / "config.json").write_text("{}")
    result = invoke(output, write_noise(tmp_path / "a.wav", 1))
    assert isinstance(result.exception, ConfigError)
    assert "train_token_asr" in str(result.exception)
    assert "Name an output of train_joint" in str(result.exception)


def test_a_tiny_model_reads_files_and_folders_into_every_format(trained, tmp_path):
    folder = tmp_path / "in"
    (folder / "a b").mkdir(parents=True)
    tone_utterances(folder / "a b", "tones", 2)
    single = write_noise(tmp_path / "x.wav", 1.3)
    first, second, third = told(invoke(trained, folder, single)).splitlines()
    assert first.startswith(f"{single}: ")
    assert second.startswith(f"{folder}/a b/tones-000.flac: ")
    assert set(third.partition(": ")[2]) <= set("abcd ")

    rows = [
        json.loads(line)
        for line in told(invoke(trained, folder, single, "--format", "json")).splitlines()
    ]
    assert [row["utt_id"] for row in rows] == [
        f"{tmp_path.name}/x",
        "in/a b/tones-000",
        "in/a b/tones-001",
    ]
    assert [row["text"] for row in rows] == [
        line.partition(": ")[2] for line in (first, second, third)
    ]
    assert all(" ".join(word["word"] for word in row["words"]) == row["text"] for row in rows)
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert all(0 <= word["start"] < word["end"] <= 1.4 for row in rows for word in row["words"])

    ctm = tmp_path / "words.ctm"
    told(invoke(trained, folder, single, "--format", "ctm", "--output", ctm))
    # The project's own reader of alignments takes it.
    read = Ctm([("words.ctm", ctm.read_bytes())])
    assert set(read.names) == {row["utt_id"].replace(" ", "%20") for row in rows if row["words"]}
    for row in filter(lambda row: row["words"], rows):
        segments = read.segments(row["utt_id"].replace(" ", "%20"))
        for word, segment in zip(row["words"], segments, strict=True):
            assert (segment.label, segment.start) == (word["word"], word["start"])
            assert segment.end == pytest.approx(word["end"], abs=2e-3)

    told(invoke(trained, folder, single, "--format", "srt", "--output", tmp_path / "srt"))
    assert (tmp_path / "srt" / "in" / "a b" / "tones-001.srt").exists()
    one = tmp_path / "one.srt"
    told(invoke(trained, single, "--format", "srt", "--output", one))
    assert one.read_text() == (tmp_path / "srt" / tmp_path.name / "x.srt").read_text()


def test_bad_files_are_named_and_cost_no_other(trained, ideal, tmp_path):
    good = write_noise(tmp_path / "good.wav", 20)
    short = write_noise(tmp_path / "short.wav", 0.01)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:400_000])
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "broken.wav").symlink_to(tmp_path / "nowhere")
    output = tmp_path / "out.txt"
    files = (tmp_path / "gone.wav", cut, short, good, good, folder)
    result = invoke(trained, *files, "--output", output, "--window-seconds", 6)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{tmp_path}/gone.wav: no such audio file" in result.stderr
    assert f"{cut}: audio is cut short" in result.stderr
    assert f"{short}: shorter than one frame" in result.stderr
    assert f"{folder}/broken.wav: " in result.stderr
    assert f"1 of 4 written to {output}" in result.stderr
    (line,) = output.read_text().splitlines()
    assert line.startswith(f"{good}: ")


def test_what_is_doubtful_is_said_once_for_all_windows(trained, ideal, tmp_path):
    samples = 0.1 * np.random.default_rng(0).normal(size=16000 * 20)
    samples[: 16000 * 11] = 0
    soundfile.write(tmp_path / "silent.wav", samples, 16000)
    result = invoke(trained, tmp_path / "silent.wav", "--window-seconds", 6)
    assert re.search(r"silent.wav: in \d of 6 windows, first at 0 s: silence: ", result.stderr)


def test_a_stop_keeps_what_was_made_and_the_older_file(trained, tmp_path, monkeypatch):
    files = [write_noise(tmp_path / f"{name}.wav", 2) for name in "abc"]
    output, calls = tmp_path / "out.jsonl", []

    def stopped(recognizer, windows):
        calls.append(True)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read_truth(recognizer, windows)

    monkeypatch.setattr(command.Recognizer, "read", stopped)
    monkeypatch.setattr(command, "CHUNK_SECONDS", 4.0)
    asked = (trained, *files, "--format", "json", "--output", output)
    invoke(*asked)
    assert [json.loads(line)["utt_id"] for line in output.read_text().splitlines()] == ["a", "b"]
    told(invoke(*asked))
    calls.clear()
    invoke(*asked)
    assert len(output.read_text().splitlines()) == 3
    assert len((tmp_path / "out.stopped.jsonl").read_text().splitlines()) == 2


def test_mistakes_are_named_before_any_work(trained, tmp_path):
    audio = write_noise(tmp_path / "a.wav", 1)
    (tmp_path / "empty").mkdir()
    for arguments, kind, message in (
        (
            (audio, "--format", "srt", "--output", audio / "x"),
            UnwritableError,
            "is a file, not a folder",
        ),
        ((audio, "--output", tmp_path / "empty"), UnwritableError, "it is a folder"),
        (
            (audio, tmp_path / "b.wav", "--format", "srt"),
            ConfigError,
            "2 audio files have 2 files of subtitles",
        ),
        (
            (audio, tmp_path / "b.wav", "--format", "srt", "--output", tmp_path / "x.srt"),
            ConfigError,
            "name a folder",
        ),
        ((tmp_path / "empty",), CorpusError, "no audio found below"),
    ):
        error = invoke(trained, *arguments).exception
        assert isinstance(error, kind), arguments
        assert message in str(error)


def test_a_language_model_takes_part_in_the_search(trained, tmp_path):
    audio = write_noise(tmp_path / "a.wav", 3)
    texts = tmp_path / "texts.txt"
    texts.write_text("da dd dd\n\ndd dd\n", encoding="utf-8")
    for level, extra, expected in (
        ("words", (), "n-grams by length: 5, 5,"),
        ("pieces", ("--pieces-of", trained), "n-grams by length: 6, 7,"),
    ):
        arpa = tmp_path / f"{level}.arpa"
        made = CliRunner().invoke(
            app, ["make-arpa", str(texts), "--output", str(arpa), "--length", "2", *map(str, extra)]
        )
        assert made.exit_code == 0, (made.output, made.exception)
        assert "2 sentences" in made.stdout
        assert expected in made.stdout
        model = ("--language-model", arpa, "--language-model-level", level)
        fused = told(
            invoke(trained, audio, *model, "--language-model-weight", 20, "--length-bonus", 9)
        )
        assert fused != told(invoke(trained, audio, "--length-bonus", 9))


def test_mistakes_about_texts_are_named(trained, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "other.txt").write_text("xyz\n")
    for texts, extra, message in (
        ("empty.txt", (), "there is no sentence in"),
        ("gone.txt", (), "neither an output of prepare_corpus nor a text file"),
        ("other.txt", ("--pieces-of", str(trained)), "characters in no training transcript"),
    ):
        arguments = [
            "make-arpa",
            str(tmp_path / texts),
            "--output",
            str(tmp_path / "x.arpa"),
            *extra,
        ]
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, ConfigError), texts
        assert message in str(error)


def test_a_prepared_corpus_is_read_by_split(tmp_path):
    utterances = [
        Utterance(f"{split}-{text}", split, "x.wav", 0.0, 1.0, "s", text)
        for split, text in (("train", "a b"), ("train", "b"), ("test", "c"))
    ]
    Artifact(str(tmp_path / "corpus")).write_table("corpus.parquet", to_table(utterances))
    arpa = tmp_path / "x.arpa"
    CliRunner().invoke(app, ["make-arpa", str(tmp_path / "corpus"), "--output", str(arpa)])
    assert set(read_arpa(str(arpa)).words) == {"<s>", "</s>", "<unk>", "a", "b"}


def test_ids_are_those_of_tokenize(tmp_path):
    for name in ("a/x.wav", "a/deep/y.wav", "b/x.wav", "c/z.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_noise(tmp_path / name, 0.1)
    named = NamedAudio.of([str(tmp_path / "a"), str(tmp_path / "b")])
    assert sorted(named.ids.values()) == ["a/deep/y", "a/x", "b/x"]
    alone = NamedAudio.of([str(tmp_path / "a"), str(tmp_path / "a/x.wav")])
    assert sorted(alone.ids.values()) == ["deep/y", "x"]


WORDS = [
    Word("the", 0.1, 0.3, 0.9),
    Word("quick", 0.35, 0.6, 0.7),
    Word("fox", 61.0, 61.25, 0.5),
]


def test_the_formats_are_as_their_readers_expect():
    transcript = Transcript("a b/50%", "/in/a b/50%.wav", WORDS)
    assert transcript.write("text") == "/in/a b/50%.wav: the quick fox"
    assert json.loads(transcript.write("json")) == {
        "utt_id": "a b/50%",
        "audio": "/in/a b/50%.wav",
        "text": "the quick fox",
        "score": 0.7,
        "words": [
            {"word": "the", "start": 0.1, "end": 0.3, "score": 0.9},
            {"word": "quick", "start": 0.35, "end": 0.6, "score": 0.7},
            {"word": "fox", "start": 61.0, "end": 61.25, "score": 0.5},
        ],
    }
    assert transcript.write("ctm").splitlines() == [
        "a%20b/50%25 1 0.100 0.200 the 0.9000",
        "a%20b/50%25 1 0.350 0.250 quick 0.7000",
        "a%20b/50%25 1 61.000 0.250 fox 0.5000",
    ]
    assert transcript.write("srt") == (
        "1\n00:00:00,100 --> 00:00:00,600\nthe quick\n\n2\n00:01:01,000 --> 00:01:01,250\nfox"
    )
    empty = Transcript("x", "x.wav", [])
    assert [empty.write(each) for each in ("text", "ctm", "srt")] == ["x.wav: ", "", ""]


def test_subtitles_are_short_enough_to_read():
    words = [
        Word("word" * (1 + index % 3), index * 0.5, index * 0.5 + 0.4, 1.0) for index in range(200)
    ]
    cues = Transcript("x", "x.wav", words).write("srt").split("\n\n")
    assert " ".join(line for cue in cues for line in cue.split("\n")[2:]).split() == [
        w.text for w in words
    ]
    for cue in cues:
        start, end = (
            sum(
                float(part) * unit
                for part, unit in zip(re.split("[:,]", time), (3600, 60, 1, 1e-3), strict=True)
            )
            for time in cue.split("\n")[1].split(" --> ")
        )
        assert 0 < end - start <= 7.0
        assert all(len(line) <= 42 for line in cue.split("\n")[2:])
        assert len(cue.split("\n")) <= 4
