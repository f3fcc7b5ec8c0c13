"""One alignment, written in every format that is read, from the files to the checked corpus."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from pipeline.audio.utterance import Segment
from pipeline.config.corpus import Splits
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.lhotse import LhotseCorpus
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.check import check
from pipeline.progress import SILENT

RATE = 16000
SECONDS = 2.0
ROWS = ((0.0, 0.5, "SIL"), (0.5, 0.9, "K"), (0.9, 1.4, "AE1"), (1.4, 1.8, "T"), (1.8, 2.0, "sp"))
PLAIN = tuple(
    Segment(start, end, label)
    for (start, end, _), label in zip(ROWS, ("sil", "K", "AE", "T", "sil"), strict=True)
)


def manifest(folder, rows=None, **values):
    line = {"utt_id": "u", "split": "train", "speaker": "s", "audio": "rec.wav", "text": "cat"}
    if rows is not None:
        names = ("start", "end", "label")
        line["alignment"] = [dict(zip(names, row, strict=True)) for row in rows]
    (folder / "m.jsonl").write_text(json.dumps({**line, **values.pop("line", {})}))
    return ManifestCorpus(manifest=str(folder / "m.jsonl"), **values)


def textgrid(folder, rows, name="rec", **values):
    end = rows[-1][1]
    cells = "".join(f'{first!r}\n{last!r}\n"{label}"\n' for first, last, label in rows)
    (folder / f"{name}.TextGrid").write_text(
        f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{end}\n<exists>\n1\n'
        f'"IntervalTier"\n"phones"\n0\n{end}\n{len(rows)}\n{cells}'
    )
    return manifest(folder, alignments=str(folder), **values)


def ctm(folder, rows, name="rec", **values):
    lines = [f"{name} 1 {first!r} {last - first!r} {label}\n" for first, last, label in rows]
    (folder / "phones.ctm").write_text("".join(lines))
    return manifest(folder, alignments=str(folder / "phones.ctm"), **values)


def phn(folder, rows, name="rec", **values):
    lines = [f"{round(a * RATE)} {round(b * RATE)} {label}\n" for a, b, label in rows]
    (folder / f"{name}.PHN").write_text("".join(lines))
    return manifest(folder, alignments=str(folder), **values)


def lhotse(folder, rows):
    items = [[label, start, end - start] for start, end, label in rows]
    source = {"type": "file", "channels": [0], "source": "rec.wav"}
    supervision = {"id": "u", "start": 0.0, "duration": SECONDS, "text": "cat", "speaker": "s"}
    cut = {"id": "c", "type": "MonoCut", "start": 0.0, "duration": SECONDS}
    cut["recording"] = {"id": "rec", "sources": [source]}
    cut["supervisions"] = [{**supervision, "alignment": {"phones": items}}]
    cuts = {"train": json.dumps(cut), "valid": "", "test": ""}
    for split, content in cuts.items():
        (folder / f"{split}.jsonl").write_text(content)
    paths = {split: str(folder / f"{split}.jsonl") for split in cuts}
    return LhotseCorpus(cuts=paths, audio_root=str(folder), splits=Splits())


IN_SECONDS = [manifest, textgrid, ctm]
ALL = [*IN_SECONDS, phn, lhotse]


@pytest.fixture
def folder(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, round(SECONDS * RATE))
    soundfile.write(tmp_path / "rec.wav", samples, RATE)
    return tmp_path


def long_audio(folder):
    """10 s, so that the utterance is a part of them."""
    samples = np.random.default_rng(0).normal(0, 0.1, 10 * RATE)
    soundfile.write(folder / "rec.wav", samples, RATE)


def shifted(seconds):
    return [(start + seconds, end + seconds, label) for start, end, label in ROWS]


def checked(config):
    """The only utterance, which is kept whatever its alignment, and the reasons of rejects."""
    corpus = check(adapter_of(config).read(config, None, SILENT), config)
    (utterance,) = corpus.utterances
    assert (utterance.utt_id, utterance.duration, utterance.text) == ("u", SECONDS, "cat")
    assert {reject.what for reject in corpus.rejects} <= {"alignment"}
    return utterance, [reject.reason for reject in corpus.rejects]


@pytest.mark.parametrize("write", ALL)
def test_a_good_one_means_the_same_in_each(folder, write):
    utterance, reasons = checked(write(folder, ROWS))
    assert reasons == []
    found = [(each.start, each.end, each.label) for each in utterance.alignment]
    assert [label for *_, label in found] == [each.label for each in PLAIN]
    times = [time for *pair, _ in found for time in pair]
    assert times == pytest.approx([time for each in PLAIN for time in (each.start, each.end)])


@pytest.mark.parametrize("write", IN_SECONDS)
@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (1000, "at 2000 s of 2 s, 1000 times its length: milliseconds?"),
        (100, "at 200 s of 2 s, 100 times its length: frames of 10 ms?"),
        (50, "at 100 s of 2 s, 50 times its length: frames of 20 ms?"),
        (16000, "at 32000 s of 2 s, 16000 times its length: samples at 16000 Hz?"),
        (10, "at 20 s of 2 s, 10 times its length: of other audio?"),
    ],
)
def test_another_unit_is_refused_with_the_likely_one(folder, write, factor, cause):
    rows = [(start * factor, end * factor, label) for start, end, label in ROWS]
    utterance, reasons = checked(write(folder, rows))
    assert utterance.alignment is None
    assert reasons == [f"alignment ends beyond its audio: {cause}"]


@pytest.mark.parametrize("rate", [8000, 44100, 1000])
def test_a_phn_of_another_rate_is_refused_until_the_rate_is_given(folder, rate):
    rows = [(start * rate / RATE, end * rate / RATE, label) for start, end, label in ROWS]
    utterance, (reason,) = checked(phn(folder, rows))
    assert utterance.alignment is None
    unit = (
        "milliseconds read as samples?"
        if rate == 1000
        else f"samples at {rate} Hz (corpus.alignment_sample_rate_hz)?"
    )
    assert unit in reason
    utterance, reasons = checked(phn(folder, rows, alignment_sample_rate_hz=rate))
    assert (utterance.alignment, reasons) == (PLAIN, [])


@pytest.mark.parametrize("write", ALL)
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((0.9, 0.7, "AE1"), "alignment has an interval that ends before it starts: 'AE1' from 0.9"),
        ((-0.5, 0.0, "AE1"), "alignment has a negative time: 'AE1' from -0.5 to 0 s"),
    ],
)
def test_times_that_are_no_interval_are_refused(folder, write, row, reason):
    utterance, reasons = checked(write(folder, [*ROWS[:2], row, *ROWS[3:]]))
    assert utterance.alignment is None
    (found,) = reasons
    assert found.startswith(reason)


@pytest.mark.parametrize("write", ALL)
def test_overlaps_are_refused(folder, write):
    utterance, reasons = checked(write(folder, [*ROWS[:2], (0.7, 1.4, "AE1"), *ROWS[3:]]))
    assert utterance.alignment is None
    assert reasons == [
        "alignment has intervals that overlap: 'K' from 0.5 to 0.9 s and 'AE1' from 0.7 to 1.4 s"
    ]


@pytest.mark.parametrize("write", ALL)
def test_silence_alone_is_refused(folder, write):
    utterance, reasons = checked(write(folder, [(0.0, 2.0, "SIL")]))
    assert utterance.alignment is None
    assert reasons == ["alignment is empty: it labels nothing but silence"]


@pytest.mark.parametrize("write", [manifest, lhotse, phn])
def test_nothing_at_all_is_refused(folder, write):
    utterance, reasons = checked(write(folder, []))
    assert utterance.alignment is None
    assert reasons == ["alignment is empty: it has no label within the utterance"]


@pytest.mark.parametrize("write", [textgrid, ctm, phn])
def test_a_recordings_unit_is_found_where_the_utterance_is_a_part(folder, write):
    long_audio(folder)
    rows = [(0.0, 1.0, "SIL"), *shifted(1.0), (3.0, 10.0, "SIL")]
    part = {"offset": 1.0, "duration": SECONDS}
    utterance, reasons = checked(write(folder, rows, line=part))
    assert reasons == []
    assert [each.label for each in utterance.alignment] == [each.label for each in PLAIN]
    rows = [(start * 1000, end * 1000, label) for start, end, label in rows]
    utterance, reasons = checked(write(folder, rows, line=part))
    assert utterance.alignment is None
    assert reasons == [
        "alignment ends beyond its audio: at 10000 s of 10 s, 1000 times its length: milliseconds?"
    ]


@pytest.mark.parametrize("write", [textgrid, ctm, phn])
def test_an_utterances_alignment_with_its_recordings_times_is_told_apart(folder, write):
    long_audio(folder)
    part = {"offset": 5.0, "duration": SECONDS}
    _, reasons = checked(write(folder, shifted(5.0), name="u", line=part))
    (reason,) = reasons
    assert reason.startswith(
        "alignment ends beyond its audio: at 7 s of 2 s, which are 5 to 7 s of "
    )
    assert reason.endswith("do its times count from the recording's start?")


@pytest.mark.parametrize("write", ALL)
def test_one_that_labels_little_is_used_with_a_warning(folder, write):
    config = write(folder, [(0.5, 0.9, "K")])
    corpus = check(adapter_of(config).read(config, None, SILENT), config)
    assert [each.label for each in corpus.utterances[0].alignment] == ["K"]
    (warning,) = corpus.rejects
    assert (warning.utt_id, warning.what) == ("u", "warning")
    assert warning.reason == "alignment labels little of its audio: 0.4 s of 2 s"


def test_real_alignments_that_were_swapped_are_found(shared_data, tmp_path):
    source, names = shared_data / "mfa_aligned", ["acoustic_corpus", "cold_corpus"]
    lines = []
    for split, name, other in zip(("train", "valid"), names, names[::-1], strict=True):
        shutil.copy(source / f"{other}.TextGrid", tmp_path / f"{name}.TextGrid")
        row = {"utt_id": name, "split": split, "speaker": "s", "text": "words"}
        lines.append(json.dumps({**row, "audio": str(source / f"{name}.wav")}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    for alignments, expected in (
        (source, {}),
        (
            tmp_path,
            {
                "acoustic_corpus": "alignment ends before its audio: at 25.7176 s of 26.7233 s",
                "cold_corpus": (
                    "alignment ends beyond its audio: at 26.7233 s of 25.7176 s, 1.04 times its "
                    "length: of other audio?"
                ),
            },
        ),
    ):
        config = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"), alignments=str(alignments))
        corpus = check(adapter_of(config).read(config, None, SILENT), config)
        assert len(corpus.utterances) == 2
        assert {reject.utt_id: reject.reason for reject in corpus.rejects} == expected
