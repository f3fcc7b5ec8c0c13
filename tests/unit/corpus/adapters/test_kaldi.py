import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.kaldi import ADAPTER, KaldiCorpus
from pipeline.progress import SILENT

COMPLETE = {"wav.scp": "a audio/a.wav\n", "text": "a hello there\n", "utt2spk": "a anna\n"}
CUT = {
    "wav.scp": "rec audio/rec.flac\n",
    "segments": "a rec 1.50 2.75\nb rec 2.75 -1\n",
    "text": "a hello there\nb yes\n",
    "utt2spk": "a anna\nb bert\n",
}


def write(root, split, files):
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def read(root, files, **values):
    """The entries of the training split; the others have one utterance each."""
    for split in ("valid", "test"):
        write(root, split, {name: text.replace("a ", "z ", 1) for name, text in COMPLETE.items()})
    write(root, "train", files)
    config = KaldiCorpus(root=str(root), audio_root=str(root), **values)
    entries = list(ADAPTER.read(config, None, SILENT))
    assert [entry.split for entry in entries[-2:]] == ["valid", "test"]
    return entries[:-2]


def test_complete_recordings(tmp_path):
    (utterance,) = read(tmp_path, COMPLETE)
    audio = f"{tmp_path}/audio/a.wav"
    assert utterance == Utterance("a", "train", audio, 0.0, TO_THE_END, "anna", "hello there")


def test_segments_of_a_recording_and_an_end_of_minus_one(tmp_path):
    first, second = read(tmp_path, CUT)
    audio = f"{tmp_path}/audio/rec.flac"
    assert first == Utterance("a", "train", audio, 1.5, 1.25, "anna", "hello there")
    assert second == Utterance("b", "train", audio, 2.75, TO_THE_END, "bert", "yes")


@pytest.mark.parametrize("address", ["/data/my audio.wav", "s3://bucket/a.wav"])
def test_an_absolute_address_is_kept_with_its_spaces(tmp_path, address):
    (utterance,) = read(tmp_path, {**COMPLETE, "wav.scp": f"a\t{address}\r\n"})
    assert utterance.audio == address


def test_ctm_by_recording_minus_the_offset_of_the_segment(tmp_path):
    ctm = tmp_path / "phones.ctm"
    ctm.write_text("rec 1 1.4 0.3 HH_B\nrec 1 1.7 1.0 AH0_E\nrec 1 2.7 0.4 Y_S\n")
    first, second = read(tmp_path, CUT, alignments=str(ctm))
    assert first.alignment == (
        Segment(0.0, 0.2, "HH_B"),
        Segment(0.2, 1.2, "AH0_E"),
        Segment(1.2, 1.25, "Y_S"),
    )
    assert second.alignment == (Segment(0.0, 0.35, "Y_S"),)


def test_a_recipe_on_an_object_store():
    for split in ("train", "valid", "test"):
        for name, content in CUT.items():
            with fsspec.open(f"memory://recipe/data/{split}/{name}", "w") as file:
                file.write(content)
    with fsspec.open("memory://recipe/ali.ctm", "w") as file:
        file.write("rec 1 1.5 1.25 a\n")
    config = KaldiCorpus(
        root="memory://recipe/data",
        audio_root="memory://recipe",
        alignments="memory://recipe/ali.ctm",
    )
    first, *_ = ADAPTER.read(config, None, SILENT)
    assert first.audio == "memory://recipe/audio/rec.flac"
    assert first.alignment == (Segment(0.0, 1.25, "a"),)


