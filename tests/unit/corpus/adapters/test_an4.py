import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.corpus.adapters.an4 import ADAPTER, An4Corpus
from pipeline.corpus.check import check
from pipeline.progress import SILENT

LISTED = {
    "train": ["an4_clstk/fash/an251-fash-b", "an4_clstk/ftal/cen1-ftal-b"],
    "test": ["an4test_clstk/fcaw/an406-fcaw-b"],
}
SAID = {
    "train": ["<s> YES </s> (an251-fash-b)", "<s> T A L L </s> (cen1-ftal-b)"],
    "test": ["RUBOUT G M E F THREE NINE (an406-fcaw-b)"],
}
VALID = {"valid": ["ftal"]}


def write_tree(root, listed=LISTED, said=SAID, extension="sph"):
    (root / "etc").mkdir()
    for split in ("train", "test"):
        for ending, lines in (("fileids", listed[split]), ("transcription", said[split])):
            path = root / "etc" / f"an4_{split}.{ending}"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        for path in listed[split]:
            audio = root / "wav" / f"{path.split(' ')[0]}.{extension}"
            audio.parent.mkdir(parents=True, exist_ok=True)
            audio.touch()


def read(root, held_out=VALID, **values):
    config = An4Corpus(root=str(root), held_out=held_out, **values)
    return list(ADAPTER.read(config, None, SILENT))


def rejects(entries):
    return [(e.utt_id, e.source, e.reason) for e in entries if isinstance(e, Reject)]


def test_its_own_folders_are_read_and_a_speaker_is_held_out(tmp_path):
    write_tree(tmp_path)
    wav, whole = f"{tmp_path}/wav", (0.0, TO_THE_END)
    assert read(tmp_path) == [
        Utterance(
            "fash-an251-b", "train", f"{wav}/{LISTED['train'][0]}.sph", *whole, "fash", "YES"
        ),
        Utterance(
            "ftal-cen1-b", "valid", f"{wav}/{LISTED['train'][1]}.sph", *whole, "ftal", "T A L L"
        ),
        Utterance(
            "fcaw-an406-b",
            "test",
            f"{wav}/{LISTED['test'][0]}.sph",
            *whole,
            "fcaw",
            "RUBOUT G M E F THREE NINE",
        ),
    ]


def test_the_name_of_the_file_may_name_an_alignment_too(tmp_path):
    write_tree(tmp_path)
    ctm = tmp_path / "phones.ctm"
    for name in ("an251-fash-b", "fash-an251-b"):
        ctm.write_text(f"{name} 1 0.0 0.5 Y\n")
        first, *_ = read(tmp_path, alignments=str(ctm))
        assert [segment.label for segment in first.alignment] == ["Y"]


def test_speakers_of_both_own_splits_may_be_held_out(tmp_path):
    write_tree(tmp_path)
    entries = read(tmp_path, {"valid": ["ftal"], "kept_aside": ["fcaw"]})
    assert [entry.split for entry in entries] == ["train", "valid", "kept_aside"]


def test_a_held_out_speaker_whom_no_list_has_is_one_clear_error(tmp_path):
    write_tree(tmp_path)
    with pytest.raises(CorpusError, match=r"no speaker ftel, x: correct .* corpus\.held_out"):
        read(tmp_path, {"valid": ["x", "ftal", "ftel"]})


@pytest.mark.parametrize("name", ["an4_train.fileids", "an4_test.transcription"])
def test_a_missing_table_is_one_clear_error(tmp_path, name):
    write_tree(tmp_path)
    (tmp_path / "etc" / name).unlink()
    with pytest.raises(CorpusError, match=f"has no etc/{name}: check corpus.root"):
        read(tmp_path)


def test_raw_samples_are_rejects_with_the_cure(tmp_path):
    write_tree(tmp_path, extension="raw")
    entries = read(tmp_path)
    assert [entry.kind for entry in entries] == ["raw samples"] * 3
    assert entries[0].reason == (
        "raw samples: wav/an4_clstk/fash/an251-fash-b.raw has no header that says what they are; "
        "take AN4 as SPHERE or WAV, or convert each file: sox -t raw -r 16000 -e signed-integer "
        "-b 16 -c 1 -B x.raw x.wav (-L instead of -B where they are little-endian)"
    )


def test_what_was_converted_beside_raw_files_is_used(tmp_path):
    write_tree(tmp_path, extension="raw")
    for path in [path for paths in LISTED.values() for path in paths]:
        (tmp_path / "wav" / f"{path}.wav").touch()
    assert rejects(read(tmp_path)) == []


