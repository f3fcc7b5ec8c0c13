"""How much of speech survives its units: resynthesised, heard again, compared with recordings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from pipeline.audio.decode import read_utterance
from pipeline.audio.utterance import Utterance
from pipeline.metrics.utterance_scores import Share
from pipeline.resynthesis.heard import RECORDINGS, RESYNTHESIS, Heard
from pipeline.resynthesis.likeness import likeness
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.voice import Voice, other_utterances, voice_of

Units = np.ndarray
# Behind the names of scores that are by the variant's own recogniser.
OWN = "_own"


@dataclass(frozen=True)
class Listener:
    """What hears resynthesised speech: a tokenizer (speech to units) and an ASR (units to text)."""

    tokenize: Callable[[Sequence[np.ndarray]], list[Units]]
    transcribe: Callable[[Sequence[Units]], list[str]]


@dataclass(frozen=True)
class Resynthesis:
    """One utterance, spoken again from its units, and how much of it survived.

    `heard` is what the variant's own recogniser makes of recording and resynthesis, and `seconds`
    how long the synthesis took: of several at once, an equal part.
    """

    utterance: Utterance
    samples: np.ndarray
    seconds: float
    heard: tuple[Heard, ...]
    shares: Mapping[str, Share]


def evenly_spread(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """At most `count` utterances from all over a corpus, which is often sorted by speaker."""
    count = min(count, len(utterances))
    return [utterances[index * len(utterances) // count] for index in range(count)]


def resynthesize(
    vocoder: UnitVocoder,
    listener: Listener,
    units_of: Mapping[str, Units],
    split: Sequence[Utterance],
    utterances: Sequence[Utterance],
) -> list[Resynthesis]:
    """Speak every utterance from its units (by utt_id), hear it, and compare with its recording.

    `split` has more of their speakers; see `who_speaks`.
    """
    units = [units_of[utterance.utt_id] for utterance in utterances]
    speakers = [who_speaks(vocoder, utterance, split) for utterance in utterances]
    start = perf_counter()
    made = vocoder.resynthesize_batch(units, speakers)
    seconds = (perf_counter() - start) / len(made)
    units_of_made = listener.tokenize(made)
    texts_of_recordings = listener.transcribe(units)
    texts = listener.transcribe(units_of_made)
    results = []
    for index, (utterance, samples) in enumerate(zip(utterances, made, strict=True)):
        heard = (
            Heard(utterance, RECORDINGS, texts_of_recordings[index]),
            Heard(utterance, RESYNTHESIS, texts[index]),
        )
        kept = Share(float((units[index] == units_of_made[index]).mean()))
        recording = read_utterance(utterance, vocoder.sample_rate_hz)
        shares = {
            # Its own recogniser is trained on texts as the corpus has them.
            **heard[0].errors(OWN),
            **heard[1].errors(OWN),
            "units_kept": kept,
            **likeness(recording, samples, vocoder.sample_rate_hz),
        }
        results.append(Resynthesis(utterance, samples, seconds, heard, shares))
    return results


def who_speaks(
    vocoder: UnitVocoder, utterance: Utterance, split: Sequence[Utterance]
) -> str | Voice | None:
    """The utterance's speaker, or an unheard one's voice in other utterances of the split.

    `None`, who stands for all others, if there are none or the vocoder takes no voices.
    """
    if utterance.speaker in vocoder.speakers:
        return utterance.speaker
    others = list(other_utterances(utterance, split))
    if not others or vocoder.settings.speaker != "encoder":
        return None
    rate_hz = vocoder.sample_rate_hz
    return voice_of(np.concatenate([read_utterance(each, rate_hz) for each in others]), rate_hz)


def real_time_factor(results: Sequence[Resynthesis], sample_rate_hz: int) -> float:
    """Seconds of synthesis for a second of speech."""
    samples = sum(len(result.samples) for result in results)
    return sum(result.seconds for result in results) * sample_rate_hz / samples
