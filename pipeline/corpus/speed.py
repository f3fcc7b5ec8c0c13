"""Copies of the training split at other speeds (Ko et al., 2015), each as a split of its own.

Kaldi's way: audio is resampled, so that pitch changes with the tempo; texts stay. A copy is never
stored as audio: its utterances say at which speed they are read.
"""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.audio.utterance import CorpusError, Utterance
from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split
from pipeline.storage.artifacts import Artifact


def read_split_or_copy(config: Config, corpus: Artifact, split: str) -> list[Utterance]:
    """The utterances of a split of the prepared corpus, or of one of `config.speed_copies`.

    Raises:
        CorpusError: the corpus has the ids of a copy already.
    """
    recorded, speed = config.recorded(split)
    utterances = read_split(corpus, recorded)
    return utterances if speed == 1 else _at_speed(utterances, split, speed)


def _at_speed(utterances: Sequence[Utterance], split: str, speed: float) -> list[Utterance]:
    """The utterances as a `split` of their own, played faster by `speed`."""
    copies = [
        replace(
            each,
            utt_id=f"sp{speed:g}-{each.utt_id}",
            split=split,
            duration=each.duration / speed,
            speed=speed,
        )
        for each in utterances
    ]
    if both := sorted({each.utt_id for each in utterances} & {copy.utt_id for copy in copies}):
        raise CorpusError(
            f"training.speeds makes '{both[0]}' of an utterance, and the corpus has it already, as if "
            "somebody had changed its speed before: leave out training.speeds, or these utterances"
        )
    return copies
