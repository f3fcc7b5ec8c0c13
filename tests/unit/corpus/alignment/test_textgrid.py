import numpy as np
import pytest
from praatio import textgrid

from pipeline.audio.decode import read_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.frame_labels import frame_labels
from pipeline.corpus.alignment.textgrid import parse_textgrid

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.0
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.0
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.0
            text = "oh"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.75
            text = "OW1"
        intervals [3]:
            xmin = 0.75
            xmax = 1.0
            text = "sil"
"""
EXPECTED = (Segment(0.25, 0.75, "OW"), Segment(0.75, 1.0, "sil"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_long_format_in_praats_encodings(encoding):
    assert parse_textgrid(LONG.encode(encoding)) == EXPECTED


@pytest.mark.parametrize("name", ["acoustic_corpus", "cold_corpus"])
def test_real_aligner_output_is_the_same_in_the_long_format(shared_data, tmp_path, name):
    short, long = shared_data / "mfa_aligned" / f"{name}.TextGrid", tmp_path / "long.TextGrid"
    grid = textgrid.openTextgrid(str(short), includeEmptyIntervals=True)
    grid.save(str(long), "long_textgrid", includeBlankSpaces=True)
    assert "intervals [1]:" in long.read_text()
    assert "intervals [1]:" not in short.read_text()
    assert parse_textgrid(long.read_bytes()) == parse_textgrid(short.read_bytes())


def test_another_tier():
    assert parse_textgrid(LONG.encode(), "words") == (Segment(0.0, 1.0, "oh"),)


def test_digits_that_do_not_mark_stress_are_kept():
    content = LONG.replace("OW1", "a1").replace("sil", "T5")
    assert [segment.label for segment in parse_textgrid(content.encode())] == ["a1", "T5"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not readable as a TextGrid"),
        (b"hello", "not readable as a TextGrid"),
        (b"\xff\xff\xff", "not readable as a TextGrid"),
        (LONG[: LONG.index("item [2]")].encode(), "no interval tier 'phones'"),
        (LONG[: LONG.index("intervals [3]")].encode(), "cut short"),
        (LONG.replace("xmax = 0.75", "xmax = soon").encode(), "not readable as a TextGrid"),
    ],
)
def test_a_broken_file_is_refused_with_a_reason(content, reason):
    with pytest.raises(AlignmentError, match=reason):
        parse_textgrid(content)


@pytest.mark.parametrize("name", ["acoustic_corpus", "cold_corpus"])
def test_real_aligner_output_matches_its_audio(shared_data, name):
    folder = shared_data / "mfa_aligned"
    phones = parse_textgrid((folder / f"{name}.TextGrid").read_bytes())
    samples = read_audio(str(folder / f"{name}.wav"), 16000)
    assert phones[-1].end <= len(samples) / 16000 + 0.01
    assert not any(segment.label[-1].isdigit() for segment in phones)
    grid = FrameGrid(400, 320, 16000)
    num_frames = grid.num_frames(len(samples))
    labels = frame_labels(phones, num_frames, grid)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 400)[::320][:num_frames]
    power = np.abs(np.fft.rfft(windows * np.hanning(400))) ** 2
    # A sibilant is mostly above 4 kHz, a vowel hardly at all: off by one phone, the two would mix.
    sibilance = power[:, 100:].sum(axis=1) / power.sum(axis=1)

    def median(wanted):
        return np.median([x for x, label in zip(sibilance, labels, strict=True) if label in wanted])

    assert median({"S", "Z", "SH"}) > 4 * median({"AH", "AY", "OW", "AA", "ER"})
