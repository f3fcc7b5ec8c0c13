"""A small WavLM from a corpus, by masked prediction of MFCC clusters, and what its layers tell."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.audio.decode import change_speed, read_utterance
from pipeline.audio.utterance import SILENCE, Utterance
from pipeline.clustering.assignment import assign
from pipeline.clustering.kmeans import fit_sample
from pipeline.config import Pretraining, Purity
from pipeline.corpus.alignment.frame_labels import frame_labels
from pipeline.features.masked_prediction import (
    SAMPLE_RATE_HZ,
    Labelled,
    pretrain,
    small_wavlm,
)
from pipeline.features.mfcc import Mfcc
from pipeline.features.ssl import SslModel, pad_waveforms
from pipeline.metrics.purity import JointCounts, one_silence, pnmi
from pipeline.progress import Progress

LABEL_SAMPLE_FRAMES = 100_000
SCORE_UNITS = 64
SCORE_UTTERANCES = 400
MAX_PASSES = 20
TOLERANCE = 1e-3


def pretrain_encoder(
    training: Sequence[Utterance],
    validation: Sequence[Utterance],
    settings: Pretraining,
    progress: Progress,
) -> tuple[SslModel, dict[str, float]]:
    """Train a small WavLM on MFCC clusters of `training`; its scores are those on `validation`."""
    recorded, held_out = _waveforms(training), _waveforms(validation)
    spoken = _vary_speed(recorded, settings)
    mfcc = Mfcc(small_wavlm(settings).grid)
    progress.update(note=f"clustering MFCCs of {len(spoken)} utterances")
    frames = [mfcc(torch.from_numpy(waveform)) for waveform in spoken]
    centroids_KD = _fit(frames, settings.num_labels, settings.seed)
    encoder, scores = pretrain(
        Labelled(spoken, _labels(mfcc, spoken, centroids_KD)),
        Labelled(held_out, _labels(mfcc, held_out, centroids_KD)),
        settings,
        progress,
    )
    return encoder, {
        "masked_accuracy": scores.masked_accuracy,
        "masked_loss": scores.masked_loss,
        **_pnmi(encoder, recorded[:SCORE_UTTERANCES], held_out, validation),
    }


def _waveforms(utterances: Sequence[Utterance]) -> list[np.ndarray]:
    return [read_utterance(utterance, SAMPLE_RATE_HZ) for utterance in utterances]


def _vary_speed(waveforms: Sequence[np.ndarray], settings: Pretraining) -> list[np.ndarray]:
    """Each waveform once, at a random speed: more voices than the corpus has."""
    generator = random.Random(settings.seed)  # noqa: S311 (speeds, no secret)
    steps = int(settings.speed_range / 0.05 + 1e-9)
    factors = [1 + 0.05 * generator.randint(-steps, steps) for _ in waveforms]
    return [
        change_speed(waveform, factor, SAMPLE_RATE_HZ)
        for waveform, factor in zip(waveforms, factors, strict=True)
    ]


def _labels(mfcc: Mfcc, waveforms: Sequence[np.ndarray], centroids_KD: Tensor) -> list[np.ndarray]:
    return [assign(mfcc(torch.from_numpy(each)), centroids_KD).numpy() for each in waveforms]


def _fit(frames: Sequence[Tensor], num_units: int, seed: int) -> Tensor:
    """The centroids of k-means over a seeded sample of the frames."""
    frames_ND = torch.cat(list(frames))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(frames_ND), generator=generator)[:LABEL_SAMPLE_FRAMES]
    return fit_sample(frames_ND[chosen], num_units, seed, MAX_PASSES, TOLERANCE).centroids_KD


def _pnmi(
    encoder: SslModel,
    training: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    utterances: Sequence[Utterance],
) -> dict[str, float]:
    """PNMI of k-means units of each layer with the phones of the held-out utterances."""
    scores: dict[str, float] = {}
    for layer in range(encoder.num_layers + 1):
        centroids_KD = _fit(_hidden(encoder, training, layer), SCORE_UNITS, 0)
        counts = JointCounts(SCORE_UNITS)
        hidden = _hidden(encoder, held_out, layer)
        for frames_TD, utterance in zip(hidden, utterances, strict=True):
            units = assign(frames_TD, centroids_KD).tolist()
            labels = frame_labels(utterance.alignment or (), len(units), encoder.grid)
            counts.add(one_silence(labels, Purity()), units)
        speech = counts.without(SILENCE)
        if speech.phones:
            scores[f"layer_{layer}.pnmi"] = pnmi(speech)
    return scores


@torch.inference_mode()
def _hidden(encoder: SslModel, waveforms: Sequence[np.ndarray], layer: int) -> list[Tensor]:
    """The frames (T x D) of each waveform."""
    return [encoder(*pad_waveforms([each]), (layer,)).hidden_LBTD[0, 0] for each in waveforms]
