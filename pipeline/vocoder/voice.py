"""What some seconds of speech say of a voice: a vector of statistics, of any speaker.

They are the mean and the deviation of the log-mel spectrum where somebody speaks, and those of
log2 F0 where the speech is voiced. The level of the recording is in none of them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pipeline.audio.level import BLOCK_SECONDS, active, at_one_level, block_powers
from pipeline.audio.mel import mel_bank, power_spectra
from pipeline.audio.pitch import fundamental_hz
from pipeline.audio.utterance import Utterance

NUM_MELS = 40
VOICE_DIM = 2 * NUM_MELS + 2
LOG2_F0 = 2 * NUM_MELS  # the column of its mean, the deviation is behind it
WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.01
FLOOR_POWER = 1e-8
# What is assumed of speech that has no voiced frame.
UNKNOWN_LOG2_F0, UNKNOWN_DEVIATION = 7.2, 0.2  # 147 Hz
# More speech of one speaker says little more.
ENOUGH_SECONDS = 10.0
LEAST_SECONDS = 0.5
UTTERANCES_OF_A_SPEAKER = 8

Voice = npt.NDArray[np.float32]
Read = Callable[[Utterance], npt.NDArray[np.float32]]


def voice_of(samples_S: npt.NDArray[np.float32], sample_rate_hz: int) -> Voice:
    """The voice (VOICE_DIM,) of speech, of which the first ten seconds count."""
    enough = round(ENOUGH_SECONDS * sample_rate_hz)
    samples_S = at_one_level(samples_S[:enough], sample_rate_hz)
    log_mel_TM = _log_mel_of_speech(samples_S, sample_rate_hz)
    f0_T = fundamental_hz(samples_S, sample_rate_hz, round(HOP_SECONDS * sample_rate_hz))
    log2_f0_T = np.log2(f0_T[f0_T > 0])
    known = len(log2_f0_T) > 0
    tail = (
        float(log2_f0_T.mean()) if known else UNKNOWN_LOG2_F0,
        float(log2_f0_T.std()) if known else UNKNOWN_DEVIATION,
    )
    statistics = (log_mel_TM.mean(axis=0), log_mel_TM.std(axis=0), tail)
    return np.concatenate(statistics).astype(np.float32)


def is_enough(samples_S: npt.NDArray[np.float32], sample_rate_hz: int) -> bool:
    """Whether there is speech enough to know a voice by it."""
    spoken = active(block_powers(samples_S, sample_rate_hz))
    return float(spoken.sum()) * BLOCK_SECONDS >= LEAST_SECONDS


class KnownVoices:
    """The voices of some utterances of each speaker, and those an utterance may be spoken with.

    Args:
        utterances: of all speakers; at most eight of each are heard.
        read: gives the samples of one, at `sample_rate_hz`.
    """

    def __init__(self, utterances: Sequence[Utterance], read: Read, sample_rate_hz: int) -> None:
        by_speaker: dict[str, list[Utterance]] = {}
        for utterance in utterances:
            by_speaker.setdefault(utterance.speaker, []).append(utterance)
        self._voices = {
            speaker: {
                each.utt_id: voice_of(read(each), sample_rate_hz)
                for each in own[:: -(-len(own) // UTTERANCES_OF_A_SPEAKER)]
            }
            for speaker, own in by_speaker.items()
        }

    def of(self, speaker: str) -> list[Voice]:
        return list(self._voices[speaker].values())

    def for_utterance(self, utterance: Utterance) -> list[Voice]:
        """Those of its speaker's other utterances; its own if there is no other."""
        own = self._voices[utterance.speaker]
        others = [voice for utt_id, voice in own.items() if utt_id != utterance.utt_id]
        return others or list(own.values())


def other_utterances(utterance: Utterance, utterances: Sequence[Utterance]) -> Iterator[Utterance]:
    """Utterances of the same speaker, never the same one: those behind it, then from the first on."""
    same = [other for other in utterances if other.speaker == utterance.speaker]
    place = [other.utt_id for other in same].index(utterance.utt_id)
    seconds = 0.0
    for other in same[place + 1 :] + same[:place]:
        if seconds >= ENOUGH_SECONDS:
            return
        seconds += other.duration
        yield other


def _log_mel_of_speech(samples_S: npt.NDArray[np.float32], sample_rate_hz: int) -> np.ndarray:
    """T x NUM_MELS natural logarithms of power, of the frames that are not pauses."""
    window, hop = (round(each * sample_rate_hz) for each in (WINDOW_SECONDS, HOP_SECONDS))
    power_TF = power_spectra(samples_S, window, hop)
    spoken_T = torch.from_numpy(active(power_TF.sum(dim=1).numpy()))
    bank_FM = mel_bank(window, sample_rate_hz, NUM_MELS).double()
    mel_TM = (power_TF[spoken_T] if spoken_T.any() else power_TF) @ bank_FM
    log_mel_TM: np.ndarray = torch.log(mel_TM.clamp(min=FLOOR_POWER)).numpy()
    return log_mel_TM
