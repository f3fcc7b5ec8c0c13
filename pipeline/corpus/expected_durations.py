"""How long the utterances of a corpus are, before it is prepared: for `plan`, which must be quick."""

import math
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from pipeline.audio.audio_files import PROBING_THREADS
from pipeline.audio.decode import AudioError, probe_seconds
from pipeline.audio.utterance import Utterance
from pipeline.config.corpus import CorpusSection
from pipeline.storage.folders import is_uri

# Files of a split whose headers are read: the mean of a thousand is within a few per cent of the mean
# of all, however lengths vary. A bucket sends more than the headers.
LOCAL_SAMPLE, REMOTE_SAMPLE = 1000, 200


@dataclass(frozen=True)
class Durations:
    """Seconds of the utterances of a split, and where most of them come from: tables, the headers of
    all files, or those of a sample, whose mean stands for the others.
    """

    seconds: list[float]
    source: Literal["tables", "headers", "sample"] = "tables"


def expected_durations(utterances: Sequence[Utterance], config: CorpusSection) -> Durations:
    """What tables say, and for the rest what the headers of the audio files, or of a sample, say.

    An utterance that will be rejected for its length or its audio has 0 seconds.

    Raises:
        AudioStorageError: the storage failed.
    """
    unknown = [index for index, each in enumerate(utterances) if math.isinf(each.duration)]
    remote = any(is_uri(utterances[index].audio) for index in unknown[:1])
    chosen = _sample(unknown, REMOTE_SAMPLE if remote else LOCAL_SAMPLE)
    seconds = [each.duration for each in utterances]
    with ThreadPoolExecutor(PROBING_THREADS) as pool:
        measured = pool.map(lambda index: _measure(utterances[index]), chosen)
        for index, value in zip(chosen, measured, strict=True):
            seconds[index] = value
    usable = [each if config.min_seconds <= each <= config.max_seconds else 0.0 for each in seconds]
    mean = fmean(usable[index] for index in chosen) if chosen else 0.0
    for index in set(unknown).difference(chosen):
        usable[index] = mean
    if not unknown:
        return Durations(usable)
    return Durations(usable, "headers" if len(chosen) == len(unknown) else "sample")


def _measure(utterance: Utterance) -> float:
    try:
        return probe_seconds(utterance.audio) - utterance.offset
    except AudioError:
        return 0.0


def _sample(indices: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, at random: an even distance could fall in with a pattern."""
    generator = random.Random(0)  # noqa: S311 - no secret
    return generator.sample(indices, min(most, len(indices)))
