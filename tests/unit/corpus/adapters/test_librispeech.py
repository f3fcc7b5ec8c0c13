import errno
import shutil

import numpy as np
import pytest

from pipeline.audio.decode import read_audio, write_audio
from pipeline.audio.utterance import CorpusError, Reject, Segment
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.librispeech import ADAPTER, LibrispeechCorpus
from pipeline.corpus.check import check
from pipeline.progress import SILENT
from pipeline.storage.folders import Folder

TEXTGRID = (
    b'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n1\n'
    b'"IntervalTier"\n"phones"\n0\n1\n1\n0\n1\n"AH0"\n'
)


@pytest.fixture
def root(tmp_path):
    """Two splits, one speaker each, two utterances each."""
    root = tmp_path / "LibriSpeech"
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    for split, speaker, chapter in (
        ("train", "84", "121"),
        ("test", "61", "70"),
        ("dev", "1", "2"),
    ):
        folder = root / split / speaker / chapter
        folder.mkdir(parents=True)
        ids = [f"{speaker}-{chapter}-{number:04d}" for number in range(2)]
        for utt_id in ids:
            write_audio(folder / f"{utt_id}.flac", noise, 16000)
        lines = [f"{utt_id} GO ON THEN\n" for utt_id in ids]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return root


def config(root, **values):
    return LibrispeechCorpus(root=str(root), splits=Splits(valid="dev"), **values)


def read(corpus_config):
    return ADAPTER.read(corpus_config, None, SILENT)


def test_every_utterance_with_text_and_speaker(root):
    corpus = check(read(config(root)), config(root))
    assert corpus.rejects == []
    ids = [(row.split, row.utt_id, row.speaker, row.text) for row in corpus.utterances]
    assert ids == [
        ("dev", "1-2-0000", "1", "go on then"),
        ("dev", "1-2-0001", "1", "go on then"),
        ("test", "61-70-0000", "61", "go on then"),
        ("test", "61-70-0001", "61", "go on then"),
        ("train", "84-121-0000", "84", "go on then"),
        ("train", "84-121-0001", "84", "go on then"),
    ]
    assert {row.alignment for row in corpus.utterances} == {None}
    assert {row.duration for row in corpus.utterances} == {1.0}


def test_alignments_where_there_are_any(root, tmp_path):
    folder = tmp_path / "alignments" / "train" / "84" / "121"
    folder.mkdir(parents=True)
    (folder / "84-121-0000.TextGrid").write_bytes(TEXTGRID)
    entries = read(config(root, alignments=str(tmp_path / "alignments")))
    alignments = {entry.utt_id: entry.alignment for entry in entries}
    assert alignments["84-121-0000"] == (Segment(0.0, 1.0, "AH0"),)
    assert alignments["84-121-0001"] is None
    assert alignments["61-70-0000"] is None


def test_a_broken_textgrid_is_rejected_and_its_utterance_kept(root, tmp_path):
    folder = tmp_path / "alignments" / "train" / "84" / "121"
    folder.mkdir(parents=True)
    (folder / "84-121-0001.TextGrid").write_bytes(TEXTGRID[:40])
    entries = list(read(config(root, alignments=str(tmp_path / "alignments"))))
    (reject,) = [entry for entry in entries if isinstance(entry, Reject)]
    assert reject.utt_id == "84-121-0001"
    assert "not readable as a TextGrid" in reject.reason
    assert len(entries) == 7


def test_audio_without_text_and_text_without_audio(root):
    folder = root / "train" / "84" / "121"
    (folder / "84-121-0000.flac").rename(folder / "84-121-0007.flac")
    corpus = check(read(config(root)), config(root))
    reasons = {reject.utt_id: reject.reason for reject in corpus.rejects}
    assert set(reasons) == {"84-121-0000", "84-121-0007"}
    assert reasons["84-121-0000"] == (
        "no audio: there is no 84-121-0000.flac beside the transcript"
    )
    assert reasons["84-121-0007"].startswith("no transcript")


def test_a_transcript_line_without_words_is_rejected(root):
    folder = root / "train" / "84" / "121"
    (folder / "84-121.trans.txt").write_text("84-121-0000\n84-121-0001 HI\n")
    corpus = check(read(config(root)), config(root))
    assert [(reject.utt_id, reject.reason) for reject in corpus.rejects] == [
        ("84-121-0000", "empty text")
    ]


def rejects(root):
    entries = read(config(root))
    return {row.source: row.reason for row in entries if isinstance(row, Reject)}


