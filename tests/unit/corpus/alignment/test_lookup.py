from dataclasses import replace

import pytest

from pipeline.audio.utterance import TO_THE_END, CorpusError, Extent, Segment, Utterance
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.alignment.lookup import Alignments, list_alignments

TEXTGRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n4\n<exists>\n2\n'
    '"IntervalTier"\n"words"\n0\n4\n1\n0\n4\n"oh no"\n'
    '"IntervalTier"\n"phones"\n0\n4\n2\n0\n1\n"OW1"\n1\n4\n"N"\n'
)
PHN = "0 16000 ow\n16000 64000 n\n"
CTM = "{name} 1 0.0 1.0 OW1_S 0.9\n{name} 1 1.0 3.0 N_B 0.9\n"


def config(source, **values):
    return ManifestCorpus(manifest="m.jsonl", alignments=str(source), **values)


def utterance(audio="/data/a/rec.wav", utt_id="u", offset=0.0, duration=TO_THE_END, **values):
    return Utterance(utt_id, "train", audio, offset, duration, "s", "oh no", **values)


def attach(source, utterance, **values):
    """The alignment that the utterance gets; the reject, if it cannot be used."""
    *rejects, kept = Alignments(config(source, **values)).attach(utterance)
    assert (kept.utt_id, kept.audio) == (utterance.utt_id, utterance.audio)
    for reject in rejects:
        assert (reject.what, kept.alignment) == ("alignment", None)
        return reject
    return kept.alignment


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("extension", "content", "labels"),
    [("TextGrid", TEXTGRID, ["OW1", "N"]), ("PHN", PHN, ["ow", "n"]), ("phn", PHN, ["ow", "n"])],
)
def test_a_file_beside_its_audio_counts_from_the_recordings_start(
    tmp_path, extension, content, labels
):
    write(tmp_path, f"a/rec.{extension}", content)
    complete = attach(tmp_path, utterance())
    assert [(segment.start, segment.end, segment.label) for segment in complete] == [
        (0.0, 1.0, labels[0]),
        (1.0, 4.0, labels[1]),
    ]
    part = attach(tmp_path, utterance(offset=0.5, duration=2.0))
    assert part == (Segment(0.0, 0.5, labels[0]), Segment(0.5, 2.0, labels[1]))


def test_a_file_named_after_the_utterance_counts_from_the_utterances_start(tmp_path):
    write(tmp_path, "speaker/u.TextGrid", TEXTGRID)
    alignment = attach(tmp_path, utterance(offset=7.0, duration=4.0))
    assert alignment == (Segment(0.0, 1.0, "OW1"), Segment(1.0, 4.0, "N"))


@pytest.mark.parametrize(
    ("name", "recording", "start"),
    [
        ("R", "R", 0.5),
        ("rec", None, 0.5),
        ("a/rec", None, 0.5),
        ("u", None, 1.0),
        ("u", "R", 1.0),
    ],
)
def test_a_ctm_is_found_by_recording_address_or_utterance(tmp_path, name, recording, start):
    path = write(tmp_path, "ali.ctm", CTM.format(name=name))
    for source in (path, tmp_path):
        alignment = attach(source, utterance(offset=0.5, recording=recording))
        assert [part.label for part in alignment] == ["OW1_S", "N_B"]
        assert alignment[1].start == start


def test_the_same_name_in_other_folders_is_another_recording(tmp_path):
    write(tmp_path, "dr1/spk/SA1.PHN", PHN)
    assert attach(tmp_path, utterance("/timit/dr1/spk/SA1.WAV")) is not None
    assert attach(tmp_path, utterance("/timit/dr2/other/SA1.WAV")) is None


def test_two_files_named_after_one_utterance_are_a_reject(tmp_path):
    write(tmp_path, "x/u.PHN", PHN)
    write(tmp_path, "y/u.PHN", PHN)
    reject = attach(tmp_path, utterance())
    assert reject.reason == "several alignments of one name: x/u.PHN, y/u.PHN"


def test_two_files_beside_one_recording_are_a_reject(tmp_path):
    write(tmp_path, "a/rec.PHN", PHN)
    write(tmp_path, "a/rec.phn", PHN)
    reject = attach(tmp_path, utterance())
    assert reject.reason == "several alignments of one name: a/rec.PHN, a/rec.phn"


def test_a_broken_file_is_a_reject_of_its_utterances(tmp_path):
    write(tmp_path, "u.TextGrid", TEXTGRID[:70])
    reject = attach(tmp_path, utterance())
    assert (reject.utt_id, reject.source) == ("u", "/data/a/rec.wav")
    assert reject.reason == "TextGrid is cut short: a text has no closing quote (u.TextGrid)"


def test_an_alignment_of_the_corpus_itself_is_kept(tmp_path):
    write(tmp_path, "u.TextGrid", TEXTGRID)
    own = (Segment(0.0, 1.0, "x"),)
    assert attach(tmp_path, utterance(alignment=own)) == own


