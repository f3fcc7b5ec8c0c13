import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.lhotse import ADAPTER, LhotseCorpus
from pipeline.progress import SILENT

SOURCE = {"type": "file", "channels": [0], "source": "audio/rec.flac"}
RECORDING = {
    "id": "rec",
    "sources": [SOURCE],
    "sampling_rate": 16000,
    "num_samples": 160000,
    "duration": 10.0,
    "channel_ids": [0],
}
SUPERVISION = {
    "id": "sup1",
    "recording_id": "rec",
    "start": 0.5,
    "duration": 1.0,
    "channel": 0,
    "text": "Oh no",
    "speaker": "anna",
}
CUT = {
    "id": "cut1",
    "start": 2.0,
    "duration": 4.0,
    "channel": 0,
    "supervisions": [SUPERVISION],
    "recording": RECORDING,
    "type": "MonoCut",
}


def cut(**values):
    return {**CUT, **values}


def supervised(*changes):
    return cut(supervisions=[{**SUPERVISION, **change} for change in changes])


def recorded(**values):
    return cut(recording={**RECORDING, **values})


def read(folder, *lines, **values):
    """The entries of the training split; the others are empty."""
    for split in ("valid", "test"):
        (folder / f"{split}.jsonl").write_text("")
    content = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n"
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    cuts = {"train": str(folder / "train.jsonl.gz")}
    cuts |= {split: str(folder / f"{split}.jsonl") for split in ("valid", "test")}
    config = LhotseCorpus(cuts=cuts, audio_root=str(folder), **values)
    return list(ADAPTER.read(config, None, SILENT))


def test_times_of_the_supervision_count_from_the_cuts_start(tmp_path):
    (utterance,) = read(tmp_path, CUT)
    assert utterance == Utterance(
        "sup1", "train", f"{tmp_path}/audio/rec.flac", 2.5, 1.0, "anna", "Oh no", None
    )


def test_each_supervision_is_an_utterance(tmp_path):
    entries = read(tmp_path, supervised({}, {"id": "sup2", "start": 2.0, "text": "yes"}), "", CUT)
    assert [(entry.utt_id, entry.offset, entry.text) for entry in entries] == [
        ("sup1", 2.5, "Oh no"),
        ("sup2", 4.0, "yes"),
        ("sup1", 2.5, "Oh no"),  # the check rejects it as a duplicate
    ]


@pytest.mark.parametrize(("kind", "tier"), [("phone", "phones"), ("phones", "phones"), ("w", "w")])
def test_alignments_count_from_the_supervisions_start(tmp_path, kind, tier):
    items = [["OW", 2.5, 0.25, None], ["N", 2.75, 0.75, 0.9], ["OW", 3.5, 0.25]]
    line = supervised({"alignment": {kind: items, "other": [["oh", 2.5, 1.0, None]]}})
    (utterance,) = read(tmp_path, line, alignment_tier=tier)
    assert utterance.alignment == (Segment(0.0, 0.25, "OW"), Segment(0.25, 1.0, "N"))


def test_an_alignment_of_the_supervisions_speaker(tmp_path):
    items = {"anna - phones": [["OW", 2.5, 0.5]], "bob - phones": [["N", 2.5, 0.5]]}
    line = supervised({"alignment": items})
    for tier in ("phones", "{speaker} - phones"):
        (utterance,) = read(tmp_path, line, alignment_tier=tier)
        assert utterance.alignment == (Segment(0.0, 0.5, "OW"),)


def test_separate_alignments_are_found_by_the_recordings_id(tmp_path):
    ctm = tmp_path / "a.ctm"
    ctm.write_text("rec 1 2.4 0.6 OW\nrec 1 3.0 0.5 N\n")
    (utterance,) = read(tmp_path, CUT, alignments=str(ctm))
    assert utterance.alignment == (Segment(0.0, 0.5, "OW"), Segment(0.5, 1.0, "N"))


