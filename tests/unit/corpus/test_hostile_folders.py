"""Corpora whose folders hold links, loops and what cannot be read: one bad path stops nobody."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Reject, Utterance
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.librispeech import LibrispeechCorpus
from pipeline.corpus.adapters.ljspeech import LjspeechCorpus
from pipeline.corpus.check import check
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import CANNOT_BE_READ, Folder

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"
0
1
<exists>
1
"IntervalTier"
"phones"
0
1
1
0
1
"a"
"""


def speak(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(str(path), np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    return path


@pytest.fixture
def unreadable(monkeypatch):
    """Names that may not be read, as root reads everything."""
    names = set()
    read = Folder.read

    def refusing(folder, name):
        if name.rpartition("/")[2] in names:
            raise PermissionError(13, "Permission denied")
        return read(folder, name)

    monkeypatch.setattr(Folder, "read", refusing)
    return names


@pytest.fixture
def librispeech(tmp_path):
    """Two chapters in place, one on another disk, and links to everything else."""
    root = tmp_path / "root"
    for folder, utt_id in (("train/1/2", "1-2-0"), ("valid/3/4", "3-4-0"), ("test/5/6", "5-6-0")):
        speak(root / folder / f"{utt_id}.flac")
        (root / folder / f"{utt_id[:3]}.trans.txt").write_text(f"{utt_id} GO\n")
    speak(tmp_path / "disk" / "8" / "7-8-0.flac")
    (tmp_path / "disk" / "8" / "7-8.trans.txt").write_text("7-8-0 GO\n7-8-1 GO\n")
    (root / "train" / "7").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "8" / "7-8-1.flac").symlink_to("nowhere.flac")
    (root / "train" / "back").symlink_to(root)
    (root / "train" / "gone").symlink_to("/nowhere")
    os.mkfifo(root / "train" / "1" / "2" / "1-2-9.flac")
    return root


def read(config):
    return list(adapter_of(config).read(config, None, SILENT))


def test_librispeech(librispeech, unreadable):
    config = LibrispeechCorpus(root=str(librispeech))
    entries = read(config)
    spoken = {entry.utt_id: entry for entry in entries if isinstance(entry, Utterance)}
    assert set(spoken) == {"1-2-0", "3-4-0", "5-6-0", "7-8-0", "7-8-1"}
    rejects = {entry.source: entry.reason for entry in entries if isinstance(entry, Reject)}
    assert rejects == {
        f"{librispeech}/train/1/2/1-2-9.flac": "not a regular file",
        f"{librispeech}/train/back": "the link leads to a folder around the one that is listed",
        f"{librispeech}/train/gone": "broken link: No such file or directory",
    }
    corpus = check(entries, config)
    assert {one.utt_id for one in corpus.utterances} == set(spoken) - {"7-8-1"}
    assert "no such audio file" in {reject.reason for reject in corpus.rejects}


def test_a_librispeech_transcript_that_cannot_be_read(librispeech, unreadable, tmp_path):
    unreadable.add("7-8.trans.txt")
    config = LibrispeechCorpus(root=str(librispeech))
    reasons = {e.source: e.reason for e in read(config) if isinstance(e, Reject)}
    assert reasons[f"{librispeech}/train/7/8/7-8.trans.txt"] == CANNOT_BE_READ
    assert reasons[f"{librispeech}/train/7/8/7-8-0.flac"].startswith("no transcript")
    assert reasons[f"{librispeech}/train/7/8/7-8-1.flac"].startswith("broken link")
    cache = Artifact(str(tmp_path / "cache"))
    closed = adapter_of(config).fingerprint(config, cache)
    unreadable.clear()
    assert adapter_of(config).fingerprint(config, cache) != closed


def test_ljspeech(tmp_path):
    root = tmp_path / "root"
    speak(root / "wavs" / "LJ1.wav")
    speak(tmp_path / "disk" / "LJ3.wav")
    (root / "wavs" / "LJ2.wav").symlink_to("nowhere.wav")
    (root / "wavs" / "LJ3.wav").symlink_to(tmp_path / "disk" / "LJ3.wav")
    (root / "wavs" / "LJ4.wav").symlink_to("LJ4.wav")
    (root / "wavs" / "more").symlink_to("/nowhere")
    (root / "metadata.csv").write_text("LJ1|go|go\nLJ2|go|go\nLJ3|go|go\n")
    entries = read(LjspeechCorpus(root=str(root)))
    spoken = [entry.utt_id for entry in entries if isinstance(entry, Utterance)]
    assert spoken == ["LJ1", "LJ2", "LJ3"]
    assert {e.source: e.reason for e in entries if isinstance(e, Reject)} == {
        f"{root}/wavs/LJ4.wav": "broken link: Too many levels of symbolic links",
        f"{root}/wavs/more": "broken link: No such file or directory",
    }


def test_alignments(librispeech, unreadable, tmp_path):
    folder, disk = tmp_path / "alignments", tmp_path / "aligned"
    for path in (folder / "1-2-0", disk / "7-8-0", folder / "3-4-0"):
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".TextGrid").write_text(TEXTGRID)
    (folder / "linked").symlink_to(disk)
    (folder / "back").symlink_to(folder)
    (folder / "gone").symlink_to("/nowhere")
    unreadable.add("3-4-0.TextGrid")
    config = LibrispeechCorpus(root=str(librispeech), alignments=str(folder))
    entries = read(config)
    aligned = {e.utt_id for e in entries if isinstance(e, Utterance) and e.alignment is not None}
    assert aligned == {"1-2-0", "7-8-0"}
    rejects = [reject for reject in check(entries, config).rejects if reject.what == "alignment"]
    assert {(reject.utt_id, reject.source): reject.reason for reject in rejects} == {
        (None, f"{folder}/gone"): "broken link: No such file or directory",
        ("3-4-0", f"{librispeech}/valid/3/4/3-4-0.flac"): f"{CANNOT_BE_READ} (3-4-0.TextGrid)",
    }
    assert adapter_of(config).fingerprint(config, Artifact(str(tmp_path / "cache")))


def test_a_ctm_that_cannot_be_read_among_others(librispeech, unreadable, tmp_path):
    folder = tmp_path / "alignments"
    folder.mkdir()
    (folder / "a.ctm").write_text("1-2-0 1 0 1 a\n")
    (folder / "b.ctm").write_text("3-4-0 1 0 1 a\n")
    unreadable.add("b.ctm")
    entries = read(LibrispeechCorpus(root=str(librispeech), alignments=str(folder)))
    aligned = {e.utt_id for e in entries if isinstance(e, Utterance) and e.alignment is not None}
    assert aligned == {"1-2-0"}
    assert Reject(None, f"{folder}/b.ctm", CANNOT_BE_READ, "alignment") in entries