def test_another_tier_and_a_missing_one(tmp_path):
    write(tmp_path, "u.TextGrid", TEXTGRID)
    alignment = attach(tmp_path, utterance(), alignment_tier="words")
    assert alignment == (Segment(0.0, 4.0, "oh no"),)
    missing = attach(tmp_path, utterance(), alignment_tier="phonemes")
    assert missing.reason == (
        "TextGrid has no such interval tier: 'phonemes', but 'phones', 'words'; set "
        "corpus.alignment_tier, which may hold {speaker} and {utt_id} (u.TextGrid)"
    )


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("s - phones", "phones"),
        ("s - phones", "{speaker} - phones"),
        ("u of s", "{utt_id} of {speaker}"),
        ("phones", "phones"),
    ],
)
def test_the_tier_of_the_utterances_speaker_or_of_the_utterance(tmp_path, name, tier):
    others = TEXTGRID.replace('"words"', '"bob - phones"')
    write(tmp_path, "u.TextGrid", others.replace('"phones"', f'"{name}"'))
    alignment = attach(tmp_path, utterance(), alignment_tier=tier)
    assert [segment.label for segment in alignment] == ["OW1", "N"]


def test_two_speakers_of_one_recording_have_their_own_tiers(tmp_path):
    content = TEXTGRID.replace('"words"', '"ann - phones"').replace('"phones"', '"bob - phones"')
    write(tmp_path, "rec.TextGrid", content)
    alignments = Alignments(config(tmp_path))
    labels = {}
    for speaker in ("ann", "bob"):
        (aligned,) = alignments.attach(replace(utterance(), speaker=speaker))
        labels[speaker] = [segment.label for segment in aligned.alignment]
    assert labels == {"ann": ["oh no"], "bob": ["OW1", "N"]}


@pytest.mark.parametrize("tier", ["{speakers}", "{}", "{speaker", "{0}", "{speaker.x}"])
def test_a_tier_may_not_name_anything_else(tmp_path, tier):
    with pytest.raises(ValueError, match=r"only \{speaker\} and \{utt_id\} may be in braces"):
        config(tmp_path, alignment_tier=tier)


def test_the_rate_of_a_phn(tmp_path):
    write(tmp_path, "u.PHN", PHN)
    alignment = attach(tmp_path, utterance(), alignment_sample_rate_hz=8000)
    assert alignment == (Segment(0.0, 2.0, "ow"), Segment(2.0, 8.0, "n"))


def test_a_part_knows_how_far_its_recordings_alignment_reaches(tmp_path):
    write(tmp_path, "rec.PHN", PHN)
    (part,) = Alignments(config(tmp_path)).attach(utterance(offset=0.5, duration=1.0))
    assert part.extent == Extent(4.0, complete=False)
    write(tmp_path, "rec.PHN", PHN.replace("ow", "h#"))
    (part,) = Alignments(config(tmp_path)).attach(utterance(offset=0.5, duration=1.0))
    assert part.extent == Extent(4.0, complete=True)


def test_a_time_that_cutting_would_hide_is_refused_with_its_file(tmp_path):
    write(tmp_path, "rec.PHN", PHN.replace("0 16000", "-16000 16000"))
    reject = attach(tmp_path, utterance(offset=0.5, duration=1.0))
    assert reject.reason == "alignment has a negative time: 'ow' from -1 to 1 s (rec.PHN)"


def test_a_file_of_another_extension_by_its_format(tmp_path):
    path = write(tmp_path, "ali.txt", CTM.format(name="u"))
    assert attach(path, utterance(), alignment_format="ctm") is not None
    with pytest.raises(CorpusError, match="is not a file or folder of alignments"):
        Alignments(config(path))


def test_a_folder_of_several_formats_asks_which(tmp_path):
    write(tmp_path, "u.TextGrid", TEXTGRID)
    write(tmp_path, "u.PHN", PHN)
    write(tmp_path, "notes.txt", "")
    with pytest.raises(CorpusError, match=r"\['phn', 'textgrid'\]: set corpus.alignment_format"):
        Alignments(config(tmp_path))
    alignment = attach(tmp_path, utterance(), alignment_format="phn")
    assert [segment.label for segment in alignment] == ["ow", "n"]


@pytest.mark.parametrize("source", ["nowhere", "nowhere/a.ctm", "."])
def test_missing_alignments_are_one_clear_error(tmp_path, source):
    with pytest.raises(CorpusError, match=r"not a file or folder of alignments .*: check the path"):
        Alignments(config(tmp_path / source))


def test_alignments_of_another_corpus_are_refused(tmp_path):
    write(tmp_path, "other.TextGrid", TEXTGRID)
    alignments = Alignments(config(tmp_path))
    alignments.require_matches()  # a corpus of no utterances is another check's concern
    assert list(alignments.attach(utterance())) == [utterance()]
    with pytest.raises(CorpusError, match=r"'u'.*'/data/a/rec\.wav'.*such as 'other\.TextGrid'"):
        alignments.require_matches()
    list(alignments.attach(utterance(utt_id="other")))
    alignments.require_matches()


def test_without_the_key_there_are_no_alignments():
    unaligned = ManifestCorpus(manifest="m.jsonl")
    alignments = Alignments(unaligned)
    assert list_alignments(unaligned) is None
    assert list(alignments.attach(utterance())) == [utterance()]
    alignments.require_matches()
