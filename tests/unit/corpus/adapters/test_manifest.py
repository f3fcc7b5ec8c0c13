import json
import re

import fsspec
import pytest

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance
from pipeline.corpus.adapters.manifest import ADAPTER, ManifestCorpus
from pipeline.progress import SILENT

ROW = {"utt_id": "a", "split": "train", "speaker": "s", "audio": "audio/a.wav", "text": "hi"}


def write(tmp_path, *lines):
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return str(path)


def read(uri):
    config = ManifestCorpus(manifest=uri)
    return ADAPTER.read(config, None, SILENT)


def test_a_minimal_row_and_a_full_one(tmp_path):
    alignment = [{"start": 0.0, "end": 0.5, "label": "h"}]
    full = {**ROW, "utt_id": "b", "offset": 1.5, "duration": 2.0, "alignment": alignment, "x": 1}
    short, long = read(write(tmp_path, ROW, "", full))
    audio = f"{tmp_path}/audio/a.wav"
    assert short == Utterance("a", "train", audio, 0.0, TO_THE_END, "s", "hi", None)
    segments = (Segment(0.0, 0.5, "h"),)
    assert long == Utterance("b", "train", audio, 1.5, 2.0, "s", "hi", segments)


@pytest.mark.parametrize("audio", ["/data/a.wav", "s3://bucket/a.wav"])
def test_an_absolute_address_is_kept(tmp_path, audio):
    (utterance,) = read(write(tmp_path, {**ROW, "audio": audio}))
    assert utterance.audio == audio


def test_a_relative_manifest_gives_absolute_audio(tmp_path, monkeypatch):
    write(tmp_path, ROW)
    monkeypatch.chdir(tmp_path)
    (utterance,) = read("manifest.jsonl")
    assert utterance.audio == f"{tmp_path}/audio/a.wav"


def test_a_remote_manifest_has_its_audio_beside_it():
    with fsspec.open("memory://corpus/m.jsonl", "w") as file:
        file.write(json.dumps(ROW))
    (utterance,) = read("memory://corpus/m.jsonl")
    assert utterance.audio == "memory://corpus/audio/a.wav"


def test_numbers_may_name_speakers_and_utterances(tmp_path):
    (utterance,) = read(write(tmp_path, {**ROW, "utt_id": 17, "speaker": 4}))
    assert (utterance.utt_id, utterance.speaker) == ("17", "4")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"utt_id": "a", ', "Invalid JSON"),
        ("[1, 2]", "object"),
        ({key: ROW[key] for key in ROW if key != "text"}, "text: Field required"),
        ({**ROW, "duration": "long"}, "duration: .*number"),
        ({**ROW, "duration": 0}, "duration: .*greater than 0"),
        ({**ROW, "offset": -1}, "offset: .*greater than or equal to 0"),
        ({**ROW, "offset": float("nan")}, "offset: .*finite"),
        ({**ROW, "text": float("nan")}, "text: nan is no text"),
        ({**ROW, "speaker": float("nan")}, "speaker: nan is no text"),
        ({**ROW, "utt_id": float("inf")}, "utt_id: inf is no text"),
        ({**ROW, "utt_id": True}, "utt_id: .*string"),
        (json.dumps(ROW)[:-1] + ', "text": "bye"}', "text: the key is there twice"),
        (json.dumps(ROW)[:-1] + ', "x": [{"y": 1, "y": 2}]}', "y: the key is there twice"),
        (json.dumps({**ROW, "text": "\ud800"}), "Invalid JSON"),
        ("[" * 10_000, "Invalid JSON: recursion limit"),
        (json.dumps(ROW)[:-1] + ', "x": ' + "9" * 5000 + "}", "Invalid JSON: number out of range"),
    ],
)
def test_a_broken_line_is_rejected_by_number_and_the_rest_is_kept(tmp_path, line, reason):
    first, second, third = read(write(tmp_path, ROW, line, {**ROW, "utt_id": "c"}))
    assert isinstance(second, Reject)
    assert second.source == "manifest.jsonl:2"
    assert second.reason.startswith("broken line: ")
    assert re.search(reason, second.reason), second.reason
    assert (first.utt_id, third.utt_id) == ("a", "c")


@pytest.mark.parametrize(
    ("alignment", "reason"),
    [
        (
            [{"start": float("nan"), "end": 1, "label": "x"}],
            "0.start: Input should be a finite number",
        ),
        ([{"start": 2}], "0.end: Field required"),
        ("sil", "Input should be a valid tuple"),
    ],
)
def test_a_broken_alignment_is_rejected_and_its_utterance_kept(tmp_path, alignment, reason):
    reject, utterance = read(write(tmp_path, {**ROW, "alignment": alignment}))
    assert reject == Reject("a", "manifest.jsonl:1", f"broken alignment: {reason}", "alignment")
    assert utterance == Utterance(
        "a", "train", f"{tmp_path}/audio/a.wav", 0.0, TO_THE_END, "s", "hi"
    )


def test_bytes_that_are_not_text_are_a_broken_line(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b'{"utt_id": "\xff\xfe"}\n' + json.dumps(ROW).encode())
    first, second = read(str(path))
    assert isinstance(first, Reject)
    assert isinstance(second, Utterance)


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode())
    assert [type(entry) for entry in read(str(path))] == [Utterance]


@pytest.mark.parametrize("name", ["nothing.jsonl", "."])
def test_no_manifest_is_one_clear_error(tmp_path, name):
    with pytest.raises(CorpusError, match=r"there is no manifest at .* check corpus\.manifest"):
        list(read(str(tmp_path / name)))