def test_a_line_that_is_not_utf_8_is_rejected_by_its_number(root):
    folder = root / "train" / "84" / "121"
    (folder / "84-121.trans.txt").write_bytes(b"84-121-0000 HI\n84-121-0001 CAF\xc9\n")
    assert rejects(root) == {
        "train/84/121/84-121.trans.txt:2": "broken line: not UTF-8",
        f"{folder}/84-121-0001.flac": "no transcript: no .trans.txt names it",
    }


def test_a_repeated_id_is_rejected_and_the_first_line_counts(root):
    folder = root / "train" / "84" / "121"
    text = "84-121-0000 ONE\n84-121-0001 TWO\n84-121-0000 THREE\n"
    (folder / "84-121.trans.txt").write_text(text)
    (folder / "more.trans.txt").write_text("84-121-0001 FOUR\n")
    corpus = check(read(config(root)), config(root))
    texts = {row.utt_id: row.text for row in corpus.utterances if row.split == "train"}
    assert texts == {"84-121-0000": "one", "84-121-0001": "two"}
    assert [row.reason for row in corpus.rejects] == [
        "duplicate id: train/84/121/84-121.trans.txt:1 has it already",
        f"duplicate utt_id: {folder}/84-121-0001.flac has it already",
    ]


@pytest.mark.parametrize("names", [["a.FLAC"], ["a.wav"], ["a.flac", "a.wav"], ["a.WAV", "a.flac"]])
def test_audio_of_any_format_and_case_is_found_flac_first(root, names):
    folder = root / "train" / "84" / "121"
    audio = (folder / "84-121-0000.flac").read_bytes()
    for name in names:
        (folder / name).write_bytes(audio)
    (folder / "84-121.trans.txt").write_text("a YES\n84-121-0000 NO\n84-121-0001 NO\n")
    entries = {entry.utt_id: entry for entry in read(config(root))}
    assert len(entries) == 7
    chosen = names[0] if len(names) == 1 else "a.flac"
    assert entries["a"].audio == f"{folder}/{chosen}"


def test_a_storage_that_may_recover_stops_the_reading(root, monkeypatch):
    def fail(_folder, _name):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Folder, "read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        list(read(config(root)))


def test_what_a_mac_writes_beside_files_is_no_audio_and_no_transcript(root):
    folder = root / "train" / "84" / "121"
    for name in ("._84-121-0000.flac", "._84-121.trans.txt"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert rejects(root) == {}


def test_an_id_cannot_lead_out_of_its_folder(root):
    folder = root / "train" / "84" / "121"
    (folder / "84-121.trans.txt").write_text("../../../test/61/70/61-70-0000 STOLEN\n")
    assert rejects(root)["train/84/121/84-121.trans.txt:1"].startswith("no audio: there is no ../")


def test_audio_outside_a_speakers_folder_is_rejected(root):
    (root / "train" / "loose.flac").write_bytes(b"")
    (root / "train" / "loose.trans.txt").write_text("loose HI\n")
    assert rejects(root) == {
        "train/loose.trans.txt:1": "no speaker: it is not in a folder <speaker>/<chapter>"
    }


def test_a_missing_split_names_those_that_exist(root):
    shutil.rmtree(root / "train")
    with pytest.raises(CorpusError, match=r"no folder for \['train'\]; it has \['dev', 'test'\]"):
        list(read(config(root)))


def test_a_missing_alignments_folder_is_one_clear_error(root, tmp_path):
    with pytest.raises(
        CorpusError, match=r"corpus\.alignments .* is not a file or folder of alignments"
    ):
        list(read(config(root, alignments=str(tmp_path / "nowhere"))))


def test_real_aligned_speech_in_librispeechs_folders(shared_data, tmp_path):
    for split, name in (("train", "cold"), ("dev", "acoustic"), ("test", "acoustic")):
        folder, grids = (tmp_path / part / split / name / "0" for part in ("audio", "grids"))
        folder.mkdir(parents=True)
        grids.mkdir(parents=True)
        utt_id, source = f"{name}-{split}", shared_data / "mfa_aligned" / f"{name}_corpus"
        samples = read_audio(str(source.with_suffix(".wav")), 16000)
        write_audio(folder / f"{utt_id}.flac", samples, 16000)
        text = source.with_suffix(".lab").read_text().replace("\n", " ")
        (folder / f"{name}-0.trans.txt").write_text(f"{utt_id} {text}\n")
        shutil.copy(source.with_suffix(".TextGrid"), grids / f"{utt_id}.TextGrid")
    corpus_config = config(tmp_path / "audio", alignments=str(tmp_path / "grids"))
    corpus = check(read(corpus_config), corpus_config)
    assert corpus.rejects == []
    assert [round(row.duration, 2) for row in corpus.utterances] == [26.72, 26.72, 25.72]
    assert all(len(row.alignment) > 200 for row in corpus.utterances)
