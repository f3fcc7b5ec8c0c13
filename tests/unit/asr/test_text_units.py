import pytest

from pipeline import config
from pipeline.asr.text_units import FIRST_UNIT, TextUnits, TextUnitsError

TEXTS = ["the cat sat on the mat", "a dog's day", "the dog sat", "cats and dogs sat on mats"] * 5
CHARACTERS = config.TextUnits(kind="characters")
PIECES = config.TextUnits(kind="sentencepiece", vocabulary_size=20)


@pytest.mark.parametrize("settings", [CHARACTERS, PIECES])
def test_text_comes_back_also_after_saving(settings, tmp_path):
    units = TextUnits.train(settings, TEXTS)
    units.save(tmp_path)
    loaded = TextUnits.load(tmp_path)
    assert len(loaded) == len(units)
    for text in TEXTS:
        ids = units.encode(text)
        assert all(FIRST_UNIT <= unit < len(units) for unit in ids)
        assert units.decode(ids) == text
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text


def test_characters_are_the_sorted_alphabet():
    units = TextUnits.train(CHARACTERS, ["ba c", "ab"])
    assert len(units) == 2 + 4
    assert units.encode(" abc") == [2, 3, 4, 5]


def test_pieces_are_as_many_as_asked_and_every_id_decodes():
    units = TextUnits.train(PIECES, TEXTS)
    assert len(units) == 20 + 1  # blank and sentence edge come in, "unknown" goes out
    assert max(max(units.encode(text)) for text in TEXTS) < len(units)
    assert "⁇" not in units.decode(range(FIRST_UNIT, len(units)))


def test_pieces_are_longer_than_characters():
    ids = TextUnits.train(PIECES, TEXTS).encode("the cat sat")
    assert len(ids) < len("the cat sat")


def test_the_same_texts_give_the_same_model():
    assert TextUnits.train(PIECES, TEXTS).model == TextUnits.train(PIECES, TEXTS).model


@pytest.mark.parametrize("settings", [CHARACTERS, PIECES])
def test_an_unknown_character_is_named(settings):
    units = TextUnits.train(settings, TEXTS)
    with pytest.raises(TextUnitsError, match=r"'the ça[tb]' holds \['ç'\]"):
        units.encode("the çat")


@pytest.mark.parametrize("unit", [0, 1, -1, 1000])
def test_an_id_without_a_unit_is_refused(unit):
    with pytest.raises(TextUnitsError, match=f"id {unit} stands for no text unit"):
        TextUnits.train(CHARACTERS, TEXTS).decode([3, unit])


def test_too_large_a_vocabulary_names_the_setting():
    settings = config.TextUnits(kind="sentencepiece", vocabulary_size=5000)
    with pytest.raises(TextUnitsError, match=r"asr\.text\.vocabulary_size"):
        TextUnits.train(settings, TEXTS)


def test_no_text_is_refused():
    with pytest.raises(TextUnitsError, match="no text"):
        TextUnits.train(CHARACTERS, ["", " "])
