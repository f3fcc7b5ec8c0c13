"""HuBERT-style pretraining of a small WavLM: predict the labels of masked frames.

After HuBERT (Hsu et al., 2021): spans of frames are replaced by a learned embedding after the
convolutions, and a linear classifier predicts each masked frame's label. As in WavLM (Chen et al.,
2022) the input is a degraded signal and the labels are those of the clean one.

Shapes: B utterances, S samples, T frames, K labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.config import Pretraining
from pipeline.features.batching import length_batches
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.ssl import pad_waveforms
from pipeline.progress import SILENT, Progress

UNLABELLED = -100  # cross entropy ignores such frames
SAMPLE_RATE_HZ = SSL_GRID.sample_rate_hz
TELEPHONE_BAND_HZ = 4000.0


@dataclass(frozen=True)
class Labelled:
    """Waveforms (float32, 16 kHz) and the label of each of their frames (int64)."""

    waveforms: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]


@dataclass(frozen=True)
class Scores:
    """How well the labels of masked frames of held-out speech are predicted."""

    masked_accuracy: float
    masked_loss: float


def small_wavlm(settings: Pretraining) -> ConvolutionalEncoder:
    """A WavLM with random weights; it normalises waveforms, so loudness does not matter."""
    # The first convolutions run at the highest rates and take most of the time: half the channels.
    narrow, wide = settings.conv_channels // 2, settings.conv_channels
    config = WavLMConfig(
        hidden_size=settings.dim,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.feedforward_dim,
        conv_dim=(narrow,) * 2 + (wide,) * 5,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=16,
        num_buckets=64,
        max_bucket_distance=200,
        hidden_dropout=settings.dropout,
        attention_dropout=settings.dropout,
        activation_dropout=0.0,
        feat_proj_dropout=settings.dropout,
        layerdrop=0.0,
    )
    return ConvolutionalEncoder(WavLMModel(config), Wav2Vec2FeatureExtractor(do_normalize=True))


class MaskedPredictor(nn.Module):
    """An encoder and the classifier of its last layer."""

    def __init__(self, encoder: ConvolutionalEncoder, num_labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.hidden_size, num_labels)
        encoder.backbone.masked_spec_embed.requires_grad_()

    def forward(self, waveforms_BS: Tensor, num_samples_B: Tensor, masked_BT: Tensor) -> Tensor:
        """Scores of the labels of every frame (B x T x K)."""
        last = (self.encoder.num_layers,)
        hidden = self.encoder(waveforms_BS, num_samples_B, last, masked_BT)
        logits_BTK: Tensor = self.classifier(hidden.hidden_LBTD[0])
        return logits_BTK


def pretrain(
    training: Labelled,
    validation: Labelled,
    settings: Pretraining,
    progress: Progress = SILENT,
) -> tuple[ConvolutionalEncoder, Scores]:
    """Train a small WavLM from random weights.

    Args:
        training: the model learns from it.
        validation: the scores are computed on it, on the clean signal.
        settings: sizes and schedule.
        progress: told of each epoch.

    Returns:
        The encoder in evaluation mode, and its scores.
    """
    torch.manual_seed(settings.seed)
    model = MaskedPredictor(small_wavlm(settings), settings.num_labels).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = _batches(training, settings)
    steps = settings.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, steps, pct_start=settings.warmup_share
    )
    generator = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        losses = []
        for number in generator.permutation(len(batches)):
            waveforms_BS, num_samples_B, labels_BT = _load(training, batches[number])
            degraded_BS = degrade(waveforms_BS, num_samples_B, generator, settings)
            masked_BT = draw_mask(labels_BT != UNLABELLED, generator, settings)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                logits_BTK = model(degraded_BS, num_samples_B, masked_BT)
            loss = _loss(logits_BTK.float(), labels_BT, masked_BT, settings)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        note = f"loss {np.mean(losses):.3f}"
        progress.update(epoch + 1, settings.epochs, "epochs", note)
    scores = score(model.eval(), validation, settings)
    return model.encoder, scores


@torch.no_grad()
def score(model: MaskedPredictor, data: Labelled, settings: Pretraining) -> Scores:
    """Accuracy and mean loss over masked frames, with masks drawn from the seed."""
    generator = np.random.default_rng(settings.seed)
    right, total, loss = 0, 0, 0.0
    for indices in _batches(data, settings):
        waveforms_BS, num_samples_B, labels_BT = _load(data, indices)
        masked_BT = draw_mask(labels_BT != UNLABELLED, generator, settings)
        logits_NK = model(waveforms_BS, num_samples_B, masked_BT)[masked_BT]
        labels_N = labels_BT[masked_BT]
        right += int((logits_NK.argmax(1) == labels_N).sum())
        total += len(labels_N)
        loss += float(nn.functional.cross_entropy(logits_NK, labels_N, reduction="sum"))
    return Scores(right / total, loss / total)


def draw_mask(valid_BT: Tensor, generator: np.random.Generator, settings: Pretraining) -> Tensor:
    """Frames to mask: spans that start at valid frames at random, at least one in each row."""
    spans = valid_BT.numpy()
    starts = (generator.random(spans.shape) < settings.mask_start_share) & spans
    for row, valid in zip(starts, spans, strict=True):
        if not row.any():
            row[generator.integers(valid.sum())] = True
    masked = np.zeros_like(spans)
    for shift in range(min(settings.mask_frames, spans.shape[1])):
        masked[:, shift:] |= starts[:, : spans.shape[1] - shift]
    return torch.from_numpy(masked & spans)


def degrade(
    waveforms_BS: Tensor,
    num_samples_B: Tensor,
    generator: np.random.Generator,
    settings: Pretraining,
) -> Tensor:
    """Waveforms as from another microphone or a telephone, with some noise.

    Each row's spectrum is shaped by a random curve and, for a share of the rows, cut off above the
    telephone band; noise is 10 to 40 dB below the signal.
    """
    num_rows, num_samples = waveforms_BS.shape
    size = 1 << (num_samples - 1).bit_length()  # a power of two, because the FFT is faster
    frequencies_F = np.linspace(0, SAMPLE_RATE_HZ / 2, size // 2 + 1)
    anchors_hz = np.array([0, 200, 500, 1000, 2000, 3500, 5500, 8000])
    curves_db = generator.normal(0, 4, (num_rows, len(anchors_hz)))
    gains = [10 ** (np.interp(frequencies_F, anchors_hz, curve) / 20) for curve in curves_db]
    gains_BF = torch.from_numpy(np.stack(gains).astype(np.float32))
    limited_B = torch.from_numpy(generator.random(num_rows) < settings.band_limited_share)
    beyond_F = torch.from_numpy(frequencies_F > TELEPHONE_BAND_HZ)
    power_B1 = waveforms_BS.square().sum(1, keepdim=True) / num_samples_B[:, None]
    level_db = generator.uniform(-40, -10, (num_rows, 1)).astype(np.float32)
    noise_BS = torch.from_numpy(generator.standard_normal((num_rows, num_samples), np.float32))
    noisy_BS = waveforms_BS + noise_BS * (power_B1 * 10 ** (torch.from_numpy(level_db) / 10)).sqrt()
    spectrum_BF = torch.fft.rfft(noisy_BS, size) * gains_BF
    spectrum_BF = spectrum_BF.masked_fill(limited_B[:, None] & beyond_F, 0)
    restored_BS: Tensor = torch.fft.irfft(spectrum_BF, size)
    return restored_BS[:, :num_samples]


def _loss(
    logits_BTK: Tensor, labels_BT: Tensor, masked_BT: Tensor, settings: Pretraining
) -> Tensor:
    """Mean over masked frames and, weighted, over unmasked ones.

    HuBERT does not need the latter; a training of minutes does, because they train the convolutions.
    """
    losses_BT = nn.functional.cross_entropy(
        logits_BTK.transpose(1, 2), labels_BT, ignore_index=UNLABELLED, reduction="none"
    )
    unmasked_BT = ~masked_BT & (labels_BT != UNLABELLED)
    masked = losses_BT[masked_BT].mean()
    unmasked = losses_BT[unmasked_BT].sum() / unmasked_BT.sum().clamp(min=1)
    return masked + settings.heard_weight * unmasked


def _batches(data: Labelled, settings: Pretraining) -> list[list[int]]:
    lengths = [len(waveform) / SAMPLE_RATE_HZ for waveform in data.waveforms]
    return length_batches(lengths, settings.batch_seconds)


def _load(data: Labelled, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    waveforms_BS, num_samples_B = pad_waveforms([data.waveforms[index] for index in indices])
    rows = [torch.from_numpy(data.labels[index]) for index in indices]
    labels_BT = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=UNLABELLED)
    return waveforms_BS, num_samples_B, labels_BT
