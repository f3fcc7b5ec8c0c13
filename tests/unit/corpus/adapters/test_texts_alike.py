"""A text means the same in every corpus format: where lines end, marks, tabs, and what is broken."""

import json

import pytest

from pipeline.audio.utterance import Reject
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.an4 import An4Corpus
from pipeline.corpus.adapters.kaldi import KaldiCorpus
from pipeline.corpus.adapters.lhotse import LhotseCorpus
from pipeline.corpus.adapters.librispeech import LibrispeechCorpus
from pipeline.corpus.adapters.ljspeech import LjspeechCorpus
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.progress import SILENT

SPLITS = ("train", "valid", "test")


def librispeech(root, lines):
    for split in SPLITS:
        (root / split / "s" / "c").mkdir(parents=True)
    for utt_id, _ in lines:
        (root / "train" / "s" / "c" / f"{utt_id}.flac").touch()
    table = [f"{utt_id} {text}" for utt_id, text in lines]
    return LibrispeechCorpus(root=str(root)), root / "train" / "s" / "c" / "s-c.trans.txt", table


def ljspeech(root, lines):
    (root / "wavs").mkdir()
    for utt_id, _ in lines:
        (root / "wavs" / f"{utt_id}.wav").touch()
    table = [f"{utt_id}|{text}" for utt_id, text in lines]
    return LjspeechCorpus(root=str(root)), root / "metadata.csv", table


def an4(root, lines):
    for folder in ("etc", "wav/an4_clstk/s"):
        (root / folder).mkdir(parents=True)
    for utt_id, _ in lines:
        (root / "wav" / "an4_clstk" / "s" / f"{utt_id}.sph").touch()
    listed = "".join(f"an4_clstk/s/{utt_id}\n" for utt_id, _ in lines)
    (root / "etc" / "an4_train.fileids").write_text(listed)
    for name in ("an4_test.fileids", "an4_test.transcription"):
        (root / "etc" / name).touch()
    table = [f"{text} ({utt_id})" for utt_id, text in lines]
    config = An4Corpus(root=str(root), held_out={"valid": ("s",)})
    return config, root / "etc" / "an4_train.transcription", table


def kaldi(root, lines):
    for split in SPLITS:
        (root / split).mkdir()
        for name in ("wav.scp", "text", "utt2spk"):
            (root / split / name).touch()
    for name in ("wav.scp", "utt2spk"):
        (root / "train" / name).write_text("".join(f"{utt_id} x\n" for utt_id, _ in lines))
    table = [f"{utt_id} {text}" for utt_id, text in lines]
    return KaldiCorpus(root=str(root)), root / "train" / "text", table


def manifest(root, lines):
    row = {"split": "train", "speaker": "s", "audio": "a.wav"}
    table = [
        json.dumps({**row, "utt_id": utt_id, "text": text}, ensure_ascii=False)
        for utt_id, text in lines
    ]
    return ManifestCorpus(manifest=str(root / "m.jsonl")), root / "m.jsonl", table


def lhotse(root, lines):
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    cut = {"id": "c", "type": "MonoCut", "recording": {"id": "r", "sources": [source]}}
    spoken = {"start": 0, "duration": 1, "speaker": "s"}
    table = [
        json.dumps(
            {**cut, "supervisions": [{**spoken, "id": utt_id, "text": text}]}, ensure_ascii=False
        )
        for utt_id, text in lines
    ]
    for split in SPLITS:
        (root / f"{split}.jsonl").touch()
    cuts = {split: str(root / f"{split}.jsonl") for split in SPLITS}
    return LhotseCorpus(cuts=cuts), root / "train.jsonl", table


FORMATS = (librispeech, ljspeech, an4, kaldi, manifest, lhotse)
JSON = (manifest, lhotse)
PLAIN = [("a", "one two"), ("b", "three")]


def entries(config):
    return list(adapter_of(config).read(config, None, SILENT))


def read(config):
    rows = entries(config)
    assert not [row for row in rows if isinstance(row, Reject)]
    # The ids of AN4 begin with the speaker.
    return [(row.utt_id.removeprefix("s-"), row.text) for row in rows]


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("character", "\u2028\u2029\u0085\u00a0\u3000")
def test_a_text_is_not_cut_at_rare_separators(tmp_path, make, character):
    lines = [("a", f"one{character}two"), ("b", "three")]
    config, path, table = make(tmp_path, lines)
    path.write_text("\n".join(table), encoding="utf-8", newline="")
    assert read(config) == lines


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("character", "\v\f\x1c\x1d\x1e")
def test_a_text_is_not_cut_at_control_characters(tmp_path, make, character):
    """JSON writes them as escapes."""
    lines = [("a", f"one{character}two"), ("b", "three")]
    config, path, table = make(tmp_path, lines)
    path.write_text("\n".join(table), encoding="utf-8", newline="")
    assert read(config) == lines


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(tmp_path, make, end):
    config, path, table = make(tmp_path, PLAIN)
    path.write_bytes("".join(f"{line}{end}" for line in table).encode())
    assert read(config) == PLAIN


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_accepted(tmp_path, make, encoding):
    lines = [("a", "caf\u00e9"), ("b", "three")]
    config, path, table = make(tmp_path, lines)
    path.write_bytes("\n".join(table).encode(encoding))
    assert read(config) == lines


@pytest.mark.parametrize("make", [each for each in FORMATS if each not in JSON])
def test_a_tab_between_id_and_text_is_accepted(tmp_path, make):
    config, path, table = make(tmp_path, PLAIN)
    path.write_text("\n".join(line.replace("|", " ").replace(" ", "\t", 1) for line in table))
    assert read(config) == PLAIN


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize(("damage", "reason"), [(b"\xe9", "not UTF-8"), (b"\0", "it holds NUL")])
def test_a_broken_line_is_rejected_by_its_number(tmp_path, make, damage, reason):
    config, path, table = make(tmp_path, PLAIN)
    path.write_bytes("\n".join(table).encode().replace(b"two", b"tw" + damage))
    rows = entries(config)
    assert [row.text for row in rows if not isinstance(row, Reject)] == ["three"]
    (broken,) = [
        row for row in rows if isinstance(row, Reject) and row.source.endswith(f"{path.name}:1")
    ]
    assert broken.reason.startswith(f"broken line: {reason}")