BAD = {
    "mixed": (cut(type="MixedCut", tracks=[], supervisions=[]), "cut1", "not a plain cut of one"),
    "padding": (cut(type="PaddingCut", supervisions=[]), "cut1", "not a plain cut of one"),
    "no supervision": (cut(supervisions=[]), "cut1", "no supervision"),
    "features alone": (cut(recording=None, features={}), "sup1", "no audio: the cut has features"),
    "speed": (recorded(transforms=[{"name": "Speed"}]), "sup1", "audio is transformed"),
    "two files": (recorded(sources=[SOURCE, SOURCE]), "sup1", "audio has several channels"),
    "stereo": (recorded(sources=[{**SOURCE, "channels": [0, 1]}]), "sup1", "audio has several"),
    "memory": (
        recorded(sources=[{**SOURCE, "type": "memory", "source": "AAAA"}]),
        "sup1",
        "audio is not in a file: its source is of type 'memory'",
    ),
    "command": (
        recorded(sources=[{**SOURCE, "type": "command", "source": "sph2pipe a"}]),
        "sup1",
        "audio is not in a file: its source is of type 'command'",
    ),
    "early": (supervised({"start": -0.5}), "sup1", "supervision extends beyond its cut: -0.5 to"),
    "late": (supervised({"start": 3.5}), "sup1", "supervision extends beyond its cut: 3.5 to"),
    "zero length": (supervised({"duration": 0}), None, "broken line: supervisions.0.duration: "),
    "no JSON": ('{"id": "cut1", ', None, "broken line: Invalid JSON"),
    "no cut": (RECORDING, None, "broken line: type: Field required"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_cut_is_rejected_by_line_and_the_rest_is_kept(tmp_path, case):
    line, name, reason = BAD[case]
    reject, good = read(tmp_path, line, CUT)
    assert isinstance(reject, Reject)
    assert (reject.utt_id, reject.source) == (name, "train.jsonl.gz:1")
    assert reject.reason.startswith(reason)
    assert isinstance(good, Utterance)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (
            [["OW", 0.5, 0.25, None]],
            "alignment lies outside its supervision: 0.5 to 0.75 s rather than 2.5 to 3.5 s; ",
        ),
        ([["OW", 2500, 250], ["N", 2750, 750]], "alignment lies outside its supervision: 2500 to"),
        ([["OW", 2.5, 0.25], ["N", 2.75, -0.5]], "alignment has an interval that ends before it"),
        ([["OW", -2.5, 0.25]], "alignment has a negative time: 'OW' from -2.5 to -2.25 s"),
        ([["OW"]], "broken alignment: phone.0."),
    ],
)
def test_a_bad_alignment_is_rejected_and_its_utterance_kept(tmp_path, items, reason):
    reject, utterance = read(tmp_path, supervised({"alignment": {"phone": items}}))
    assert (reject.utt_id, reject.source, reject.what) == ("sup1", "train.jsonl.gz:1", "alignment")
    assert reject.reason.startswith(reason)
    (expected,) = read(tmp_path, CUT)
    assert utterance == expected


def test_one_bad_supervision_does_not_affect_the_other(tmp_path):
    first, second = read(tmp_path, supervised({"start": 9.0}, {"id": "sup2"}))
    assert isinstance(first, Reject)
    assert second.utt_id == "sup2"


def test_a_missing_file_and_a_damaged_one_are_one_clear_error(tmp_path):
    read(tmp_path, CUT)
    path = tmp_path / "train.jsonl.gz"
    cuts = dict.fromkeys(("train", "valid", "test"), str(path))
    config = LhotseCorpus(cuts=cuts)
    for content in (path.read_bytes()[:-20], b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="is cut short or damaged"):
            list(ADAPTER.read(config, None, SILENT))
    path.unlink()
    with pytest.raises(CorpusError, match=r"no CutSet at .*: check corpus\.cuts\.train"):
        list(ADAPTER.read(config, None, SILENT))


@given(st.lists(st.sampled_from([entry[0] for entry in BAD.values()] + [CUT, supervised({}, {})])))
def test_every_supervision_is_an_utterance_or_a_reject(tmp_path_factory, lines):
    entries = read(tmp_path_factory.mktemp("cuts"), *lines)
    expected = sum(2 if line == supervised({}, {}) else 1 for line in lines)
    assert len(entries) == expected


def test_files_that_lhotse_wrote(tmp_path):
    """Against the package itself: times, alignments, rejects."""
    lhotse = pytest.importorskip("lhotse")
    from lhotse.supervision import AlignmentItem

    write_audio(tmp_path / "rec.flac", np.random.default_rng(0).normal(0, 0.1, 160000), 16000)
    recording = lhotse.Recording.from_file(tmp_path / "rec.flac")
    spoken = [
        lhotse.SupervisionSegment(
            id=f"sup{number}",
            recording_id="rec",
            start=2.0 * number,
            duration=1.5,
            text="oh no",
            speaker="anna",
            alignment={
                "phone": [
                    AlignmentItem("OW", 2.0 * number, 0.5),
                    AlignmentItem("N", 2.0 * number + 0.5, 1.0),
                ]
            },
        )
        for number in range(1, 4)
    ]
    complete = lhotse.MonoCut("whole", 0, 10.0, 0, supervisions=spoken, recording=recording)
    part = complete.truncate(offset=3.5, duration=4.5)  # of sup2 and sup3
    mixed = complete.append(complete).with_id("mixed")
    fast = complete.perturb_speed(1.1)
    files = {"train": [complete], "valid": [part], "test": [mixed, fast]}
    cuts = {split: str(tmp_path / f"{split}.jsonl.gz") for split in files}
    for split, content in files.items():
        lhotse.CutSet.from_cuts(content).to_file(cuts[split])
    config = LhotseCorpus(cuts=cuts, splits=Splits())
    entries = list(ADAPTER.read(config, None, SILENT))
    good = [entry for entry in entries if isinstance(entry, Utterance)]
    assert [(entry.split, entry.utt_id, entry.offset, entry.duration) for entry in good] == [
        ("train", "sup1", 2.0, 1.5),
        ("train", "sup2", 4.0, 1.5),
        ("train", "sup3", 6.0, 1.5),
        ("valid", "sup2", 4.0, 1.5),
        ("valid", "sup3", 6.0, 1.5),
    ]
    assert {entry.alignment for entry in good} == {
        (Segment(0.0, 0.5, "OW"), Segment(0.5, 1.5, "N"))
    }
    reasons = [entry.reason.partition(":")[0] for entry in entries if isinstance(entry, Reject)]
    assert reasons[0] == "not a plain cut of one recording"
    assert reasons[1:] == ["audio is transformed when it is read"] * 3
