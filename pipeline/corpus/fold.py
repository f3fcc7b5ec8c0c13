"""A fold of a corpus: one speaker is tested, and nothing of him is heard before."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.audio.utterance import CorpusError, Utterance, first_of_each_split
from pipeline.config.corpus import FOLD_TEST, CorpusSection, speaker_name
from pipeline.progress import Progress

_MOST_NAMED = 20


def in_fold(
    utterances: Sequence[Utterance], config: CorpusSection, progress: Progress
) -> Sequence[Utterance]:
    """The utterances with the splits that they have in the config's fold; all, if it is none.

    All that the fold's speaker says is its test split. Of the others, what is in a test split is
    left out.

    Args:
        utterances: of the named splits of the whole corpus.
        config: its splits are those of the fold.
        progress: is told how many are left out.

    Raises:
        CorpusError: the speaker says nothing, or nobody else speaks in a split that training needs.
    """
    speaker, splits = config.fold.speaker, config.splits
    if not speaker:
        return utterances
    left_out = [each for each in utterances if speaker_name(each.speaker) == speaker]
    if not left_out:
        names = sorted({speaker_name(each.speaker) for each in utterances})
        raise CorpusError(
            f"corpus.folds leaves out '{speaker}', who says nothing in the splits "
            f"{list(config.whole.splits.names)}; the speakers there are {names[:_MOST_NAMED]}"
            f"{', …' * (len(names) > _MOST_NAMED)}: correct the name"
        )
    training = (splits.train, splits.valid)
    others = [each for each in utterances if speaker_name(each.speaker) != speaker]
    heard = [each for each in others if each.split in training]
    if missing := sorted({*training} - {each.split for each in heard}):
        raise CorpusError(
            f"corpus.folds leaves out '{speaker}', and nobody else speaks in {missing}: there must be "
            "other speakers to train on and to validate on"
        )
    progress.message(
        f"leaves out {speaker}: {len(left_out)} utterances to test on; {len(others) - len(heard)} of "
        "the others' are in test splits and are not used"
    )
    tested = [replace(each, split=FOLD_TEST) for each in left_out]
    return first_of_each_split([*heard, *tested], limit=None)