BAD = {
    "pipe": (COMPLETE, {"wav.scp": "a sph2pipe -f wav a.sph |\n"}, "wav.scp names a command"),
    "pipe without a space": (COMPLETE, {"wav.scp": "a cat a.wav|\n"}, "wav.scp names a command"),
    "archive": (COMPLETE, {"wav.scp": "a /data/wavs.ark:1234\n"}, "wav.scp names an archive"),
    "complete archive": (COMPLETE, {"wav.scp": "a data/wavs.ark\n"}, "wav.scp names an archive"),
    "stdin": (COMPLETE, {"wav.scp": "a -\n"}, "wav.scp names no file: 'a -'"),
    "no file": (COMPLETE, {"wav.scp": "a\n"}, "wav.scp names no file"),
    "no audio": (COMPLETE, {"wav.scp": ""}, "no audio: wav.scp has no 'a'"),
    "no text": (COMPLETE, {"text": ""}, "no transcript: text does not name it"),
    "no speaker": (COMPLETE, {"utt2spk": ""}, "no speaker: utt2spk does not name it"),
    "no segment": (CUT, {"segments": "b rec 0 1\n"}, "no audio: segments does not name it"),
    "no recording": (CUT, {"segments": "a x 0 1\nb rec 0 1\n"}, "no audio: wav.scp has no 'x'"),
    "channel": (CUT, {"segments": "a rec 0 1 A\nb rec 0 1\n"}, "segments names a channel"),
    "no times": (CUT, {"segments": "a rec\nb rec 0 1\n"}, "segments has no `recording start end`"),
    "words": (CUT, {"segments": "a rec 0 x\nb rec 0 1\n"}, "segments has no `recording start"),
    "backwards": (CUT, {"segments": "a rec 2 1\nb rec 0 1\n"}, "segments has a negative start"),
    "negative": (CUT, {"segments": "a rec -2 1\nb rec 0 1\n"}, "segments has a negative start"),
    "NaN": (CUT, {"segments": "a rec nan 1\nb rec 0 1\n"}, "segments has a negative start"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_rejected_with_its_reason_and_the_rest_is_kept(tmp_path, case):
    base, change, reason = BAD[case]
    entries = read(tmp_path, {**base, **change})
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    assert [entry.utt_id for entry in rejects] == ["a"]
    assert rejects[0].reason.startswith(reason)
    assert len(entries) == len(base["text"].splitlines())


def test_no_command_in_the_data_is_executed(tmp_path):
    trace = tmp_path / "ran"
    read(tmp_path, {**COMPLETE, "wav.scp": f"a touch {trace} |\n"})
    assert not trace.exists()


def test_duplicates_and_unused_recordings_are_rejected_by_line(tmp_path):
    files = {
        **CUT,
        "text": CUT["text"] + "a again\n",
        "wav.scp": CUT["wav.scp"] + "spare audio/spare.wav\n",
    }
    rejects = {
        entry.source: entry.reason for entry in read(tmp_path, files) if isinstance(entry, Reject)
    }
    assert rejects == {
        "train/text:3": "duplicate id: train/text:1 has it already",
        "train/wav.scp": "unused recording: no line of segments names it",
    }


def test_bytes_that_are_not_text_are_a_broken_line(tmp_path):
    broken, *_ = read(tmp_path, {**CUT, "text": b"c caf\xe9\n" + CUT["text"].encode()})
    assert broken == Reject(None, "train/text:1", "broken line: not UTF-8")


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk"])
def test_a_missing_file_is_one_clear_error(tmp_path, name):
    files = {key: value for key, value in COMPLETE.items() if key != name}
    with pytest.raises(
        CorpusError, match=rf"/train' has no {name}; .*\['test', 'train', 'valid'\]"
    ):
        read(tmp_path, files)


def test_a_missing_split_is_one_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=r"has no wav\.scp, text, utt2spk"):
        read(tmp_path, COMPLETE, splits=Splits(test=("test", "dev_other")))


IDS = st.lists(st.sampled_from("abcdef"), max_size=8)


@given(IDS, IDS, IDS, st.none() | IDS)
def test_every_row_is_an_utterance_or_a_reject(tmp_path_factory, wavs, texts, speakers, segments):
    files = {
        "wav.scp": "".join(f"{name} {name}.wav\n" for name in wavs),
        "text": "".join(f"{name} hello\n" for name in texts),
        "utt2spk": "".join(f"{name} spk\n" for name in speakers),
    }
    if segments is not None:
        files["segments"] = "".join(f"{name} {name} 0 1\n" for name in segments)
    entries = read(tmp_path_factory.mktemp("kaldi"), files)
    named = [*wavs, *texts, *speakers, *(segments or [])]
    assert {entry.utt_id for entry in entries} == set(named)
    complete = set(wavs) & set(texts) & set(speakers)
    expected = complete if segments is None else complete & set(segments)
    assert {entry.utt_id for entry in entries if isinstance(entry, Utterance)} == expected


PAIR = {
    "train": {
        "wav.scp": "a a.wav\nb b.wav\n",
        "text": "a hello\nb yes\n",
        "utt2spk": "a anna\nb bert\n",
    },
    "test": {
        "wav.scp": "c c.wav\nd d.wav\n",
        "text": "c hello\nd yes\n",
        "utt2spk": "c carl\nd dora\n",
    },
}


def speakers(root, *test, **held_out):
    """The split of each speaker, where `valid` has no folder."""
    for split, files in PAIR.items():
        write(root, split, files)
    splits = Splits(test=test)
    config = KaldiCorpus(root=str(root), audio_root=str(root), splits=splits, held_out=held_out)
    return {entry.speaker: entry.split for entry in ADAPTER.read(config, None, SILENT)}


def test_speakers_are_held_out_of_the_folders_that_are_there(tmp_path):
    found = speakers(tmp_path, "test", valid=("bert",), kept_aside=("dora",))
    assert found == {"anna": "train", "bert": "valid", "carl": "test", "dora": "kept_aside"}
    assert found == speakers(tmp_path, "test", "kept_aside", valid=("bert",), kept_aside=("dora",))


def test_a_held_out_speaker_whom_no_folder_has_is_one_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=r"train, test, have no speaker bart: correct"):
        speakers(tmp_path, "test", valid=("bart",))
    with pytest.raises(CorpusError, match=r"train, have no speaker dora: .*name in corpus.splits"):
        speakers(tmp_path, "kept_aside", valid=("bert",), kept_aside=("dora",))


def test_a_split_that_is_neither_a_folder_nor_held_out_is_one_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=r"/valid' has no wav.scp, text, utt2spk"):
        speakers(tmp_path, "test")
