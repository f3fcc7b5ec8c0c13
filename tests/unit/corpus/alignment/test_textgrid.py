import numpy as np
import pytest
from praatio import textgrid

from pipeline.audio.decode import read_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.frame_labels import frame_labels
from pipeline.corpus.alignment.labels import plain_label
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
EXPECTED = (Segment(0.0, 0.25, ""), Segment(0.25, 0.75, "OW1"), Segment(0.75, 1.0, "sil"))
SHORT = (
    'File type = "ooTextFile short"\n"TextGrid"\n\n0\n1\n<exists>\n2\n'
    '"TextTier"\n"phones"\n0\n1\n1\n0.5\n"click"\n'
    '"IntervalTier"\n"phones"\n0\n1\n3\n0\n0.25\n""\n0.25\n0.75\n"OW1"\n0.75\n1\n"sil"\n'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_long_format_in_praats_encodings(encoding):
    assert parse_textgrid(LONG.encode(encoding)) == EXPECTED


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r", " "])
def test_short_format_beside_a_tier_of_points(ends):
    assert parse_textgrid(SHORT.replace("\n", ends).encode()) == EXPECTED


def test_comments_and_notes_mean_nothing():
    content = LONG.replace("xmin", "! 7\nfrom[7]").replace(" = ", "=")
    assert parse_textgrid(content.encode()) == EXPECTED


@pytest.mark.parametrize(
    "label", ['say ""oh""', "item [1]:", "xmin = 9", "a\nb", "! 7", "<exists>", "é"]
)
def test_any_text_may_be_a_label(label):
    for content in (LONG, SHORT):
        segments = parse_textgrid(content.replace("OW1", label).encode())
        assert [segment.label for segment in segments] == ["", label.replace('""', '"'), "sil"]


def test_times_may_be_written_as_any_number():
    content = LONG.replace("0.25", "2.5e-01").replace("0.75", "7500E-4").replace("= 0\n", "= -0\n")
    assert parse_textgrid(content.encode()) == EXPECTED
    tiny = LONG.replace("0.25", "1e-05")
    assert parse_textgrid(tiny.encode())[1] == Segment(1e-05, 0.75, "OW1")


def test_a_negative_time_is_read_as_one():
    # In the long format, some readers drop the sign.
    assert parse_textgrid(LONG.replace("0.25", "-0.25").encode())[1].start == -0.25


@pytest.mark.parametrize("content", [LONG, SHORT])
def test_a_file_cut_anywhere_is_refused_or_complete(content):
    for length in range(len(content)):
        try:
            segments = parse_textgrid(content[:length].encode())
        except AlignmentError:
            continue
        assert segments == EXPECTED
        assert not content[length:].strip()


def test_a_tier_may_end_before_its_file():
    assert parse_textgrid(LONG.replace("xmax = 1.0\ntiers", "xmax = 9\ntiers").encode()) == EXPECTED


def test_the_tier_of_a_speaker():
    content = LONG.replace('"words"', '"bob - phones"').replace('"phones"', '"ann - phones"')
    assert parse_textgrid(content.encode(), ["phones", "ann - phones"]) == EXPECTED
    assert parse_textgrid(content.encode(), ["bob - phones"]) == (Segment(0.0, 1.0, "oh"),)
    with pytest.raises(
        AlignmentError, match="no such interval tier: 'phones', but 'ann - phones', 'bob"
    ):
        parse_textgrid(content.encode(), ["phones", "cem - phones"])


def test_two_tiers_of_one_name_are_refused():
    content = LONG.replace('"words"', '"phones"').encode()
    with pytest.raises(AlignmentError, match="several tiers of one name: 'phones'"):
        parse_textgrid(content)


def test_against_another_reader(shared_data, tmp_path):
    path = shared_data / "mfa_aligned" / "cold_corpus.TextGrid"
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    expected = [tuple(entry) for entry in grid.getTier("phones").entries]
    found = [(each.start, each.end, each.label) for each in parse_textgrid(path.read_bytes())]
    assert found == expected


@pytest.mark.parametrize("name", ["acoustic_corpus", "cold_corpus"])
def test_real_aligner_output_is_the_same_in_the_long_format(shared_data, tmp_path, name):
    short, long = shared_data / "mfa_aligned" / f"{name}.TextGrid", tmp_path / "long.TextGrid"
    grid = textgrid.openTextgrid(str(short), includeEmptyIntervals=True)
    grid.save(str(long), "long_textgrid", includeBlankSpaces=True)
    assert "intervals [1]:" in long.read_text()
    assert "intervals [1]:" not in short.read_text()
    assert parse_textgrid(long.read_bytes()) == parse_textgrid(short.read_bytes())


def test_another_tier():
    assert parse_textgrid(LONG.encode(), ["words"]) == (Segment(0.0, 1.0, "oh"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not readable as a TextGrid"),
        (b"hello", "not readable as a TextGrid"),
        (b"\xff\xff\xff", "not readable as a TextGrid"),
        (b"ooBinaryFile\x08TextGrid", "does not begin with .* save it from Praat as a text file"),
        (LONG[: LONG.index("item [2]")].encode(), "cut short: it announces more"),
        (LONG[: LONG.index("intervals [3]")].encode(), "cut short: it announces more"),
        (LONG[: LONG.index("OW1")].encode(), "cut short: a text has no closing quote"),
        (LONG.replace("xmax = 0.75", "xmax = soon").encode(), '"OW1" where a number is due'),
        (LONG.replace("xmax = 0.75", "xmax = nan").encode(), '"OW1" where a number is due'),
        (LONG.replace("0.75", "0,75").encode(), '"OW1" where a number is due'),
        (LONG.replace("size = 3", "size = 2").encode(), "0.75 follows its last tier"),
        (LONG.replace("size = 3", "size = 1e9").encode(), "1e9 where a count is due"),
        (LONG.replace("size = 3", "size = -3").encode(), "-3 where a count is due"),
        (LONG.replace("size = 3", "size = 999999999").encode(), "cut short"),
        (LONG.replace("size = 2", "size = 0").encode(), 'IntervalTier" follows its last tier'),
        (LONG.replace("<exists>", "<absent>").encode(), "2 follows its last tier"),
    ],
)
def test_a_broken_file_is_refused_with_a_reason(content, reason):
    with pytest.raises(AlignmentError, match=reason):
        parse_textgrid(content)


@pytest.mark.parametrize("name", ["acoustic_corpus", "cold_corpus"])
def test_real_aligner_output_matches_its_audio(shared_data, name):
    folder = shared_data / "mfa_aligned"
    parsed = parse_textgrid((folder / f"{name}.TextGrid").read_bytes())
    phones = [Segment(each.start, each.end, plain_label(each.label)) for each in parsed]
    samples = read_audio(str(folder / f"{name}.wav"), 16000)
    assert phones[-1].end <= len(samples) / 16000 + 0.01
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
