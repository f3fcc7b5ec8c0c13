import numpy as np
import pyarrow as pa
import pytest
from reference import significance as reference

from pipeline.metrics.significance import draws
from pipeline.metrics.word_errors import (
    ScoredUtterance,
    WordErrors,
    pooled,
    read_word_errors,
    stacked,
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
    """One training, or several if `errors` has a row for each."""
    utterances = [ScoredUtterance(name, f"u{i}", text) for i, name in enumerate(speakers)]
    return WordErrors(tuple(utterances), np.atleast_2d(errors))


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
    assert found.errors_NU.tolist() == [[0, 1, 3]]
    assert found.num_words.tolist() == [3, 2, 1]
    assert (found.speakers.tolist(), found.num_speakers) == (["a", "b", "b"], 2)
    assert found.rates.tolist() == [4 / 6]


def test_folds_are_one_test_set_and_seeds_are_rows():
    folds = [made([3, 0], "bc", "a b"), made([1], "a", "a b c d")]
    one = pooled(folds)
    assert one.utterances == (("a", "u0", "a b c d"), ("b", "u0", "a b"), ("c", "u1", "a b"))
    assert one.errors_NU.tolist() == [[1, 3, 0]]
    assert one.rates.tolist() == [4 / 8]  # not the mean over folds, (3 / 4 + 1 / 4) / 2
    other = pooled([made([1, 1], "bc", "a b"), made([2], "a", "a b c d")])
    both = stacked([one, other])
    assert both.errors_NU.tolist() == [[1, 3, 0], [2, 1, 1]]
    assert both.utterances == one.utterances
    assert (both.num_trainings, both.rates.tolist()) == (2, [0.5, 0.5])


def test_variants_are_compared_with_the_baseline_on_the_same_draws():
    speakers = "aaabbbccc"
    base, other = [2, 1, 3, 2, 2, 1, 4, 3, 2], [1, 1, 2, 0, 2, 1, 2, 3, 1]
    found = uncertainty({"dkm": made(other, speakers), "kmeans": made(base, speakers)}, "kmeans")
    same = [
        np.repeat(np.arange(9), times_U).tolist()
        for block_BU in draws(np.array(list(speakers)))
        for times_U in block_BU
    ]
    for variant, errors in (("kmeans", base), ("dkm", other)):
        edges = found[variant]["wer_low"], found[variant]["wer_high"]
        assert edges == reference.edges(reference.error_rates(same, errors, [4] * 9))
        assert found[variant]["wer_speakers"] == 3
    edges = found["dkm"]["wer_reduction_low"], found["dkm"]["wer_reduction_high"]
    reduced = reference.edges(reference.relative_reductions(same, other, base))
    assert edges == pytest.approx(reduced)
    # Five utterances differ, all in one direction.
    assert found["dkm"]["wer_reduction_p"] == pytest.approx(2 / 32, abs=0.01)
    # Each speaker has fewer errors.
    assert found["dkm"]["wer_reduction_p_speakers"] == pytest.approx(2 / 8, abs=0.02)
    assert "wer_reduction_p_seeds" not in found["dkm"]
    assert found["kmeans"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_the_same_errors_give_the_same_figures():
    errors = {"kmeans": made([1, 2, 0], "aab"), "dkm": made([1, 0, 0], "aab")}
    assert uncertainty(errors, "kmeans") == uncertainty(dict(reversed(errors.items())), "kmeans")


@pytest.mark.parametrize("other", [made([1, 0], "aa"), made([1, 0, 0], "aaa", "other text")])
def test_other_utterances_than_the_baselines_give_no_p(other):
    found = uncertainty({"kmeans": made([1, 2, 0], "aaa"), "dkm": other}, "kmeans")
    assert found["dkm"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_seeds_are_drawn_and_swapped_together():
    """Without speakers and utterances to draw, what is left is the choice of the seeds."""
    base = made([[4, 4], [4, 4]], "aa", "a b c d e f g h")
    two = made([[2, 2], [0, 0]], "aa", "a b c d e f g h")
    found = uncertainty({"kmeans": base, "two": two}, "kmeans")
    assert (found["two"]["wer_low"], found["two"]["wer_high"]) == (0, 0.25)
    edges = found["two"]["wer_reduction_low"], found["two"]["wer_reduction_high"]
    assert edges == (0.5, 1)
    assert found["two"]["wer_reduction_p"] == pytest.approx(2 / 4, abs=0.02)
    # 2 and 0 against 4 and 4 are the farthest apart of 6 ways to deal them out.
    assert found["two"]["wer_reduction_p_seeds"] == pytest.approx(2 / 6, abs=0.02)
    assert "wer_reduction_p_speakers" not in found["two"]


def test_different_numbers_of_seeds_are_compared_by_their_means():
    base = made([[3, 1, 2], [1, 3, 2], [2, 2, 2]], "abc")
    same = uncertainty({"kmeans": base, "one": made([2, 2, 2], "abc")}, "kmeans")["one"]
    assert same["wer_reduction_p"] == 1
    assert "wer_reduction_p_seeds" not in same  # one training cannot be dealt out


def test_a_variants_interval_does_not_depend_on_what_it_is_compared_with():
    several = made([[1, 2, 0], [2, 0, 3]], "aab")
    alone = uncertainty({"dkm": several}, "kmeans")["dkm"]
    beside = uncertainty({"kmeans": made([1, 2, 0], "aab"), "dkm": several}, "kmeans")["dkm"]
    assert alone.items() <= beside.items()


def test_the_gap_to_the_best_variant():
    kmeans, full = made([4, 4, 4, 4], "abab"), made([0, 0, 0, 0], "abab")
    errors = {"kmeans": kmeans, "dkm": made([1, 1, 1, 1], "abab"), "continuous": full}
    found = uncertainty(errors, "kmeans", "continuous")
    edges = found["dkm"]["gap_closed_low"], found["dkm"]["gap_closed_high"]
    assert edges == (0.75, 0.75)
    assert not {"gap_closed_low"} & (found["kmeans"].keys() | found["continuous"].keys())
    assert "gap_closed_low" not in uncertainty(errors, "kmeans")["dkm"]
    assert "gap_closed_low" not in uncertainty(errors, "kmeans", "not evaluated")["dkm"]


def test_without_the_baseline_there_are_intervals_alone():
    found = uncertainty({"dkm": made([1, 0], "ab")}, "kmeans")
    assert found["dkm"].keys() == {"wer_low", "wer_high", "wer_speakers"}


def test_one_utterance_tells_nothing():
    assert uncertainty({"kmeans": made([1], "a"), "dkm": made([0], "a")}, "kmeans") == {}
