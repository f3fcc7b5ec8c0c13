"""ARPA files and n-gram models, against the definition of back-off read from the lines themselves."""

import gzip
import itertools
import math
import re

import numpy as np
import pytest
from reference.ngrams import log_p, log_p_sentence, read, witten_bell

from pipeline.lm.arpa import LanguageModelError, read_arpa, write_arpa
from pipeline.lm.witten_bell import estimate

# Trigrams with words out of order, gaps at every length, a back-off above 0, and one that is missing.
ARPA = r"""
made by hand

\data\
ngram 1=6
ngram 2=5
ngram 3=2

\1-grams:
-99	<s>	-0.3
-0.9	</s>
-1.2	<unk>	-0.1
-0.6	b	0.05
-0.7	a	-0.4
-1.1	été	-0.2

\2-grams:
-0.25	<s> a	-0.15
-0.5	a b	-0.05
-0.4	b a
-0.9	b </s>
-0.1	<unk> a	-0.3

\3-grams:
-0.2	<s> a b
-0.05	a b </s>

\end\
"""
WORDS = ["a", "b", "été", "unheard", "<unk>"]


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "small.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return str(path)


def score(model, words):
    total, context = 0.0, model.begin()
    for word in words:
        log_prob, context = model.score(context, word)
        total += log_prob
    return total + model.score_end(context)


def test_every_sentence_has_the_probability_that_the_definition_gives(arpa):
    model, listed = read_arpa(arpa), read(ARPA)
    for length in range(5):
        for words in itertools.product(WORDS, repeat=length):
            assert score(model, words) == pytest.approx(log_p_sentence(listed, words), abs=1e-5)


def test_a_row_has_the_probability_of_every_word(arpa):
    model, listed = read_arpa(arpa), read(ARPA)
    for history in itertools.product(["a", "b", "été"], repeat=3):
        context = model.begin()
        for word in history:
            context = model.extend(context, model.id_of(word))
        row = model.log_probs(context)
        wanted = [log_p(listed, ("<s>", *history), word) for word in model.words]
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_contexts_are_no_longer_than_they_need_be(arpa):
    model = read_arpa(arpa)
    a, b, other = (model.id_of(word) for word in ("a", "b", "été"))
    assert model.extend(model.begin(), a) == (*model.begin(), a)
    assert model.extend(model.begin(), b) == (b,)
    assert model.extend((a, b), a) == (b, a)
    assert model.extend((a, b), other) == (other,)


def test_what_is_written_is_read_back(arpa, tmp_path):
    model = read_arpa(arpa)
    again = str(tmp_path / "again.arpa.gz")
    with gzip.open(tmp_path / "packed.arpa.gz", "wb") as file:
        file.write(ARPA.encode())
    write_arpa(str(tmp_path / "again.arpa"), model)
    # KenLM takes no section without an empty line before it.
    text = (tmp_path / "again.arpa").read_text(encoding="utf-8")
    assert all(f"\n\n{line}\n" in text for line in ("\\1-grams:", "\\2-grams:", "\\end\\"))
    (tmp_path / "again.arpa.gz").write_bytes(gzip.compress((tmp_path / "again.arpa").read_bytes()))
    for path in (again, str(tmp_path / "packed.arpa.gz"), str(tmp_path / "again.arpa")):
        same = read_arpa(path)
        for words in itertools.product(WORDS, repeat=3):
            assert score(same, words) == pytest.approx(score(model, words), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\\data\\", "data"), r"no line \\data\\: this is no ARPA file"),
        (("ngram 2=5", "ngram 2=6"), r":24: '\\\\3-grams:' is no 2-gram"),
        (("ngram 2=5", "ngram 2=4"), r":22: '-0.1\\t<unk> a\\t-0.3' where the 4 2-grams"),
        (("ngram 1=6\n", ""), r":5: 'ngram 2=5' where the number of 1-grams is due"),
        (("-0.7\ta", "x\ta"), r":14: 'x\\ta\\t-0.4' is no 1-gram"),
        (("-0.7\ta", "nan\ta"), r":14: 'nan\\ta\\t-0.4' is no 1-gram"),
        (("-0.7\ta", "0.7\ta"), "a 1-gram has a probability above 1"),
        (("b a\n", "b c\n"), "'c' is in an n-gram, but no single word"),
        (("b a\n", "a b\n"), "a 2-gram is listed twice"),
        (("a b </s>", "b b </s>"), "an n-gram is listed whose words but the last are not"),
        (("-0.7\ta", "-0.7\tb"), "a 1-gram is listed twice|is in an n-gram"),
        (("\\end\\", ""), "'nothing' where the 2 3-grams of the header should have ended"),
        (("-0.9\t</s>", "-0.9\tend"), "'</s>' is in an n-gram, but no single word"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, change, message):
    path = tmp_path / "broken.arpa"
    text = ARPA.replace(*change, 1)
    assert text != ARPA
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LanguageModelError, match=re.escape(str(path)) + ".*(" + message + ")"):
        read_arpa(str(path))


