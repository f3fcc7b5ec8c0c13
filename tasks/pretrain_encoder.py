"""A small WavLM for machines that reach no model hub, by masked prediction of MFCC clusters.

No part of the default graph: name `tasks.pretrain_encoder` in `extra_stages`, as
`configs/pretrain_encoder.yaml` does, and `ssl.model` the folder `encoder/` that it leaves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.audio.utterance import Utterance
from pipeline.config import Config, Pretraining
from pipeline.graph.stage import Stage, StageContext

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pipeline.features.ssl import SslModel

LABEL_SAMPLE_FRAMES = 100_000
SCORE_UNITS = 64
SCORE_UTTERANCES = 400
MAX_PASSES = 20
TOLERANCE = 1e-3


def _settings(config: Config) -> dict[str, Any]:
    return {
        "pretraining": config.pretraining.model_dump(mode="json"),
        "splits": [config.corpus.splits.train, config.corpus.splits.valid],
    }


def _run(context: StageContext) -> dict[str, float]:
    """Write `encoder/`, a transformers folder; scores are taken on the validation split."""
    from pipeline.corpus.read_outputs import read_split
    from pipeline.features.masked_prediction import Labelled, pretrain, small_wavlm
    from pipeline.features.mfcc import Mfcc

    settings, splits = context.config.pretraining, context.config.corpus.splits
    train = read_split(context.inputs["prepare_corpus"], splits.train)
    valid = read_split(context.inputs["prepare_corpus"], splits.valid)
    heard, held_out = _waveforms(train), _waveforms(valid)
    spoken = _vary_speed(heard, settings)
    mfcc = Mfcc(small_wavlm(settings).grid)
    context.say(f"clustering MFCCs of {len(spoken)} utterances")
    centroids_KD = _fit([mfcc(_tensor(one)) for one in spoken], settings.num_labels, settings.seed)
    encoder, scores = pretrain(
        Labelled(spoken, _labels(mfcc, spoken, centroids_KD)),
        Labelled(held_out, _labels(mfcc, held_out, centroids_KD)),
        settings,
        context.say,
    )
    with context.output.write_folder("encoder") as folder:
        encoder.save_pretrained(folder)
    return {
        "masked_accuracy": scores.masked_accuracy,
        "masked_loss": scores.masked_loss,
        **_pnmi(encoder, heard[:SCORE_UTTERANCES], held_out, valid),
    }


def _waveforms(utterances: Sequence[Utterance]) -> "list[np.ndarray]":
    from pipeline.audio.decode import read_audio

    return [read_audio(one.audio, 16000, one.offset, one.duration) for one in utterances]


def _vary_speed(waveforms: "Sequence[np.ndarray]", settings: Pretraining) -> "list[np.ndarray]":
    """Each waveform once, at a speed of its own: more voices than the corpus has."""
    import random

    from pipeline.features.masked_prediction import change_speed

    generator = random.Random(settings.seed)  # noqa: S311 (speeds, no secret)
    steps = int(settings.speed_range / 0.05 + 1e-9)
    factors = [1 + 0.05 * generator.randint(-steps, steps) for _ in waveforms]
    return [change_speed(one, factor) for one, factor in zip(waveforms, factors, strict=True)]


def _labels(
    mfcc: Any, waveforms: "Sequence[np.ndarray]", centroids_KD: "Tensor"
) -> "list[np.ndarray]":
    from pipeline.clustering.assignment import assign

    return [assign(mfcc(_tensor(one)), centroids_KD).numpy() for one in waveforms]


def _fit(frames: "Sequence[Tensor]", num_units: int, seed: int) -> "Tensor":
    """k-means over a seeded sample of the frames."""
    import torch

    from pipeline.clustering.kmeans import fit_sample

    frames_ND = torch.cat(list(frames))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(frames_ND), generator=generator)[:LABEL_SAMPLE_FRAMES]
    return fit_sample(frames_ND[chosen], num_units, seed, MAX_PASSES, TOLERANCE).centroids_KD


def _pnmi(
    encoder: "SslModel",
    training: "Sequence[np.ndarray]",
    held_out: "Sequence[np.ndarray]",
    utterances: Sequence[Utterance],
) -> dict[str, float]:
    """PNMI of k-means units of each layer with the phones of the held-out utterances."""
    from pipeline.clustering.assignment import assign
    from pipeline.corpus.alignment.frame_labels import frame_labels
    from pipeline.metrics.purity import JointCounts, pnmi

    scores: dict[str, float] = {}
    for layer in range(encoder.num_layers + 1):
        centroids_KD = _fit(_hidden(encoder, training, layer), SCORE_UNITS, 0)
        counts = JointCounts(SCORE_UNITS)
        hidden = _hidden(encoder, held_out, layer)
        for frames_TD, utterance in zip(hidden, utterances, strict=True):
            units = assign(frames_TD, centroids_KD).tolist()
            labels = frame_labels(utterance.alignment or (), len(units), encoder.grid)
            pairs = [pair for pair in zip(labels, units, strict=True) if pair[0]]
            counts.add([label for label, _ in pairs], [unit for _, unit in pairs])
        if counts.phones:
            scores[f"layer_{layer}.pnmi"] = pnmi(counts)
    return scores


def _hidden(encoder: "SslModel", waveforms: "Sequence[np.ndarray]", layer: int) -> "list[Tensor]":
    """The frames (T x D) of each waveform."""
    import torch

    from pipeline.features.ssl import pad_waveforms

    with torch.inference_mode():
        return [encoder(*pad_waveforms([one]), (layer,)).hidden_LBTD[0, 0] for one in waveforms]


def _tensor(waveform: "np.ndarray") -> "Tensor":
    import torch

    return torch.from_numpy(waveform)


STAGE = Stage(
    name="pretrain_encoder",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus",),
    cpus=2,
)
