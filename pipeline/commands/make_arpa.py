"""`make-arpa`: an n-gram language model from texts, for the search."""

from collections.abc import Sequence

from rich.console import Console

from pipeline.asr.text_pieces import TextPieceError, TextPieces
from pipeline.commands.find_model import load_model
from pipeline.commands.text_sources import sentences_of
from pipeline.config import ConfigError
from pipeline.lm.arpa import write_arpa
from pipeline.lm.piece_scorer import written
from pipeline.lm.witten_bell import estimate
from pipeline.storage.folders import printable
from pipeline.storage.writable import require_writable


def make_arpa(
    texts: Sequence[str],
    output: str,
    console: Console,
    *,
    length: int,
    split: str,
    model: str | None,
) -> None:
    """Write an ARPA file with Witten-Bell smoothing.

    Args:
        texts: outputs of prepare_corpus, of which `split` is read, and text files with a sentence on
            each line.
        output: the file.
        console: where it is told how much was read.
        length: of the longest n-grams.
        split: see `texts`.
        model: an output of train_joint, whose pieces of text the n-grams are of; None for words.

    Raises:
        ConfigError: a text cannot be read, or there is none.
        UnwritableError: the output cannot be written, which is found before any work.
    """
    require_writable(output, as_file=True)
    sentences = sentences_of(texts, split)
    if model is not None:
        pieces = load_model(f"{model.rstrip('/')}/asr", "asr", TextPieces.load)
        tokens = [_in_pieces(sentence, pieces) for sentence in sentences]
    else:
        tokens = [sentence.split() for sentence in sentences]
    try:
        ngrams = estimate(tokens, length)
    except ValueError as error:
        raise ConfigError(f"no language model can be made of {', '.join(texts)}: {error}") from None
    write_arpa(output, ngrams)
    counts = ", ".join(str(len(order.keys)) for order in ngrams.orders)
    line = (
        f"{len(sentences)} sentences, n-grams by length: {counts}, written to {printable(output)}"
    )
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _in_pieces(sentence: str, pieces: TextPieces) -> list[str]:
    try:
        return [written(pieces, piece) for piece in pieces.encode(sentence)]
    except TextPieceError as error:
        raise ConfigError(str(error)) from None
