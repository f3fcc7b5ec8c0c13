"""Joint decoding by trying every text there is, and beam search with whole texts in plain Python.

A text is a tuple of pieces; `score` gives its whole score, the sentence's end included.
"""

import itertools


def ranked_texts(pieces, max_pieces, score):
    """Every text of at most `max_pieces` pieces with its score, best first."""
    texts = (
        text
        for length in range(max_pieces + 1)
        for text in itertools.product(pieces, repeat=length)
    )
    return sorted(((text, score(text)) for text in texts), key=lambda found: -found[1])


def beam_search(pieces, beam_size, max_pieces, score, partial_score):
    """What a beam meets: every text in it also counts as complete. It never stops early.

    `partial_score(text)` ranks texts of one length, of which `beam_size` are kept.
    """
    beam, met = [()], {(): score(())}
    for _ in range(max_pieces):
        longer = [(*text, piece) for text in beam for piece in pieces]
        beam = sorted(longer, key=partial_score, reverse=True)[:beam_size]
        met |= {text: score(text) for text in beam}
    return sorted(met.items(), key=lambda found: -found[1])
