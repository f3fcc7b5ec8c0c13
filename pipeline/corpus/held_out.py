"""Which speakers are held out of a corpus's own splits, for splits that it does not have."""

from collections.abc import Iterable

from pipeline.audio.utterance import CorpusError
from pipeline.config.corpus import SpeakersHeldOut

_MOST_NAMED = 10


def splits_by_speaker(
    config: SpeakersHeldOut, speakers: Iterable[str], where: str
) -> dict[str, str]:
    """The split of each speaker who is held out; `speakers` are all of the corpus.

    Raises:
        CorpusError: `held_out` names a speaker whom the corpus lacks; `where` says what was read. So
            a misspelt name leaves nobody in a split that others are held out of.
    """
    splits = {speaker: split for split, names in config.held_out.items() for speaker in names}
    if missing := sorted(splits.keys() - set(speakers)):
        raise CorpusError(
            f"{where} no speaker {', '.join(missing[:_MOST_NAMED])}: correct or remove the names in "
            "corpus.held_out, or name in corpus.splits the split that they are taken out of"
        )
    return splits
