"""A fold of a corpus: one speaker is tested, and nothing of him is heard before."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.audio.utterance import CorpusError, Utterance, first_of_each_split
from pipeline.config.corpus import FOLD_TEST, CorpusSection, speaker_name
from pipeline.corpus.adapter import adapter_of
from pipeline.progress import Progress

_MOST_NAMED = 20


def require_speakers(config: CorpusSection) -> None:
    """Refuse a list of folds with somebody who is not in the corpus; reads no audio.

    Raises:
        CorpusError: names the first of them, and the speakers that there are; or the corpus does not exist.
    """
    if config.folds == "speaker" or not config.folds:
        return
    present = {speaker_name(speaker) for speaker in adapter_of(config).speakers(config)}
    for speaker in config.folds:
        if speaker not in present:
            raise _silent(speaker, present, config)


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
        raise _silent(speaker, {speaker_name(each.speaker) for each in utterances}, config)
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


def _silent(speaker: str, present: Iterable[str], config: CorpusSection) -> CorpusError:
    names = sorted(present)
    return CorpusError(
        f"corpus.folds leaves out '{speaker}', who says nothing in the splits "
        f"{list(config.whole.splits.names)}; the speakers there are {names[:_MOST_NAMED]}"
        f"{', …' * (len(names) > _MOST_NAMED)}: correct the name"
    )
