"""Each adapter from its own files to the stage's tables, with real phones of an aligner.

The recordings are one of `mfa_aligned`, cut into pieces; where it is absent, these tests skip.
"""

import json
import shutil
from dataclasses import replace
from itertools import chain

import pytest

from pipeline.audio.decode import read_audio, write_audio
from pipeline.audio.utterance import from_table
from pipeline.config import Config, Ssl
from pipeline.corpus.alignment.labels import plain_label
from pipeline.corpus.alignment.textgrid import parse_textgrid
from pipeline.graph.stage import StageContext
from pipeline.storage.artifacts import Artifact
from tasks.prepare_corpus import STAGE

RATE = 16000
SECONDS = 2.5
SPLITS = ("test", "train", "valid")
# Start of each piece in the recording, in seconds.
STARTS = {split: 3.0 * number for number, split in enumerate(SPLITS, start=1)}


@pytest.fixture(scope="module")
def speech(shared_data):
    """Samples at 16 kHz, the aligned file, and the phones of each piece, cut in a simple way."""
    source = shared_data / "mfa_aligned" / "cold_corpus"
    grid = source.with_suffix(".TextGrid")
    phones = [
        replace(phone, label=plain_label(phone.label))
        for phone in parse_textgrid(grid.read_bytes())
    ]
    pieces = {
        split: [
            (max(phone.start, start) - start, min(phone.end, start + SECONDS) - start, phone.label)
            for phone in phones
            if phone.end > start and phone.start < start + SECONDS
        ]
        for split, start in STARTS.items()
    }
    return read_audio(str(source.with_suffix(".wav")), RATE), grid, pieces


def piece(samples, split):
    first = round(STARTS[split] * RATE)
    return samples[first : first + round(SECONDS * RATE)]


def librispeech(folder, speech):
    samples, _, pieces = speech
    for split in SPLITS:
        chapter = folder / split / "7" / "1"
        chapter.mkdir(parents=True)
        write_audio(chapter / f"7-1-{split}.flac", piece(samples, split), RATE)
        (chapter / "7-1.trans.txt").write_text(f"7-1-{split} WORDS\n")
        phn = folder / "phones" / split / "7" / "1"
        phn.mkdir(parents=True)
        lines = [f"{round(a * RATE)} {round(b * RATE)} {x}\n" for a, b, x in pieces[split]]
        (phn / f"7-1-{split}.PHN").write_text("".join(lines))
    return {"kind": "librispeech", "root": str(folder), "alignments": str(folder / "phones")}


def ljspeech(folder, speech):
    """One CTM file has the phones of every recording."""
    samples, _, pieces = speech
    (folder / "wavs").mkdir(parents=True)
    rows, ctm = [], []
    # Names that the default seed assigns to each of the splits.
    for name, split in {"LJ0": "test", "LJ1": "valid", "LJ3": "train"}.items():
        write_audio(folder / "wavs" / f"{name}.wav", piece(samples, split), RATE, "WAV")
        rows.append(f"{name}|Words.|Words.\n")
        ctm += [f"{name} 1 {a} {b - a} {x} 1.0\n" for a, b, x in pieces[split]]
    (folder / "metadata.csv").write_text("".join(rows))
    (folder / "phones.ctm").write_text("".join(ctm))
    return {
        "kind": "ljspeech",
        "root": str(folder),
        "shares": {"valid": 1 / 3, "test": 1 / 3},
        "punctuation": ".",
        "alignments": str(folder / "phones.ctm"),
    }