def test_files_that_cannot_be_read_at_all(tmp_path):
    with pytest.raises(LanguageModelError, match=r"gone.arpa: no such file"):
        read_arpa(str(tmp_path / "gone.arpa"))
    packed = tmp_path / "x.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(LanguageModelError, match="damaged or cut short"):
        read_arpa(str(packed))
    latin = tmp_path / "latin.arpa"
    latin.write_text(ARPA, encoding="latin-1")
    with pytest.raises(LanguageModelError, match=r"latin.arpa:15: it is not UTF-8"):
        read_arpa(str(latin))
    no_end = tmp_path / "no_end.arpa"
    no_end.write_text("\\data\\\nngram 1=2\n\\1-grams:\n-1 <s>\n-1 a\n\\end\\\n")
    with pytest.raises(LanguageModelError, match="lists no </s>"):
        read_arpa(str(no_end))


SENTENCES = [text.split() for text in ("a b a", "a b", "b b b c", "c", "a b c a", "")]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_witten_bell_is_its_formula_and_sums_to_one(length):
    model = estimate(SENTENCES, length)
    seen = {
        tuple(["<s>", *s][i:j]) for s in SENTENCES for i in range(5) for j in range(i, i + length)
    }
    for context in sorted(each for each in seen if len(each) < length):
        numbers = tuple(model.id_of(word) for word in context)
        row = np.exp(model.log_probs(numbers).astype(float))
        assert row.sum() == pytest.approx(1.0, abs=1e-6)
        for word in ("a", "b", "c", "</s>", "<unk>"):
            wanted = witten_bell(SENTENCES, length, context, word)
            assert row[model.id_of(word)] == pytest.approx(wanted, rel=1e-5)


def test_all_short_sentences_together_are_at_most_certain(tmp_path):
    path = str(tmp_path / "model.arpa")
    write_arpa(path, estimate(SENTENCES, 3))
    model = read_arpa(path)
    words = ["a", "b", "c", "<unk>"]
    total = sum(
        math.exp(score(model, text))
        for length in range(7)
        for text in itertools.product(words, repeat=length)
    )
    assert 0.9 < total < 1.0


def test_a_model_knows_its_texts_better_than_others():
    generator = np.random.default_rng(0)
    texts = [[generator.choice(["a", "b"]) for _ in range(3)] + ["c"] for _ in range(50)]
    model = estimate(texts, 3)
    assert score(model, ["a", "b", "a", "c"]) > score(model, ["c", "a", "b", "a"]) + 3
    with pytest.raises(ValueError, match="no sentence to count"):
        estimate([], 2)
    with pytest.raises(ValueError, match=r"\['<s>'\] have a meaning of their own"):
        estimate([["<s>", "a"]], 2)
