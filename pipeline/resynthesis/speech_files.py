"""Made speech as stages keep it for listeners and judges: a file for each utterance."""

import numpy as np

from pipeline.audio.decode import write_audio
from pipeline.storage.artifacts import Artifact


def speech_file(utt_id: str) -> str:
    """The name of an utterance's speech in a stage's output."""
    return f"audio/{utt_id}.wav"


def write_speech(output: Artifact, utt_id: str, samples: np.ndarray, sample_rate_hz: int) -> None:
    """Keep the speech made of an utterance."""
    with output.write(speech_file(utt_id)) as file:
        write_audio(file, samples, sample_rate_hz, format="WAV")
