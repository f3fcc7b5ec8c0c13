"""Figures and sound as the bytes of a file."""

import io
import wave
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


def figure_bytes(figure: Any, name: str) -> bytes:
    """A matplotlib figure in the format that the suffix of `name` names."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=PurePosixPath(name).suffix.removeprefix("."))
    return buffer.getvalue()


def wav_bytes(samples: "np.ndarray | Sequence[float]", sample_rate_hz: int) -> bytes:
    """Mono samples in [-1, 1] as a 16-bit WAV file; values beyond are clipped."""
    import numpy as np

    clipped = np.clip(np.asarray(samples, dtype=np.float64), -1.0, 1.0)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(np.round(clipped * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
