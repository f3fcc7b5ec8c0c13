import numpy as np
import pyarrow as pa
import pytest
from reference import significance as reference

from pipeline.metrics.significance import draws
from pipeline.metrics.word_errors import (
    ScoredUtterance,
    WordErrors,
    read_word_errors,
    uncertainty,
)
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact


def corpus(folder, *rows):
    """An output of prepare_corpus, as far as it is read: utt_id, split, speaker."""
    names = ("utt_id", "split", "speaker")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    output = Artifact(str(folder / "corpus"))
    output.write_table("corpus.parquet", table)
    return output


def hypotheses(folder, *rows):
    """An output of evaluate_asr: utt_id, search, reference, three counts."""
    names = ("utt_id", "search", "reference", "substitutions", "insertions", "deletions")
    table = pa.Table.from_pylist(
        [{**dict(zip(names, row, strict=True)), "split": "test", "hypothesis": ""} for row in rows],
        schema=table_schemas.HYPOTHESES,
    )
    output = Artifact(str(folder / "scored"))
    output.write_table("hypotheses.parquet", table)
    return output


def made(errors, speakers, text="a b c d"):
    utterances = [ScoredUtterance(name, f"u{i}", text) for i, name in enumerate(speakers)]
    return WordErrors(tuple(utterances), np.array(errors))


def test_the_beam_search_is_read_with_speakers_and_sorted(tmp_path):
    known = corpus(
        tmp_path, ("u2", "test", "b"), ("u1", "test", "b"), ("u3", "test", "a"), ("u1", "x", "c")
    )
    scored = hypotheses(
        tmp_path,
        ("u1", "greedy", "one two", 9, 9, 9),
        ("u2", "beam", "one", 1, 2, 0),
        ("u1", "beam", "one two", 0, 0, 1),
        ("u3", "beam", "one two three", 0, 0, 0),
    )
    found = read_word_errors(scored, known, "test")
    assert found.utterances == (
        ("a", "u3", "one two three"),
        ("b", "u1", "one two"),
        ("b", "u2", "one"),
    )
    assert found.errors_U.tolist() == [0, 1, 3]
    assert found.num_words.tolist() == [3, 2, 1]
    assert (found.speakers.tolist(), found.num_speakers) == (["a", "b", "b"], 2)


def test_variants_are_compared_with_the_baseline_on_the_same_draws():
    speakers = "aaabbbccc"
    base, other = [2, 1, 3, 2, 2, 1, 4, 3, 2], [1, 1, 2, 0, 2, 1, 2, 3, 1]
    found = uncertainty({"dkm": made(other, speakers), "kmeans": made(base, speakers)}, "kmeans")
    same = [drawn.tolist() for drawn in draws(np.array(list(speakers)))]
    for variant, errors in (("kmeans", base), ("dkm", other)):
        edges = found[variant]["wer_low"], found[variant]["wer_high"]
        assert edges == reference.edges(reference.error_rates(same, errors, [4] * 9))
        assert found[variant]["wer_speakers"] == 3
    edges = found["dkm"]["wer_reduction_low"], found["dkm"]["wer_reduction_high"]
    reduced = reference.edges(reference.relative_reductions(same, other, base))
    assert edges == pytest.approx(reduced)
    # Five utterances differ, all in one direction.
    assert found["dkm"]["wer_reduction_p"] == pytest.approx(2 / 32, abs=0.01)
    assert found["kmeans"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_the_same_errors_give_the_same_figures():
    errors = {"kmeans": made([1, 2, 0], "aab"), "dkm": made([1, 0, 0], "aab")}
    assert uncertainty(errors, "kmeans") == uncertainty(dict(reversed(errors.items())), "kmeans")


@pytest.mark.parametrize("other", [made([1, 0], "aa"), made([1, 0, 0], "aaa", "other text")])
def test_other_utterances_than_the_baselines_give_no_p(other):
    found = uncertainty({"kmeans": made([1, 2, 0], "aaa"), "dkm": other}, "kmeans")
    assert found["dkm"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_without_the_baseline_there_are_intervals_alone():
    found = uncertainty({"dkm": made([1, 0], "ab")}, "kmeans")
    assert found["dkm"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_one_utterance_tells_nothing():
    assert uncertainty({"kmeans": made([1], "a"), "dkm": made([0], "a")}, "kmeans") == {}
