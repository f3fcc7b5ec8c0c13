"""Splits that the config does not name: counted in a line, or taken for another spelling."""

from collections import Counter

import pytest

from pipeline.audio.utterance import CorpusError, Utterance
from pipeline.config.corpus import CorpusSection, Splits
from pipeline.corpus.check import check
from pipeline.corpus.left_out import describe, require_named
from pipeline.progress import Progress

SPLITS = Splits()


def test_what_is_left_out_is_one_line_with_counts_and_the_largest_first():
    assert describe(Counter(), SPLITS) == []
    assert describe(Counter(dev=3, extra=10), SPLITS) == [
        "left out 13 utterances of splits that corpus.splits does not name: extra 10, dev 3"
    ]
    many = Counter({f"split{number}": 100 - number for number in range(50)})
    assert describe(many, SPLITS)[0].endswith("split8 92, split9 91 and 40 more")


@pytest.mark.parametrize("name", ["Train", "TRAIN", " train", "tr ain", "train\n", "\uff54rain"])
def test_another_spelling_of_a_named_split_gets_a_line_of_its_own(name):
    _, line = describe(Counter({name: 7, "training": 1}), SPLITS)
    assert line.startswith("is part of split 'train' left out? The corpus has '")
    assert "' with 7 utterances too" in line
    assert "\n" not in line


def test_a_split_that_the_corpus_spells_otherwise_is_refused():
    with pytest.raises(
        CorpusError, match=r"no split 'test', but 'Test' with 2 utterances: write it"
    ):
        require_named({"train", "valid"}, Counter(Test=2), SPLITS)
    require_named({"train", "valid", "test"}, Counter(Test=2), SPLITS)
    require_named({"train", "valid"}, Counter(eval=2), SPLITS)  # `require` lists what there is


def test_the_check_says_what_is_left_out_before_it_decodes_anything(monkeypatch):
    lines = []

    class Lines(Progress):
        def message(self, text):
            lines.append(text)

    utterances = [
        Utterance(f"{split}-1", split, "missing.wav", 0.0, 1.0, "ann", "a b")
        for split in ("train", "valid", "test", "Train", "dev")
    ]
    corpus = check(utterances, CorpusSection(kind="manifest"), Lines())
    assert corpus.left_out == Counter(Train=1, dev=1)
    assert lines[0].startswith("left out 2 utterances of splits")
    assert lines[1].startswith("is part of split 'train' left out?")
    with pytest.raises(CorpusError, match="no split 'train', but 'Train' with 1"):
        check(utterances[1:], CorpusSection(kind="manifest"), Lines())
