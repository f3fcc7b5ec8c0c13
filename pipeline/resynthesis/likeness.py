"""How close speech is to a recording of the same text, as each utterance's share in scores."""

import numpy as np

from pipeline.audio.level import at_one_level
from pipeline.audio.pitch import fundamental_hz
from pipeline.metrics.resynthesis import Tracker, compare_f0, mel_cepstral_distortion_db
from pipeline.metrics.utterance_scores import Share


def likeness(recording: np.ndarray, made: np.ndarray, sample_rate_hz: int) -> dict[str, Share]:
    """Distortion, and F0 and voicing by the project's own tracker, of both at one level."""
    recording, made = (at_one_level(samples, sample_rate_hz) for samples in (recording, made))
    distortion = mel_cepstral_distortion_db(recording, made, sample_rate_hz)
    return {"mcd_db": Share(distortion), **f0_likeness(recording, made, sample_rate_hz)}


def f0_likeness(
    recording: np.ndarray,
    made: np.ndarray,
    sample_rate_hz: int,
    track: Tracker = fundamental_hz,
    name: str = "f0",
) -> dict[str, Share]:
    """F0 and voicing, whose scores begin with `name`."""
    compared = compare_f0(recording, made, sample_rate_hz, track)
    return {
        f"{name}_correlation": Share(compared.correlation),
        f"{name}_rmse_cents": Share(compared.rmse_cents),
        f"{name}_voicing_error": Share(compared.voicing_error),
    }
