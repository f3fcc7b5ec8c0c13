from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.ljspeech import ADAPTER, LjspeechCorpus, split_of
from pipeline.progress import SILENT


def corpus(root, metadata, names=(), **values):
    (root / "wavs").mkdir(exist_ok=True)
    (root / "metadata.csv").write_bytes(metadata)
    for name in names:
        (root / "wavs" / name).write_bytes(b"")
    config = LjspeechCorpus(root=str(root), **values)
    return list(ADAPTER.read(config, None, SILENT))


def test_the_last_column_is_the_text(tmp_path):
    rows = b'LJ001-0001|It cost 5 "dollars"|It cost five "dollars"\nLJ001-0002|Two columns\n'
    names = ["LJ001-0001.wav", "LJ001-0002.wav"]
    entries = corpus(tmp_path, rows, names, shares={"valid": 1e-9, "test": 1e-9}, speaker="linda")
    audio = f"{tmp_path}/wavs/LJ001-000"
    assert entries == [
        Utterance(
            "LJ001-0001",
            "train",
            f"{audio}1.wav",
            0.0,
            TO_THE_END,
            "linda",
            'It cost five "dollars"',
        ),
        Utterance("LJ001-0002", "train", f"{audio}2.wav", 0.0, TO_THE_END, "linda", "Two columns"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"LJ1", "broken line: 1 columns instead of id|text|normalised"),
        (b"LJ1|a|b|c", "broken line: 4 columns instead"),
        (b"LJ1|caf\xe9|x", "broken line: not UTF-8"),
    ],
)
def test_a_broken_row_is_rejected_by_number_and_the_rest_is_kept(tmp_path, row, reason):
    first, second = corpus(tmp_path, row + b"\n\nLJ2|two\n")
    assert second.utt_id == "LJ2"
    assert first.source == "metadata.csv:1"
    assert first.reason.startswith(reason)


def test_audio_without_a_row_is_rejected(tmp_path):
    _, reject = corpus(tmp_path, b"LJ1|one\n", ["LJ1.wav", "LJ2.wav"])
    reason = "no transcript: no row of metadata.csv names it"
    assert reject == Reject("LJ2", f"{tmp_path}/wavs/LJ2.wav", reason)


def test_a_row_without_audio_and_a_repeated_one_are_rejected_by_number(tmp_path):
    rows = b"LJ1|one\nLJ2|two\nLJ1|three\n../metadata|four\n"
    first, *rejects = corpus(tmp_path, rows, ["LJ1.WAV", ".DS_Store"])
    assert (first.audio, first.text) == (f"{tmp_path}/wavs/LJ1.WAV", "one")
    assert [(reject.source, reject.reason) for reject in rejects] == [
        ("metadata.csv:2", "no audio: there is no wavs/LJ2.wav"),
        ("metadata.csv:3", "duplicate id: metadata.csv:1 has it already"),
        ("metadata.csv:4", "no audio: there is no wavs/../metadata.wav"),
    ]


def test_tabs_may_separate_the_columns(tmp_path):
    names = ["LJ1.wav", "LJ2.wav"]
    entries = corpus(tmp_path, b"LJ1\t5 pounds\tfive pounds\nLJ2 |a\tb\n", names)
    assert [(entry.utt_id, entry.text) for entry in entries] == [
        ("LJ1", "five pounds"),
        ("LJ2", "a\tb"),
    ]


def test_no_table_is_one_clear_error(tmp_path):
    config = LjspeechCorpus(root=str(tmp_path))
    with pytest.raises(CorpusError, match=r"has no metadata\.csv: check corpus\.root"):
        list(ADAPTER.read(config, None, SILENT))


def test_splits_get_about_their_shares():
    splits = Splits(test=("test", "hard"))
    config = LjspeechCorpus(
        root="r", splits=splits, shares={"valid": 0.1, "test": 0.2, "hard": 0.05}
    )
    counts = Counter(split_of(f"LJ{number:05d}", config) for number in range(10_000))
    shares = {split: count / 10_000 for split, count in counts.items()}
    expected = {"train": 0.65, "valid": 0.1, "test": 0.2, "hard": 0.05}
    assert shares == pytest.approx(expected, abs=0.02)


def test_a_split_depends_on_the_utterance_and_the_seed_only():
    config = LjspeechCorpus(root="r", shares={"valid": 0.3, "test": 0.3})
    ids = [f"LJ{number}" for number in range(50)]
    splits = [split_of(name, config) for name in ids]
    assert splits[:4] == ["test", "valid", "valid", "train"]  # never to change
    other = config.model_copy(update={"seed": 1})
    assert [split_of(name, other) for name in ids] != splits


@given(st.lists(st.text("ab|é\t ", max_size=8)))
def test_every_row_is_an_utterance_or_a_reject(tmp_path_factory, rows):
    root = tmp_path_factory.mktemp("lj")
    entries = corpus(root, "\n".join(rows).encode())
    assert len(entries) == sum(bool(row.encode().strip()) for row in rows)