def test_what_lists_and_transcripts_and_audio_lack_is_rejected(tmp_path):
    listed = {
        "train": [
            *LISTED["train"],
            "an4_clstk/ftal/cen2-ftal-b",
            "an4_clstk/ftal/cen3-ftal-b 0 100",
            "alone",
            "an4_clstk/ftal/cen1-ftal-b",
        ],
        "test": LISTED["test"],
    }
    said = {
        "train": [*SAID["train"], "<s> NO </s> (cen4-ftal-b)", "A (alone)"],
        "test": SAID["test"],
    }
    write_tree(tmp_path, listed, said)
    wav = tmp_path / "wav"
    (wav / "an4_clstk/ftal/cen5-ftal-b.sph").touch()
    (wav / "an4_clstk/ftal/._cen1-ftal-b.sph").touch()
    (wav / "an4_clstk/fash/an251-fash-b.sph").unlink()
    (wav / "an4_clstk/link").symlink_to("nowhere")
    table = "etc/an4_train.fileids"
    assert rejects(read(tmp_path)) == [
        ("an4_clstk/ftal/cen1-ftal-b", f"{table}:6", f"duplicate id: {table}:2 has it already"),
        ("fash-an251-b", f"{table}:1", f"no audio: there is no wav/{LISTED['train'][0]}.sph"),
        (
            "ftal-cen2-b",
            f"{table}:3",
            "no transcript: no line of the transcripts ends in its name",
        ),
        ("ftal-cen3-b", f"{table}:4", "broken line: '0 100' follows the path"),
        ("alone", f"{table}:5", "no speaker: it is not in a folder <speaker>/"),
        (
            "cen4-ftal-b",
            "etc/an4_train.transcription:3",
            f"no audio: no line of {table} names it",
        ),
        (
            "ftal-cen5-b",
            f"{wav}/an4_clstk/ftal/cen5-ftal-b.sph",
            "no transcript: no list in etc/ names it",
        ),
        (None, f"{wav}/an4_clstk/link", "broken link: No such file or directory"),
    ]


@pytest.mark.parametrize("line", ["YES", "YES (", "YES ()", "YES (a b)", "YES(a)", "(a) YES"])
def test_a_transcript_without_an_id_at_its_end_is_rejected_by_its_number(tmp_path, line):
    write_tree(tmp_path, said={**SAID, "train": [line, *SAID["train"]]})
    assert rejects(read(tmp_path)) == [
        (
            None,
            "etc/an4_train.transcription:1",
            "broken line: it does not end in an id in parentheses",
        )
    ]


@pytest.mark.parametrize("line", ["<s> </s> (an251-fash-b)", "(an251-fash-b)"])
def test_a_text_may_be_empty_which_the_check_rejects(tmp_path, line):
    write_tree(tmp_path, said={**SAID, "train": [line, SAID["train"][1]]})
    first, *_ = read(tmp_path)
    assert (first.utt_id, first.text) == ("fash-an251-b", "")


def test_a_list_cannot_name_what_is_not_below_its_folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    listed = {"train": [*LISTED["train"], "../../secret/s/x"], "test": LISTED["test"]}
    write_tree(tmp_path / "corpus", listed, {**SAID, "train": [*SAID["train"], "A (x)"]})
    (reject,) = rejects(read(tmp_path / "corpus"))
    assert reject[2] == "no audio: there is no wav/../../secret/s/x.sph"


@given(st.lists(st.text("as/()<> \té-", max_size=12)))
def test_every_line_is_an_utterance_or_a_reject(tmp_path_factory, lines):
    root = tmp_path_factory.mktemp("an4")
    write_tree(root, said={**SAID, "train": [*SAID["train"], *lines]})
    entries = read(root)
    assert sum(isinstance(entry, Utterance) for entry in entries) == 3
    assert len(rejects(entries)) == sum(bool(line.strip()) for line in lines)


def test_sphere_files_become_a_corpus(tmp_path):
    write_tree(tmp_path)
    for path in (tmp_path / "wav").rglob("*.sph"):
        write_audio(path, np.random.default_rng(0).normal(0, 0.1, 32000), 16000, "NIST")
    corpus = check(read(tmp_path), An4Corpus(root=str(tmp_path), held_out=VALID))
    assert corpus.rejects == []
    assert [(one.split, one.text, one.duration) for one in corpus.utterances] == [
        ("test", "rubout g m e f three nine", 2.0),
        ("train", "yes", 2.0),
        ("valid", "t a l l", 2.0),
    ]


def test_the_distribution_gives_the_splits_of_the_shared_manifest(tmp_path, shared_data):
    """The shared manifest, written in the form of the distribution, comes back as it was."""
    folder = shared_data / "an4"
    if not folder.is_dir():
        pytest.skip(f"no AN4 at {folder}")
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    listed, said = {"train": [], "test": []}, {"train": [], "test": []}
    for row in rows:
        split = "test" if row["split"] == "test" else "train"
        speaker, number, microphone = row["utt_id"].split("-")
        name = f"{number}-{speaker}-{microphone}"
        listed[split].append(f"an4_clstk/{speaker}/{name}")
        said[split].append(f"<s> {row['text'].upper()} </s> ({name})")
    write_tree(tmp_path, listed, said)
    entries = list(ADAPTER.read(An4Corpus(root=str(tmp_path)), None, SILENT))
    assert Counter(entry.split for entry in entries) == {"train": 845, "valid": 103, "test": 78}
    assert {(e.utt_id, e.split, e.speaker, e.text.lower()) for e in entries} == {
        (row["utt_id"], row["split"], row["speaker"], row["text"]) for row in rows
    }
