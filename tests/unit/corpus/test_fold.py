"""A fold: which utterances it has, in which split, and which corpora have none."""

import json

import pytest

from pipeline.audio.utterance import CorpusError, Utterance
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.fold import in_fold, require_speakers
from pipeline.progress import SILENT, Progress

WHOLE = ManifestCorpus(manifest="m.jsonl", splits=Splits(test=("seen", "unseen")), folds="speaker")
ROWS = [
    ("a1", "train", "ann"),
    ("a2", "valid", "ann"),
    ("a3", "seen", "ann"),
    ("b1", "train", "bob"),
    ("b2", "valid", "bob"),
    ("b3", "seen", "bob"),
    ("c1", "unseen", "cem"),
]


def said(rows):
    return [Utterance(utt_id, split, "a.wav", 0.0, 1.0, who, "x") for utt_id, split, who in rows]


def shown(utterances):
    return [(each.utt_id, each.split) for each in utterances]


def test_the_speaker_is_tested_and_the_others_are_trained_and_validated_on():
    sent = []
    fold = WHOLE.leaving_out("ann")
    assert shown(in_fold(said(ROWS), fold, Progress(sent.append))) == [
        ("a1", "test"),
        ("a2", "test"),
        ("a3", "test"),
        ("b1", "train"),
        ("b2", "valid"),
    ]
    assert sent == [
        "leaves out ann: 3 utterances to test on; 2 of the others' are in test splits and are not used"
    ]
    assert shown(in_fold(said(ROWS), WHOLE.leaving_out("cem"), SILENT)) == [
        ("c1", "test"),
        ("a1", "train"),
        ("b1", "train"),
        ("a2", "valid"),
        ("b2", "valid"),
    ]


def test_without_a_fold_nothing_changes():
    assert in_fold(said(ROWS), WHOLE, SILENT) == said(ROWS)


def test_a_speaker_is_known_however_his_name_is_spelled():
    rows = [("e1", "train", " Ren\u0065\u0301 "), *ROWS]
    found = in_fold(said(rows), WHOLE.leaving_out("Ren\u00e9"), SILENT)
    assert [each.utt_id for each in found if each.split == "test"] == ["e1"]


def test_a_fold_knows_the_corpus_that_it_is_one_of():
    fold = WHOLE.leaving_out("ann")
    assert fold.splits.names == ("train", "valid", "test")
    assert fold.scored_splits == WHOLE.scored_splits == ("test",)
    assert fold.whole == WHOLE.leaving_out("bob").whole == WHOLE.model_copy(update={"folds": ()})
    assert type(fold).model_validate(fold.model_dump()) == fold


def test_a_speaker_who_says_nothing_is_an_error_that_names_the_others():
    message = (
        r"leaves out 'dan', who says .* \['train', 'valid', 'seen', 'unseen'\]; .* \['ann', 'bob'"
    )
    with pytest.raises(CorpusError, match=message):
        in_fold(said(ROWS), WHOLE.leaving_out("dan"), SILENT)


def test_a_fold_without_training_or_validation_is_an_error():
    alone = [row for row in ROWS if row[2] != "bob"]
    with pytest.raises(CorpusError, match=r"nobody else speaks in \['train', 'valid'\]"):
        in_fold(said(alone), WHOLE.leaving_out("ann"), SILENT)


def test_listed_speakers_are_looked_for_before_anything_is_prepared(tmp_path):
    rows = [
        {"utt_id": utt_id, "split": split, "speaker": f" {who}", "audio": "gone.wav", "text": "x"}
        for utt_id, split, who in [*ROWS, ("d1", "unnamed", "dan")]
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))

    def listed(*folds):
        return WHOLE.model_copy(update={"manifest": str(manifest), "folds": folds})

    require_speakers(listed("cem", "ann"))
    message = (
        r"corpus\.folds leaves out 'dan', who says nothing in the splits \['train', 'valid', 'seen', "
        r"'unseen'\]; the speakers there are \['ann', 'bob', 'cem'\]: correct the name"
    )
    with pytest.raises(CorpusError, match=message):
        require_speakers(listed("ann", "dan"))
