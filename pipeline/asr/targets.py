"""What the ASR model learns to write: the pieces, and the target of each utterance.

Imports no PyTorch, so that a run can check the texts before it computes anything from the audio.
"""

from collections.abc import Sequence

from pipeline.asr.subsampling import fits
from pipeline.asr.text_pieces import TextPieceError, TextPieces
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Reject, Utterance
from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split
from pipeline.corpus.summary import commonest
from pipeline.features.size import grid_of
from pipeline.storage.artifacts import Artifact


def text_pieces(config: Config, corpus: Artifact) -> TextPieces:
    """The ASR model's pieces of text, made from the training transcripts.

    Raises:
        TextPieceError: the settings do not suit these transcripts.
    """
    texts = [utterance.text for utterance in read_split(corpus, config.corpus.splits.train)]
    return TextPieces.train(config.asr.text, texts)


def target_of(text: str, num_frames: int, pieces: TextPieces, subsampling: int) -> tuple[int, ...]:
    """The text as ids of pieces, without sentence edges.

    Args:
        text: of an utterance.
        num_frames: of the SSL model.
        pieces: what the ASR model writes.
        subsampling: how many of the frames become one.

    Raises:
        UnusableError: a character has no piece, or CTC cannot align so long a text.
    """
    try:
        target = tuple(pieces.encode(text))
    except TextPieceError as error:
        raise UnusableError(str(error)) from None
    if not fits(num_frames, target, subsampling):
        raise UnusableError(
            f"text is longer than its frames allow: {len(target)} pieces in {num_frames} frames, of "
            f"which asr.subsampling keeps one in {subsampling}"
        )
    return target


def check_targets(config: Config, corpus: Artifact) -> None:
    """Refuse texts that cannot be learnt, from the output of prepare_corpus alone.

    Raises:
        TextPieceError: no pieces can be made of the training transcripts.
        CorpusError: a larger share of a split than `corpus.max_reject_share` cannot be trained on.
    """
    pieces = text_pieces(config, corpus)
    for split in (config.corpus.splits.train, config.corpus.splits.valid):
        utterances = read_split(corpus, split)
        rejects = _rejects(utterances, pieces, config.asr.subsampling, grid_of(config))
        if len(rejects) > config.corpus.max_reject_share * len(utterances):
            raise CorpusError(
                f"{len(rejects)} of {len(utterances)} utterances of split '{split}' cannot be trained "
                f"on, more than corpus.max_reject_share {config.corpus.max_reject_share:g} allows:\n"
                f"{commonest(rejects)}\n"
                "Mend the texts, change asr.text, asr.subsampling or features.pool, or raise "
                "corpus.max_reject_share"
            )


def _rejects(
    utterances: Sequence[Utterance], pieces: TextPieces, subsampling: int, grid: FrameGrid
) -> list[Reject]:
    rejects = []
    for utterance in utterances:
        num_frames = grid.num_frames(round(utterance.duration * grid.sample_rate_hz))
        try:
            target_of(utterance.text, num_frames, pieces, subsampling)
        except UnusableError as error:
            rejects.append(Reject(utterance.utt_id, utterance.audio, str(error)))
    return rejects
