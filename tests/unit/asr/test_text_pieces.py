import pytest

from pipeline import config
from pipeline.asr.text_pieces import FIRST_PIECE, TextPieceError, TextPieces

TEXTS = ["the cat sat on the mat", "a dog's day", "the dog sat", "cats and dogs sat on mats"] * 5
CHARACTERS = config.TextPieces(kind="characters")
PIECES = config.TextPieces(kind="sentencepiece", vocabulary_size=20)


@pytest.mark.parametrize("settings", [CHARACTERS, PIECES])
def test_text_comes_back_also_after_saving(settings, tmp_path):
    pieces = TextPieces.train(settings, TEXTS)
    pieces.save(tmp_path)
    loaded = TextPieces.load(tmp_path)
    assert len(loaded) == len(pieces)
    for text in TEXTS:
        ids = pieces.encode(text)
        assert all(FIRST_PIECE <= piece < len(pieces) for piece in ids)
        assert pieces.decode(ids) == text
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text


def test_characters_are_the_sorted_alphabet():
    pieces = TextPieces.train(CHARACTERS, ["ba c", "ab"])
    assert len(pieces) == 2 + 4
    assert pieces.encode(" abc") == [2, 3, 4, 5]


def test_pieces_are_as_many_as_asked_and_every_id_decodes():
    pieces = TextPieces.train(PIECES, TEXTS)
    assert len(pieces) == 20 + 1  # blank and sentence edge come in, "unknown" goes out
    assert max(max(pieces.encode(text)) for text in TEXTS) < len(pieces)
    assert "⁇" not in pieces.decode(range(FIRST_PIECE, len(pieces)))


def test_pieces_are_longer_than_characters():
    ids = TextPieces.train(PIECES, TEXTS).encode("the cat sat")
    assert len(ids) < len("the cat sat")


def test_the_same_texts_give_the_same_model():
    assert TextPieces.train(PIECES, TEXTS).model == TextPieces.train(PIECES, TEXTS).model


@pytest.mark.parametrize("settings", [CHARACTERS, PIECES])
def test_an_unknown_character_is_named(settings):
    pieces = TextPieces.train(settings, TEXTS)
    with pytest.raises(
        TextPieceError, match=r"^characters in no training transcript: \['ç'\] in 'the çat'"
    ):
        pieces.encode("the çat")


@pytest.mark.parametrize("piece", [0, 1, -1, 1000])
def test_an_id_without_a_piece_is_rejected(piece):
    with pytest.raises(TextPieceError, match=f"id {piece} stands for no piece of text"):
        TextPieces.train(CHARACTERS, TEXTS).decode([3, piece])


def test_too_large_a_vocabulary_names_the_setting():
    settings = config.TextPieces(kind="sentencepiece", vocabulary_size=5000)
    with pytest.raises(TextPieceError, match=r"set asr\.text\.vocabulary_size to \d+ or less$"):
        TextPieces.train(settings, TEXTS)


def test_no_text_is_rejected():
    with pytest.raises(TextPieceError, match="no text to make pieces from"):
        TextPieces.train(CHARACTERS, ["", " "])
