"""The unit vocoder: unit and speaker embeddings, frame by frame, into a generator of waveforms."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.config import Vocoder
from pipeline.vocoder.durations import DurationPredictor
from pipeline.vocoder.excitation import Excitation
from pipeline.vocoder.hifigan import HifiganGenerator
from pipeline.vocoder.istft import IstftGenerator
from pipeline.vocoder.material import require_hop
from pipeline.vocoder.pitch_predictor import PITCH_CHANNELS, PitchPredictor, pitch_channels
from pipeline.vocoder.speakers import make_speakers
from pipeline.vocoder.voice import Voice

ARCHITECTURE = {"generator", "unit_dim", "speaker", "speaker_dim", "unseen_speaker", "pitch"}
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class UnitVocoder(nn.Module):
    """Speech from units at the tokenizer's frame rate.

    Frame i of the units covers the samples [hop i, hop (i + 1)) of the output. In the recording
    the same frame is centred at start + receptive_field / 2 + hop i, so the output starts at sample
    `shift` = start + (receptive_field - hop) / 2 of the recording, which may be before the first.

    Args:
        settings: the generator, and the sizes of it and of the embeddings.
        num_units: size of the codebook.
        speakers: names of the training speakers, in the order of their embeddings.
        grid: of the tokenizer's frames, which set the output's sample rate.
        tokenizer: the digest of the tokenizer that it was trained on (`tokenizer.identity`), where
            that is known.
        band_hz: the highest frequency of its recordings, if below half the sample rate. `istft` is
            silent above.

    Raises:
        ValueError: the generator does not make exactly a hop of each frame, or `settings` name an
            unknown speaker.
    """

    def __init__(
        self,
        settings: Vocoder,
        num_units: int,
        speakers: Sequence[str],
        grid: FrameGrid = SSL_GRID,
        tokenizer: str | None = None,
        *,
        band_hz: float | None = None,
    ) -> None:
        super().__init__()
        require_hop(settings, grid.hop)
        self.settings = settings
        self.num_units = num_units
        self.speakers = tuple(speakers)
        self.grid = grid
        self.tokenizer = tokenizer
        self.sample_rate_hz = grid.sample_rate_hz
        self.band_hz = min(band_hz or math.inf, grid.sample_rate_hz / 2)
        self.unit_embedding = nn.Embedding(num_units, settings.unit_dim)
        self.voices = make_speakers(settings, self.speakers)
        self.durations = DurationPredictor(num_units, settings.unit_dim)
        self.pitch = self._pitch_predictor()
        self.generator = self._generator()

    @property
    def device(self) -> torch.device:
        return self.unit_embedding.weight.device

    @property
    def shift(self) -> int:
        """Where in the recording the vocoder's first sample is."""
        return self.grid.start + (self.grid.receptive_field - self.grid.hop) // 2

    def forward(
        self,
        units_BT: Tensor,
        speakers_B: Tensor,
        num_frames_B: Tensor | None = None,
        f0_BT: Tensor | None = None,
    ) -> Tensor:
        """Turn B x T units and B keys of speakers (`self.voices`) into B x (hop T) samples.

        With the frames of each row, a row's samples do not depend on what follows them; those
        after hop x its frames have no meaning. A vocoder with `pitch` predicts F0 where none is given.
        """
        frames_T = torch.arange(units_BT.shape[1], device=units_BT.device)
        inside_BT = torch.ones_like(units_BT, dtype=torch.bool)
        if num_frames_B is not None:
            inside_BT = frames_T < num_frames_B[:, None]
        speakers = self.voices(speakers_B)
        x_BTU = self.unit_embedding(units_BT)
        if self.pitch is not None and f0_BT is None:
            f0_BT = self.pitch.predict(units_BT, speakers, inside_BT)
        if self.pitch is None or f0_BT is None:
            waveform_BS: Tensor = self.generator(x_BTU, speakers.vectors_BS, inside_BT)
            return waveform_BS.float()
        x_BTU = torch.cat([x_BTU, pitch_channels(f0_BT)], dim=-1)
        excited_BS: Tensor = self.generator(x_BTU, speakers.vectors_BS, inside_BT, f0_BT)
        return excited_BS.float()

    def side_losses(self, units_BT: Tensor, speakers_B: Tensor, f0_BT: Tensor) -> dict[str, Tensor]:
        """The losses of what is predicted beside the waveform: durations, and F0 if there is `pitch`."""
        losses = {"duration": self.durations.loss(units_BT)}
        if self.pitch is not None:
            losses["pitch"] = self.pitch.loss(units_BT, self.voices(speakers_B), f0_BT)
        return losses

    def resynthesize(
        self, units: Any, speaker: str | Voice | None, *, deduplicated: bool = False
    ) -> np.ndarray:
        """`resynthesize_batch` of one utterance."""
        [waveform_S] = self.resynthesize_batch([units], [speaker], deduplicated=deduplicated)
        return waveform_S

    @torch.inference_mode()
    def resynthesize_batch(
        self,
        units: Sequence[Any],
        speakers: Sequence[str | Voice | None],
        *,
        deduplicated: bool = False,
    ) -> list[np.ndarray]:
        """Speak utterances: float32 samples of each on the time axis of its recording.

        Zeros are added on either side, or what lies before the recording is cut off, so that the
        result has one frame for each unit, and its frame i is frame i of the recording. An
        utterance sounds as it would alone, whatever else is in the batch.

        Args:
            units: of each utterance a list, an array or a tensor of T integers.
            speakers: of each utterance a training speaker's name, or with `vocoder.speaker: encoder`
                anybody's voice (`vocoder.voice.voice_of`). `unseen_speaker` stands for `None` and for
                unknown names; if that is `None`, the average of all speakers does.
            deduplicated: whether to repeat each unit for its predicted duration first.

        Raises:
            ValueError: no units, not integers, a unit that is not in the codebook, or a voice for a
                vocoder that knows only names.
        """
        device = self.device
        rows = [torch.as_tensor(as_units(row, self.num_units), device=device) for row in units]
        if deduplicated:
            rows = [self.durations.expand(row) for row in rows]
        keys = np.stack([self.voices.key(speaker) for speaker in speakers])
        speakers_B = torch.from_numpy(keys).to(device)
        num_frames_B = torch.tensor([len(row) for row in rows], device=device)
        units_BT = pad_sequence(rows, batch_first=True)
        waveforms_BS = self(units_BT, speakers_B, num_frames_B).float().cpu().numpy()
        return [self._heard(made, len(row)) for made, row in zip(waveforms_BS, rows, strict=True)]

    def _heard(self, waveform_S: np.ndarray, num_frames: int) -> np.ndarray:
        """The samples of the first frames on the time axis of the recording."""
        made_S = waveform_S[: self.grid.hop * num_frames]
        heard_S = np.pad(made_S, (max(self.shift, 0), 0))[max(-self.shift, 0) :]
        return np.pad(heard_S, (0, self.grid.num_samples(num_frames) - len(heard_S)))

    def _pitch_predictor(self) -> PitchPredictor | None:
        settings = self.settings
        if settings.pitch == "none":
            return None
        return PitchPredictor(self.num_units, settings.speaker_dim, settings.unit_dim)

    def _generator(self) -> IstftGenerator | HifiganGenerator:
        settings = self.settings
        dims = settings.unit_dim + (PITCH_CHANNELS if self.pitch else 0), settings.speaker_dim
        if settings.generator == "hifigan":
            return HifiganGenerator(settings.hifigan, *dims)
        band = 2 * self.band_hz / self.sample_rate_hz
        excitation = Excitation(self.sample_rate_hz, self.grid.hop) if self.pitch else None
        return IstftGenerator(
            settings.istft, *dims, self.grid.hop, band=band, excitation=excitation
        )

    def save_pretrained(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "model_type": "unit_vocoder",
            "num_units": self.num_units,
            "tokenizer": self.tokenizer,
            "speakers": list(self.speakers),
            "band_hz": self.band_hz,
            **asdict(self.grid),
            "architecture": self.settings.model_dump(
                mode="json", include={*ARCHITECTURE, self.settings.generator}
            ),
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


def as_units(units: Any, num_units: int) -> npt.NDArray[np.int64]:
    """Units (num_frames,) of one utterance in a list, an array or a tensor.

    Raises:
        ValueError: no units, not integers, or a unit that is not in the codebook.
    """
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
