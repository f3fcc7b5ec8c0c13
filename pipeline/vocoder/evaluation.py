"""How much of speech survives its units: resynthesised, heard again, compared with recordings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.audio.decode import read_utterance
from pipeline.audio.utterance import Utterance
from pipeline.metrics.resynthesis import F0Comparison, compare_f0, mel_cepstral_distortion_db
from pipeline.metrics.wer import cer, score
from pipeline.storage import table_schemas
from pipeline.vocoder.generator import UnitVocoder

Units = np.ndarray


@dataclass(frozen=True)
class Listener:
    """What hears resynthesised speech: a tokenizer (speech to units) and an ASR (units to text)."""

    tokenize: Callable[[Sequence[np.ndarray]], list[Units]]
    transcribe: Callable[[Sequence[Units]], list[str]]


@dataclass(frozen=True)
class Resynthesis:
    """One utterance, spoken again from its units, and how much of it survived."""

    utterance: Utterance
    samples: np.ndarray
    text_of_recording: str
    text: str
    units_kept: float
    mel_cepstral_distortion_db: float
    f0: F0Comparison


def evenly_spread(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """At most `count` utterances from all over a corpus, which is often sorted by speaker."""
    count = min(count, len(utterances))
    return [utterances[index * len(utterances) // count] for index in range(count)]


def resynthesize(
    vocoder: UnitVocoder,
    listener: Listener,
    units_of: Mapping[str, Units],
    utterances: Sequence[Utterance],
) -> list[Resynthesis]:
    """Speak every utterance from its units (by utt_id), hear it, and compare with its recording."""
    units = [units_of[utterance.utt_id] for utterance in utterances]
    rate_hz = vocoder.sample_rate_hz
    made = vocoder.resynthesize_batch(units, [utterance.speaker for utterance in utterances])
    units_of_made = listener.tokenize(made)
    texts_of_recordings = listener.transcribe(units)
    texts = listener.transcribe(units_of_made)
    results = []
    for index, (utterance, samples) in enumerate(zip(utterances, made, strict=True)):
        recording = read_utterance(utterance, rate_hz)
        results.append(
            Resynthesis(
                utterance,
                samples,
                texts_of_recordings[index],
                texts[index],
                float((units[index] == units_of_made[index]).mean()),
                mel_cepstral_distortion_db(recording, samples, rate_hz),
                compare_f0(recording, samples, rate_hz),
            )
        )
    return results


def table(results: Sequence[Resynthesis]) -> pa.Table:
    rows = [
        {
            "utt_id": result.utterance.utt_id,
            "split": result.utterance.split,
            "reference": result.utterance.text,
            "hypothesis": result.text,
            "mel_cepstral_distortion_db": result.mel_cepstral_distortion_db,
            "f0_error_cents": None if math.isnan(result.f0.error_cents) else result.f0.error_cents,
        }
        for result in results
    ]
    return pa.Table.from_pylist(rows, schema=table_schemas.RESYNTHESIS)


def scores(results: Sequence[Resynthesis]) -> dict[str, float]:
    """Error rates over all utterances, those from the recordings' units, and means of the rest.

    Without an utterance that is voiced in both signals there is no `f0_error_cents`.
    """
    references = [result.utterance.text for result in results]
    texts = [result.text for result in results]
    texts_of_recordings = [result.text_of_recording for result in results]
    means = {
        "resynthesis_wer": score(references, texts).wer,
        "resynthesis_cer": cer(references, texts),
        "resynthesis_wer_of_recordings": score(references, texts_of_recordings).wer,
        "resynthesis_cer_of_recordings": cer(references, texts_of_recordings),
        "units_kept": _mean([result.units_kept for result in results]),
        "mcd_db": _mean([result.mel_cepstral_distortion_db for result in results]),
        "voicing_disagreement": _mean([result.f0.voicing_disagreement for result in results]),
    }
    cents = [result.f0.error_cents for result in results]
    known = [value for value in cents if not math.isnan(value)]
    return {**means, "f0_error_cents": _mean(known)} if known else means


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