def an4(folder, speech):
    """One CTM file names the recordings."""
    samples, _, pieces = speech
    (folder / "etc").mkdir(parents=True)
    ctm = []
    for split, own in {"train": "train", "valid": "train", "test": "test"}.items():
        (folder / "wav" / split).mkdir(parents=True)
        write_audio(folder / "wav" / split / f"an1-{split}-b.flac", piece(samples, split), RATE)
        for ending, line in (
            ("fileids", f"{split}/an1-{split}-b"),
            ("transcription", f"<s> WORDS </s> (an1-{split}-b)"),
        ):
            with (folder / "etc" / f"an4_{own}.{ending}").open("a") as table:
                table.write(f"{line}\n")
        ctm += [f"an1-{split}-b 1 {a} {b - a} {x} 1.0\n" for a, b, x in pieces[split]]
    (folder / "phones.ctm").write_text("".join(ctm))
    return {
        "kind": "an4",
        "root": str(folder),
        "held_out": {"valid": ["valid"]},
        "alignments": str(folder / "phones.ctm"),
    }


def kaldi(folder, speech):
    """Segments of one long recording, with the aligner's own file for all of it."""
    samples, grid, _ = speech
    (folder / "wav").mkdir(parents=True)
    write_audio(folder / "wav" / "long.flac", samples, RATE)
    for split, start in STARTS.items():
        (folder / split).mkdir()
        (folder / split / "wav.scp").write_text("rec wav/long.flac\n")
        (folder / split / "segments").write_text(f"{split}-1 rec {start} {start + SECONDS}\n")
        (folder / split / "text").write_text(f"{split}-1 words\n")
        (folder / split / "utt2spk").write_text(f"{split}-1 spk\n")
    (folder / "ali").mkdir()
    shutil.copy(grid, folder / "ali" / "rec.TextGrid")
    return {
        "kind": "kaldi",
        "root": str(folder),
        "audio_root": str(folder),
        "alignments": str(folder / "ali"),
    }


def lhotse(folder, speech):
    """One cut for each split, which starts a second before its supervision and has its phones."""
    samples, _, pieces = speech
    folder.mkdir()
    write_audio(folder / "long.flac", samples, RATE)
    cuts = {}
    for split, start in STARTS.items():
        items = [[x, start + a, b - a, None] for a, b, x in pieces[split]]
        supervision = {"id": f"{split}-1", "start": 1.0, "duration": SECONDS, "text": "words"}
        supervision |= {"speaker": "spk", "alignment": {"phone": items}}
        source = {"type": "file", "channels": [0], "source": "long.flac"}
        cut = {"id": split, "type": "MonoCut", "start": start - 1.0, "duration": SECONDS + 1.0}
        cut |= {"supervisions": [supervision], "recording": {"id": "rec", "sources": [source]}}
        cuts[split] = str(folder / f"{split}.jsonl")
        (folder / f"{split}.jsonl").write_text(json.dumps(cut) + "\n")
    return {"kind": "lhotse", "cuts": cuts, "audio_root": str(folder)}


@pytest.mark.parametrize("adapter", [librispeech, ljspeech, an4, kaldi, lhotse])
def test_from_its_own_files_to_the_stages_tables(tmp_path, speech, adapter):
    corpus = adapter(tmp_path / "corpus", speech)
    config = Config(variant="v", corpus=corpus, ssl=Ssl(model="m", revision="1"))
    output = Artifact(str(tmp_path / "output"))
    assert json.loads(json.dumps(STAGE.settings(config)))
    scores = STAGE.run(StageContext(config, output, {}, None))
    assert scores["rejects"] == 0
    utterances = from_table(output.read_table("corpus.parquet"))
    assert tuple(utterance.split for utterance in utterances) == SPLITS
    for utterance in utterances:
        assert (utterance.text, utterance.duration) == ("words", SECONDS)
        found_times = list(
            chain.from_iterable((part.start, part.end) for part in utterance.alignment)
        )
        expected = speech[2][utterance.split]
        assert [part.label for part in utterance.alignment] == [label for *_, label in expected]
        # .PHN is the coarsest format: whole samples.
        times = list(chain.from_iterable(part[:2] for part in expected))
        assert found_times == pytest.approx(times, abs=1.01 / RATE)
