"""What pretrained models of other packages, whose weights come with them, say of speech."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from pipeline.audio.level import at_one_level
from pipeline.config import ConfigError
from pipeline.metrics.utterance_scores import Share
from pipeline.resynthesis.likeness import f0_likeness

PACKAGES = {
    "dnsmos": ("speechmos", "librosa", "onnxruntime"),
    "similarity": ("resemblyzer",),
    "crepe": ("torchcrepe",),
}
# Those that need no recording.
WITHOUT_REFERENCE = frozenset({"dnsmos"})
# What all of these models take.
SAMPLE_RATE_HZ = 16000
# Of CREPE's confidence, as its authors' package advises.
CREPE_VOICED = 0.21

# From a recording and speech, or the recording twice.
Measure = Callable[[np.ndarray, np.ndarray], dict[str, Share]]


def require_packages(measures: Sequence[str]) -> None:
    """Refuse measures whose packages are not installed here.

    Raises:
        ConfigError: names them with the command that installs them.
    """
    needed = dict.fromkeys(package for name in measures for package in PACKAGES[name])
    if missing := [package for package in needed if find_spec(package) is None]:
        raise ConfigError(
            f"resynthesis.measures {list(measures)} needs the packages {', '.join(missing)}: "
            "pip install 'dkm-pipeline[judges]', or leave the measure out"
        )


def open_measures(names: Sequence[str]) -> Measure:
    """All measures of these names as one, which hears everything at one level.

    Raises:
        ConfigError: as `require_packages`.
    """
    require_packages(names)
    opened = [_OPENERS[name]() for name in names]

    def measure(recording: np.ndarray, made: np.ndarray) -> dict[str, Share]:
        levelled = [at_one_level(samples, SAMPLE_RATE_HZ) for samples in (recording, made)]
        return {name: share for each in opened for name, share in each(*levelled).items()}

    return measure


def _dnsmos() -> Measure:
    """DNSMOS P.835, overall quality from 1 to 5 (Reddy et al., 2022); without a reference."""
    from speechmos import dnsmos

    def measure(_recording: np.ndarray, made: np.ndarray) -> dict[str, Share]:
        found = dnsmos.run(made.clip(-1, 1).astype(np.float32), sr=SAMPLE_RATE_HZ)
        return {"dnsmos": Share(float(found["ovrl_mos"]))}

    return measure


def _similarity() -> Measure:
    """The cosine of two speaker embeddings (GE2E: Wan et al., 2018) of Resemblyzer.

    It is missing where its voice activity detector finds no speech in one of both.
    """
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> Any:
        speech = preprocess_wav(samples) if samples.any() else samples[:0]
        return encoder.embed_utterance(speech) if len(speech) else np.nan

    def measure(recording: np.ndarray, made: np.ndarray) -> dict[str, Share]:
        return {"speaker_similarity": Share(float(np.sum(embed(recording) * embed(made))))}

    return measure


def _crepe() -> Measure:
    """F0 and voicing by CREPE (Kim et al., 2018), the weighted mean around its likeliest bin."""
    import torch
    import torchcrepe

    def track(samples: np.ndarray, sample_rate_hz: int, hop: int) -> np.ndarray:
        f0_1T, confidence_1T = torchcrepe.predict(
            torch.from_numpy(np.asarray(samples, np.float32))[None],
            sample_rate_hz,
            hop,
            fmin=60.0,
            fmax=500.0,
            model="tiny",  # the full one takes minutes for an utterance on a CPU
            decoder=torchcrepe.decode.weighted_argmax,
            return_periodicity=True,
            batch_size=512,
        )
        voiced_T = (confidence_1T[0] >= CREPE_VOICED).numpy()
        return np.where(voiced_T, f0_1T[0].numpy().astype(np.float64), 0.0)

    return lambda recording, made: f0_likeness(recording, made, SAMPLE_RATE_HZ, track, "crepe_f0")


_OPENERS: dict[str, Callable[[], Measure]] = {
    "dnsmos": _dnsmos,
    "similarity": _similarity,
    "crepe": _crepe,
}
