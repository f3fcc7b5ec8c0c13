import json
import unicodedata

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import read_audio, write_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import CorpusError
from pipeline.config.corpus import Splits
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.check import check, require
from pipeline.progress import SILENT, Progress

RATE = 16000


def noise(seconds, rate=RATE, channels=1):
    samples = np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))
    return samples.astype(np.float32)


def wav(path, samples, rate=RATE):
    soundfile.write(path, samples, rate, format="WAV", subtype="FLOAT")


def truncated_flac(path):
    write_audio(path, noise(1.0)[:, 0], RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def truncated_wav(path):
    wav(path, noise(1.0))
    path.write_bytes(path.read_bytes()[:-1])


def with_nan(path, value):
    samples = noise(1.0)
    samples[7] = value
    wav(path, samples)


def entries(config):
    return adapter_of(config).read(config, None, SILENT)


class Folder:
    """A corpus with a good utterance in each split, and whatever a test adds."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        wav(path / "good.wav", noise(1.0))
        for split in ("train", "valid", "test"):
            self.add(utt_id=f"good-{split}", split=split)

    def add(self, **values):
        row = {"utt_id": "bad", "split": "train", "speaker": "s", "audio": "good.wav"}
        self.lines.append(json.dumps({**row, "text": "go", **values}))

    def config(self, **values):
        manifest = self.path / "manifest.jsonl"
        manifest.write_text("\n".join(self.lines))
        return ManifestCorpus(manifest=str(manifest), **values)

    def check(self, **values):
        config = self.config(**values)
        return check(entries(config), config)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


BAD_FILES = {
    "missing file": (lambda path: path.unlink(missing_ok=True), "no such audio file"),
    "empty file": (lambda path: path.write_bytes(b""), "audio file is empty (0 bytes)"),
    "text named .wav": (lambda path: path.write_text("hello\n" * 99), "not readable as audio: "),
    "truncated FLAC": (truncated_flac, "audio is cut short"),
    "truncated WAV": (truncated_wav, "audio is cut short"),
    "22051 Hz": (lambda path: wav(path, noise(1.0, 22051), 22051), "sample rate is too odd"),
    "zero samples": (lambda path: wav(path, noise(0.0)), "audio holds no samples"),
    "NaN": (lambda path: with_nan(path, np.nan), "audio holds NaN or infinite samples"),
    "infinity": (lambda path: with_nan(path, -np.inf), "audio holds NaN or infinite samples"),
    "silence": (lambda path: wav(path, 0 * noise(1.0)), "silence: every sample is 0"),
    "two silent channels": (lambda path: wav(path, 0 * noise(1.0, channels=2)), "silence: "),
    "1e20": (lambda path: wav(path, 1e20 * noise(1.0)), "out of scale: samples reach "),
    "1e-20": (
        lambda path: wav(path, 1e-20 * noise(1.0)),
        "scale is too small: samples reach only ",
    ),
    "16-bit integers": (lambda path: wav(path, 32768 * noise(1.0)), "out of scale: samples reach "),
    "a square wave": (lambda path: wav(path, np.sign(noise(1.0))), "clipped beyond use: 100.0% "),
    "0.01 s": (lambda path: wav(path, noise(0.01)), "too short: 0.01 s of at least 0.1 s"),
    "10 minutes": (
        lambda path: wav(path, noise(600, rate=1000), 1000),
        "too long: 600 s of at most 60 s",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_audio_is_rejected_with_its_reason(folder, case):
    make, reason = BAD_FILES[case]
    make(folder.path / "bad.wav")
    folder.add(audio="bad.wav")
    corpus = folder.check()
    assert [row.utt_id for row in corpus.rejects] == ["bad"]
    assert corpus.rejects[0].reason.startswith(reason)
    assert corpus.rejects[0].source == str(folder.path / "bad.wav")
    assert len(corpus.utterances) == 3


BAD_ROWS = {
    "duplicate utt_id": ({"utt_id": "good-train"}, "duplicate utt_id: "),
    "utt_id with ../": ({"utt_id": "../../etc/passwd"}, "invalid utt_id: '../../etc"),
    "utt_id with a slash": ({"utt_id": "a/b"}, "invalid utt_id: 'a/b'"),
    "utt_id of dots": ({"utt_id": ".."}, "invalid utt_id: '..'"),
    "utt_id with a line end": ({"utt_id": "bad\n"}, "invalid utt_id: 'bad\\n'"),
    "no utt_id": ({"utt_id": ""}, "invalid utt_id: ''"),
    "no speaker": ({"speaker": ""}, "no speaker: the corpus names none"),
    "blank speaker": ({"speaker": " \u3000"}, "no speaker: the corpus names none"),
    "empty text": ({"text": ""}, "empty text"),
    "blank text": ({"text": " \t\n"}, "empty text"),
    "outside the alphabet": (
        {"text": "café no 7"},
        "text has characters outside the alphabet: ['7', 'é']",
    ),
    "text too long": (
        {"text": "a" * 26},
        "text is longer than its audio allows: 51 characters and repeats in 49 frames",
    ),
    "offset beyond the file": ({"offset": 1.0}, "offset and duration lie beyond the file: "),
    "duration beyond the file": ({"duration": 1.5}, "offset and duration lie beyond the file: "),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_rejected_with_its_reason(folder, case):
    values, reason = BAD_ROWS[case]
    folder.add(**values)
    corpus = folder.check()
    assert [row.utt_id for row in corpus.rejects] == [values.get("utt_id", "bad")]
    assert corpus.rejects[0].reason.startswith(reason), corpus.rejects[0].reason
    assert [row.utt_id for row in corpus.utterances] == ["good-test", "good-train", "good-valid"]


def test_a_broken_line_is_rejected_by_its_number(folder):
    folder.lines.append('{"utt_id": ')
    (reject,) = folder.check().rejects
    assert (reject.utt_id, reject.source) == (None, "manifest.jsonl:4")
    assert reject.reason.startswith("broken line: ")


@pytest.mark.parametrize(("rate", "channels"), [(16000, 2), (8000, 1), (44100, 1), (48000, 6)])
def test_any_rate_and_channel_count_is_accepted(folder, rate, channels):
    wav(folder.path / "other.wav", noise(0.5, rate, channels), rate)
    folder.add(utt_id="other", audio="other.wav")
    corpus = folder.check()
    assert corpus.rejects == []
    (utterance,) = [row for row in corpus.utterances if row.utt_id == "other"]
    assert utterance.duration == 0.5
    samples = read_audio(utterance.audio, RATE, utterance.offset, utterance.duration)
    assert samples.shape == (8000,)


WARNED = {
    "cancelled mix": lambda: np.concatenate([noise(1.0), -noise(1.0)], axis=1),
    "silent channel": lambda: np.concatenate([noise(1.0), 0 * noise(1.0)], axis=1),
    "clipped": lambda: np.clip(10 * noise(1.0), -0.9, 0.9),
    "mostly silent": lambda: np.concatenate([np.zeros((5 * RATE, 1)), noise(0.5)]),
    "silent end": lambda: np.concatenate([noise(3.0), np.zeros((RATE, 1))]),
    "over full scale": lambda: 20 * noise(1.0),
}


@pytest.mark.parametrize("kind", WARNED)
def test_a_doubtful_signal_is_kept_with_a_warning(folder, kind):
    wav(folder.path / "odd.wav", WARNED[kind]())
    folder.add(utt_id="odd", audio="odd.wav")
    corpus = folder.check()
    assert "odd" in [row.utt_id for row in corpus.utterances]
    (warning,) = corpus.rejects
    assert (warning.utt_id, warning.kind, warning.what) == ("odd", kind, "warning")
    assert warning.source == str(folder.path / "odd.wav")
    require(corpus, folder.config(max_reject_share=0.0))


def test_text_that_just_fits_its_frames_is_accepted(folder):
    # 49 frames: 25 times `a` needs 25 + 24.
    folder.add(utt_id="full", text="a" * 25)
    assert FrameGrid(400, 320, 16000).num_frames(RATE) == 49
    assert folder.check().rejects == []


def test_an_interval_of_a_long_recording_is_measured_by_itself(folder):
    wav(folder.path / "long.wav", noise(100, 1000), 1000)
    folder.add(utt_id="part", audio="long.wav", offset=90.0, duration=2.5)
    (utterance,) = [row for row in folder.check().utterances if row.utt_id == "part"]
    assert (utterance.offset, utterance.duration) == (90.0, 2.5)


def test_text_is_lowercased_with_single_spaces(folder):
    folder.add(utt_id="loud", text="  DON'T \t Go ")
    texts = {row.utt_id: row.text for row in folder.check().utterances}
    assert texts["loud"] == "don't go"
    strict = {row.utt_id: row.reason for row in folder.check(lowercase=False).rejects}
    assert strict["loud"].startswith("text has characters outside the alphabet: ['D', 'G'")


def test_punctuation_is_replaced_by_spaces(folder):
    folder.add(utt_id="a", text='"Well-known," (she said): don\'t; go.')
    (utterance,) = [
        row for row in folder.check(punctuation='"-,():;.').utterances if row.utt_id == "a"
    ]
    assert utterance.text == "well known she said don't go"
    assert [row.utt_id for row in folder.check().rejects] == ["a"]


@pytest.mark.parametrize("of_text", ["NFC", "NFD"])
@pytest.mark.parametrize("of_alphabet", ["NFC", "NFD"])
def test_an_accent_is_the_same_however_it_is_encoded(folder, of_text, of_alphabet):
    folder.add(utt_id="a", text=unicodedata.normalize(of_text, "CAF\u00c9"))
    alphabet = unicodedata.normalize(of_alphabet, "acefgo\u00e9")
    texts = {row.utt_id: row.text for row in folder.check(alphabet=alphabet).utterances}
    assert texts["a"] == "caf\u00e9"


def test_a_speaker_is_the_same_however_the_name_is_encoded(folder):
    for utt_id, speaker in (("a", "Jos\u00e9"), ("b", "Jose\u0301"), ("c", " Jos\u00e9\t")):
        folder.add(utt_id=utt_id, speaker=speaker)
    speakers = {row.speaker for row in folder.check().utterances if row.utt_id in "abc"}
    assert speakers == {"Jos\u00e9"}


def test_a_letter_that_nfc_takes_apart_is_its_parts(folder):
    folder.add(utt_id="a", text="\u0958")
    corpus = folder.check(alphabet="go\u0915\u0958")
    assert [row.text for row in corpus.utterances if row.utt_id == "a"] == ["\u0915\u093c"]


def test_an_accent_that_is_not_in_the_alphabet_is_named_composed(folder):
    folder.add(utt_id="a", text="cafe\u0301")
    (reject,) = folder.check().rejects
    assert reject.reason == "text has characters outside the alphabet: ['\u00e9']"


@pytest.mark.parametrize("space", "\u2028\u0085\u00a0\u3000\v\f\x1c")
def test_white_space_of_any_kind_is_one_space(folder, space):
    folder.add(utt_id="a", text=f"{space}go{space} on{space}")
    assert [row.text for row in folder.check().utterances if row.utt_id == "a"] == ["go on"]


def test_order_does_not_depend_on_the_manifest(folder):
    for number in (3, 1, 2):
        folder.add(utt_id=f"u{number}")
    forward = folder.check().utterances
    folder.lines.reverse()
    assert folder.check().utterances == forward
    assert [row.utt_id for row in forward if row.split == "train"] == [
        "good-train",
        "u1",
        "u2",
        "u3",
    ]


def test_max_utterances_takes_the_first_of_each_split(folder):
    for number in (3, 1, 2):
        folder.add(utt_id=f"a{number}")
    corpus = folder.check(max_utterances=2)
    ids = [(row.split, row.utt_id) for row in corpus.utterances]
    assert ids == [
        ("test", "good-test"),
        ("train", "a1"),
        ("train", "a2"),
        ("valid", "good-valid"),
    ]


def test_other_splits_are_left_out_but_counted(folder):
    folder.add(utt_id="x", split="extra", audio="nowhere.wav")
    corpus = folder.check()
    assert corpus.rejects == []
    assert corpus.left_out == {"extra": 1}
    assert len(corpus.utterances) == 3


def test_too_many_rejects_stop_the_run_with_the_commonest_reasons(folder):
    for number in range(3):
        folder.add(utt_id=f"mute{number}", text="")
    for number in range(2):
        folder.add(utt_id=f"odd{number}", text=f"{number}")
    folder.add(utt_id="a/b")
    folder.add(utt_id="gone", audio="gone.wav")
    config = folder.config(max_reject_share=0.6)
    corpus = folder.check()
    with pytest.raises(CorpusError) as caught:
        require(corpus, config)
    message = str(caught.value)
    assert "7 of 10 utterances were rejected" in message
    assert "3 x empty text, such as mute0" in message
    assert "2 x text has characters outside the alphabet, such as odd0" in message
    assert message.count(" x ") == 3
    require(corpus, config.model_copy(update={"max_reject_share": 0.7}))


def test_a_broken_alignment_costs_no_utterance_but_too_many_stop_the_run(folder):
    broken, good = [{"start": 0.5, "end": 0.1, "label": "x"}], {"start": 0, "end": 1, "label": "x"}
    for number in range(3):
        folder.add(utt_id=f"broken{number}", alignment=broken)
    folder.add(utt_id="aligned", alignment=[good])
    folder.add(utt_id="elsewhere", split="extra", alignment=broken)
    corpus = folder.check(max_reject_share=0.0)
    assert len(corpus.utterances) == 7
    assert [(one.utt_id, one.what) for one in corpus.rejects] == [
        (f"broken{number}", "alignment") for number in range(3)
    ]
    aligned = {row.utt_id for row in corpus.utterances if row.alignment is not None}
    assert aligned == {"aligned"}
    with pytest.raises(CorpusError, match=r"3 of 4 alignments were rejected") as caught:
        require(corpus, folder.config(max_reject_share=0.7))
    assert "3 x alignment has an interval that ends before it starts, such as broken0 (" in str(
        caught.value
    )
    require(corpus, folder.config(max_reject_share=0.75))


def test_utterances_without_an_alignment_are_counted_where_others_have_one(folder):
    def messages():
        sent = []
        config = folder.config()
        check(entries(config), config, Progress(sent.append))
        return [message for message in sent if isinstance(message, str)]

    assert messages() == []
    folder.add(utt_id="aligned", alignment=[{"start": 0, "end": 1, "label": "x"}])
    (message,) = messages()
    assert message.startswith("3 of 4 utterances have no alignment, and are not counted")
    assert message.endswith("the first is good-test")


def test_an_empty_split_is_refused_with_those_that_exist(folder):
    folder.add(utt_id="x", split="extra")
    config = folder.config(splits=Splits(test=("test", "test_hard")))
    with pytest.raises(CorpusError, match=r"in the splits \['test_hard'\]; the corpus has .*extra"):
        require(folder.check(splits=config.splits), config)


def test_progress_counts_the_checked_utterances_and_hours(folder):
    for number in range(97):
        folder.add(utt_id=f"u{number}", text="")
    config = folder.config()
    sent = []
    check(entries(config), config, Progress(sent.append))
    assert 2 <= len(sent) < 50  # one a second, not one each
    assert (sent[-1].done, sent[-1].total, sent[-1].unit) == (100, 100, "utterances")
    assert sent[-1].note.endswith("h of audio")


def test_alignments_of_another_corpus_stop_the_run(folder):
    (folder.path / "other.PHN").write_text("0 1 h#\n")
    config = folder.config(alignments=str(folder.path))
    with pytest.raises(CorpusError, match="matches no utterance"):
        list(entries(config))


def test_real_digits_all_pass(shared_data):
    config = ManifestCorpus(
        manifest=str(shared_data / "spoken_digits" / "manifest.jsonl"),
        splits=Splits(test=("test_seen", "test_unseen")),
        max_utterances=20,
    )
    corpus = check(entries(config), config)
    require(corpus, config)
    assert corpus.rejects == []
    assert len(corpus.utterances) == 80
    assert all(row.alignment for row in corpus.utterances)
