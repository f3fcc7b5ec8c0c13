"""Utterances to listen to: which, with what, and how many there is room for."""

import base64
import io
from dataclasses import replace

import pyarrow as pa
import soundfile
from reported_variant import SCRIPT, UTTERANCES, reported

from pipeline.graph.graph import Graph
from pipeline.graph.stage import Stage
from pipeline.report.listening import listening
from pipeline.report.variant import variants

ROOM = 10_000_000


def read(members):
    return variants(Graph(tuple(members)), [member.config for member in members])


def decoded(address):
    kind, _, content = address.partition(";base64,")
    assert kind == "data:audio/flac"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


def test_recording_and_resynthesis_stand_beside_each_other(tmp_path):
    known = read([reported(tmp_path, "kmeans"), reported(tmp_path, "dkm_full", audio_of=())])
    found = listening(known, ["test"], ROOM)
    examples = found.examples["test"]
    assert [each.utterance.utt_id for each in examples] == ["u1", "u3"]
    recording, offline, full = examples[0].voices
    assert [voice.title for voice in examples[0].voices] == ["recording", "kmeans", "dkm_full"]
    samples, rate_hz = decoded(recording.audio)
    assert (len(samples), rate_hz) == (16000, 16000)
    assert len(decoded(offline.audio)[0]) == 16000
    assert full.audio is None
    assert "Units: 3 1 2." in full.picture
    assert (offline.read.errors, offline.read.words) == (2, 2)
    assert offline.heard.errors == 1
    assert not known[0].notes


def test_without_resynthesis_utterances_come_from_all_over_the_split(tmp_path):
    [variant] = read([reported(tmp_path, "kmeans", audio_of=())])
    found = listening([variant], ["test"], ROOM)
    assert [each.utterance.utt_id for each in found.examples["test"]] == list(UTTERANCES[:3])


def test_what_does_not_fit_is_counted(tmp_path):
    known = read([reported(tmp_path, "kmeans")])
    [first, _] = listening(known, ["test"], ROOM).examples["test"]
    found = listening(known, ["test"], first.num_bytes)
    assert len(found.examples["test"]) == 1
    assert found.left_out == 1
    assert listening(known, ["test"], -1).examples == {}


def test_a_recording_that_is_gone_is_a_note_and_the_rest_is_there(tmp_path):
    known = read([reported(tmp_path, "kmeans")])
    (tmp_path / "u1.flac").unlink()
    first = listening(known, ["test"], ROOM).examples["test"][0]
    assert first.voices[0].audio is None
    assert first.voices[1].audio is not None
    [note] = known[0].notes
    assert note.startswith("kmeans: a recording cannot be read: utterance 'u1'")


def test_whatever_is_damaged_becomes_a_note(tmp_path):
    member = reported(tmp_path, "kmeans")
    damaged = {
        "evaluate_asr/test": "hypotheses.parquet",
        "tokenize_corpus/test": "tokens/test-00000.parquet",
        "train_joint": "tokenizer/ssl/config.json",
        "evaluate_resynthesis/test": "heard.parquet",
    }
    for stage, name in damaged.items():
        with member.nodes[stage].artifact.write(name) as file:
            file.write(b"{")
    with member.nodes["evaluate_resynthesis/test"].artifact.write("audio/u1.wav") as file:
        file.write(b"no sound")
    known = read([member])
    listening(known, ["test"], ROOM)
    said = [note.partition(" cannot be read: ")[0] for note in known[0].notes]
    assert said == [
        "kmeans: the hypotheses of evaluate_asr/test[kmeans]",
        "kmeans: the tokens of tokenize_corpus/test[kmeans]",
        "kmeans: the frames of the tokens",
        "kmeans: the texts of evaluate_resynthesis/test[kmeans]",
        "kmeans: the resynthesis of u1",
    ]


def test_a_split_of_no_utterance_has_no_example(tmp_path):
    assert listening(read([reported(tmp_path, "kmeans")]), ["other"], ROOM).examples == {}


def test_texts_are_those_of_the_search_that_is_scored(tmp_path):
    known = read([reported(tmp_path, "kmeans")])
    voice = listening(known, ["test"], ROOM).examples["test"][0].voices[1]
    assert voice.read.parts[-1].heard == "three"
    assert SCRIPT in [part.said for part in voice.read.parts]


def test_the_judge_of_all_variants_is_asked_before_the_own_recogniser(tmp_path):
    member = reported(tmp_path, "kmeans")
    own = member.nodes["evaluate_resynthesis/test"]
    judge = replace(own, stage=Stage("judge_resynthesis", 1, dict, dict))
    member.nodes[judge.name] = judge
    heard = own.artifact.read_table("heard.parquet").to_pylist()
    rows = [{**row, "hypothesis": "what the judge heard"} for row in heard]
    judge.artifact.write_table("heard.parquet", pa.Table.from_pylist(rows))
    judge.artifact.finish({})
    voice = listening(read([member]), ["test"], ROOM).examples["test"][0].voices[1]
    assert " ".join(part.heard for part in voice.heard.parts) == "what the judge heard"


def test_of_several_members_one_is_shown_of_which_there_is_speech(tmp_path):
    folders = [tmp_path / "fold a", tmp_path / "fold b"]
    for folder in folders:
        folder.mkdir()
    first, second = (reported(folder, "kmeans") for folder in folders)
    del first.nodes["evaluate_resynthesis/test"]
    others = [{"utt_id": "other", "split": "test"}]
    first.nodes["prepare_corpus"].artifact.write_table(
        "corpus.parquet", pa.Table.from_pylist(others)
    )
    [variant] = variants(Graph((first, second)), [first.config])
    found = listening([variant], ["test"], ROOM).examples["test"]
    assert [each.utterance.utt_id for each in found] == ["u1", "u3"]
    assert all(each.voices[1].audio for each in found)
    assert not variant.notes


def test_errors_are_marked_in_the_texts_that_were_compared(tmp_path):
    member = reported(tmp_path, "kmeans")
    output = member.nodes["evaluate_resynthesis/test"].artifact
    rows = [
        {
            **row,
            "hypothesis": "One, two!",
            "compared_reference": "one two",
            "compared_hypothesis": "one two",
        }
        for row in output.read_table("heard.parquet").to_pylist()
    ]
    output.write_table("heard.parquet", pa.Table.from_pylist(rows))
    heard = listening(read([member]), ["test"], ROOM).examples["test"][0].voices[1].heard
    assert (heard.errors, heard.words) == (0, 2)
