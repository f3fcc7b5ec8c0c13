"""The generator: unit and speaker embeddings, frame by frame, into a HiFi-GAN."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.config import Vocoder
from pipeline.vocoder.durations import DurationPredictor
from pipeline.vocoder.material import require_hop, require_speaker

ARCHITECTURE = {
    "unit_dim",
    "speaker_dim",
    "unseen_speaker",
    "upsample_rates",
    "upsample_kernels",
    "initial_channels",
    "resblock_kernels",
    "resblock_dilations",
}
CONFIG, WEIGHTS = "config.json", "model.safetensors"
AVERAGE_SPEAKER = -1


class UnitVocoder(nn.Module):
    """Speech from units at the tokenizer's frame rate.

    Frame i of the units covers the samples [hop i, hop (i + 1)) of the output. In the recording
    the same frame is centred at start + receptive_field / 2 + hop i, so the output starts at sample
    `shift` = start + (receptive_field - hop) / 2 of the recording, which may be before the first.

    Args:
        settings: sizes of the generator; the product of its upsample rates must be the hop.
        num_units: size of the codebook.
        speakers: names of the training speakers, in the order of their embeddings.
        grid: of the tokenizer's frames, which set the output's sample rate.
        tokenizer: the digest of the tokenizer that it was trained on (`tokenizer.identity`), where
            that is known.

    Raises:
        ValueError: the settings do not upsample by exactly the hop, or name an unknown speaker.
    """

    def __init__(
        self,
        settings: Vocoder,
        num_units: int,
        speakers: Sequence[str],
        grid: FrameGrid = SSL_GRID,
        tokenizer: str | None = None,
    ) -> None:
        super().__init__()
        require_hop(settings.upsample_rates, grid.hop)
        self.settings = settings
        self.num_units = num_units
        self.speakers = tuple(speakers)
        self.grid = grid
        self.tokenizer = tokenizer
        self.sample_rate_hz = grid.sample_rate_hz
        self.unit_embedding = nn.Embedding(num_units, settings.unit_dim)
        self.speaker_embedding = nn.Embedding(len(self.speakers), settings.speaker_dim)
        self.durations = DurationPredictor(num_units, settings.unit_dim)
        self.hifigan = _hifigan(settings, grid.sample_rate_hz)
        self.speaker_index(settings.unseen_speaker)

    @property
    def device(self) -> torch.device:
        return self.unit_embedding.weight.device

    @property
    def shift(self) -> int:
        """Where in the recording the vocoder's first sample is."""
        return self.grid.start + (self.grid.receptive_field - self.grid.hop) // 2

    def speaker_index(self, speaker: str | None) -> int:
        """The row of a speaker's embedding, to be passed to `forward`.

        `settings.unseen_speaker` stands for `None` and for speakers not heard in training; if it is
        `None`, the average of all speakers does (`AVERAGE_SPEAKER`).
        """
        if speaker in self.speakers:
            return self.speakers.index(speaker)
        substitute = self.settings.unseen_speaker
        if substitute is None:
            return AVERAGE_SPEAKER
        require_speaker(substitute, self.speakers)
        return self.speakers.index(substitute)

    def forward(self, units_BT: Tensor, speakers_B: Tensor) -> Tensor:
        """Turn B x T units and B speaker rows into B x (hop T) samples in (-1, 1)."""
        average_S = self.speaker_embedding.weight.mean(dim=0)
        speaker_BS = torch.where(
            (speakers_B == AVERAGE_SPEAKER)[:, None],
            average_S,
            self.speaker_embedding(speakers_B.clamp(min=0)),
        )
        unit_BTU = self.unit_embedding(units_BT)
        speaker_BTS = speaker_BS[:, None].expand(-1, units_BT.shape[1], -1)
        waveform_BS: Tensor = self.hifigan(torch.cat([unit_BTU, speaker_BTS], dim=-1))
        return waveform_BS

    @torch.inference_mode()
    def resynthesize(
        self,
        units: Sequence[int] | np.ndarray | Tensor,
        speaker: str | None,
        *,
        deduplicated: bool = False,
    ) -> np.ndarray:
        """Speak one utterance's T units: float32 samples on the time axis of the recording.

        Zeros are added on either side, or what lies before the recording is cut off, so that the
        result has one frame for each unit, and its frame i is frame i of the recording. De-duplicated units are first repeated for their
        predicted durations.

        Raises:
            ValueError: no units, not integers, or a unit that is not in the codebook.
        """
        device = self.device
        units_T = torch.as_tensor(_as_units(units, self.num_units), device=device)
        if deduplicated:
            units_T = self.durations.expand(units_T)
        speakers_1 = torch.tensor([self.speaker_index(speaker)], device=device)
        waveform_S = self(units_T[None], speakers_1)[0].float().cpu().numpy()
        heard_S = np.pad(waveform_S, (max(self.shift, 0), 0))[max(-self.shift, 0) :]
        return np.pad(heard_S, (0, self.grid.num_samples(len(units_T)) - len(heard_S)))

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "model_type": "unit_vocoder",
            "num_units": self.num_units,
            "tokenizer": self.tokenizer,
            "speakers": list(self.speakers),
            **asdict(self.grid),
            "architecture": self.settings.model_dump(mode="json", include=ARCHITECTURE),
        }
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
        save_file(self.state_dict(), folder / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what `save_pretrained` wrote; the result is in evaluation mode.

        Raises:
            ValueError: the folder is not a unit vocoder.
        """
        path = Path(folder) / CONFIG
        description: dict[str, Any] = {}
        if path.is_file():
            description = json.loads(path.read_text(encoding="utf-8"))
        if description.pop("model_type", None) != "unit_vocoder":
            raise ValueError(f"{folder} is not a unit vocoder: name the `vocoder` folder of a run")
        settings = Vocoder.model_validate(description.pop("architecture"))
        names = [key.name for key in fields(FrameGrid) if key.name in description]
        grid = FrameGrid(**{name: description.pop(name) for name in names})
        vocoder = cls(settings, grid=grid, **description)
        vocoder.load_state_dict(load_file(Path(folder) / WEIGHTS))
        return vocoder.eval()


def _as_units(units: Any, num_units: int) -> npt.NDArray[np.int64]:
    """Units (num_frames,) of one utterance in a list, an array or a tensor; see `resynthesize`."""
    try:
        units_T = np.asarray(units.detach().cpu() if isinstance(units, Tensor) else units)
    except (ValueError, TypeError, RuntimeError):  # such as lists of different lengths
        units_T = np.empty((0, 0))
    if units_T.ndim != 1 or not len(units_T):
        raise ValueError("resynthesis needs a non-empty list of units, one utterance at a time")
    if units_T.dtype.kind not in "iu":
        raise ValueError(
            f"units are of type {units_T.dtype}: give integers, as UnitTokenizer.encode returns them"
        )
    low, high = int(units_T.min()), int(units_T.max())
    if low < 0 or high >= num_units:
        raise ValueError(
            f"units from {low} to {high} do not fit this vocoder's codebook of {num_units}: use "
            "tokens of the tokenizer it was trained on"
        )
    return units_T.astype(np.int64)


def _hifigan(settings: Vocoder, sample_rate_hz: int) -> SpeechT5HifiGan:
    # normalize_before would need the mean and scale of a mel spectrogram.
    hifigan = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=settings.unit_dim + settings.speaker_dim,
            sampling_rate=sample_rate_hz,
            upsample_initial_channel=settings.initial_channels,
            upsample_rates=list(settings.upsample_rates),
            upsample_kernel_sizes=list(settings.upsample_kernels),
            resblock_kernel_sizes=list(settings.resblock_kernels),
            resblock_dilation_sizes=[list(rates) for rates in settings.resblock_dilations],
            normalize_before=False,
        )
    )
    # transformers initialises weights with a deviation of 0.01, which is meant for weight norm:
    # without it the signal fades from layer to layer. torch's own initialisation learns faster, and
    # weights without weight norm can be saved as they are.
    for module in hifigan.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            module.reset_parameters()
    return hifigan
