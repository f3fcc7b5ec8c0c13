"""The encoders of Whisper models: a log-mel spectrogram, two convolutions, then a transformer."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig
from transformers.models.whisper import modeling_whisper

from pipeline.audio.model_grid import grid_of_model
from pipeline.features.cpu_layers import replace_linears
from pipeline.features.log_mel import LogMel
from pipeline.features.ssl import (
    HiddenStates,
    TransformersEncoder,
    cut,
    padding_mask,
    recorded,
    stack_layers,
)

Pad = Literal["window", "none"]
PAD = "ssl_pad"  # in the saved model's config
# Behind the longest utterance, so that its last frames see silence, as those of all others do.
SILENT_FRAMES = 2


class WhisperBackbone(modeling_whisper.WhisperPreTrainedModel):  # type: ignore[no-untyped-call] # transformers'
    """The encoder of a Whisper checkpoint, whose decoder is neither loaded nor saved."""

    _keys_to_ignore_on_load_unexpected: Any = (r"decoder\.", r"proj_out\.")

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.encoder = modeling_whisper.WhisperEncoder(config)
        self.post_init()  # type: ignore[no-untyped-call] # transformers'


class WhisperEncoder(TransformersEncoder):
    """A Whisper encoder.

    With `pad` "window" each utterance is filled up with silence to the length that the model has
    learned from (30 s), and its frames may attend to all of it. With "none" they attend to the
    utterance alone, which costs as much less as it is shorter; layer 0 is the same.
    """

    def __init__(
        self,
        backbone: WhisperBackbone,
        feature_extractor: Any,
        max_layer: int | None = None,
        pad: Pad | None = None,
    ) -> None:
        """Wrap `backbone`, which is cut and reconfigured in place.

        Args:
            backbone: the encoder.
            feature_extractor: its transformers feature extractor.
            max_layer: layers above it are dropped; `None` keeps all.
            pad: see above; `None` takes what a saved model had, or else "window".

        Raises:
            ValueError: the model has fewer layers than `max_layer`.
        """
        settings = backbone.config
        super().__init__(backbone, feature_extractor, grid_of_model(settings.to_dict()))
        replace_linears(backbone)
        self.log_mel = LogMel(feature_extractor)
        self.pad: Pad = getattr(settings, PAD, "window") if pad is None else pad
        setattr(settings, PAD, self.pad)
        self._front_end_frozen = False
        self._is_cut = cut(backbone, "encoder_layers", max_layer)
        backbone.encoder.embed_positions.requires_grad_(requires_grad=False)  # they are sinusoids
        if self._is_cut:
            backbone.encoder.layer_norm.requires_grad_(requires_grad=False)

    def forward(
        self, waveforms_BS: Tensor, num_samples_B: Tensor, layers: Sequence[int]
    ) -> HiddenStates:
        """See `SslModel`.

        Raises:
            ValueError: also if an utterance has more frames than the model has positions.
        """
        self.check_request(num_samples_B, layers)
        num_samples_B = num_samples_B.to(waveforms_BS.device, non_blocking=True)
        num_frames = self.grid.num_frames(waveforms_BS.shape[1])
        num_frames_B = self.num_frames(num_samples_B)
        frames_BTD = self._front_end(waveforms_BS, num_samples_B, num_frames)
        valid_BT = padding_mask(num_frames_B, num_frames)
        outputs = self._encode(frames_BTD, valid_BT if self.pad == "none" else None, layers)
        heard = {layer: hidden_BTD[:, :num_frames] for layer, hidden_BTD in outputs.items()}
        return HiddenStates(stack_layers(heard, layers, valid_BT), num_frames_B)

    def padded_samples(self, num_samples: int) -> int:
        window = (self.grid.max_frames or 0) * self.grid.hop
        return max(num_samples, window) if self.pad == "window" else num_samples

    @property
    def final_norm(self) -> nn.Module | None:
        return None if self._is_cut else self.backbone.encoder.layer_norm

    def narrow(self, dtype: torch.dtype) -> None:
        positions = self.backbone.encoder.embed_positions.weight
        wide = positions.data
        super().narrow(dtype)
        positions.data = wide

    def freeze_front_end(self) -> None:
        """Freeze the two convolutions: they get no gradient from now on."""
        self._front_end_frozen = True
        for convolution in (self.backbone.encoder.conv1, self.backbone.encoder.conv2):
            convolution.requires_grad_(requires_grad=False)

    def _front_end(self, waveforms_BS: Tensor, num_samples_B: Tensor, num_frames: int) -> Tensor:
        """The convolutions' frames: `num_frames`, or the model's whole window of them."""
        most = self.grid.max_frames or num_frames
        if num_frames > most:
            seconds = most * self.grid.hop / self.grid.sample_rate_hz
            raise ValueError(
                f"an utterance has {num_frames} frames, ssl.model takes {most} at once ({seconds:g} "
                "s): pass it in windows"
            )
        encoder = self.backbone.encoder
        made = most if self.pad == "window" else num_frames + SILENT_FRAMES
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._front_end_frozen):
            mels_BMT = self.log_mel(waveforms_BS, num_samples_B, made * self.grid.hop)
            hidden_BDT = functional.gelu(encoder.conv1(mels_BMT.to(self.dtype)))
            hidden_BDT = functional.gelu(encoder.conv2(hidden_BDT))
        kept = most if self.pad == "window" else num_frames
        return hidden_BDT[..., :kept].transpose(1, 2)

    def _encode(
        self, frames_BTD: Tensor, attended_BT: Tensor | None, layers: Sequence[int]
    ) -> Mapping[int, Tensor]:
        """The layers; frames attend to `attended_BT`, or to all."""
        encoder = self.backbone.encoder
        mask_B11T = None if attended_BT is None else attended_BT[:, None, None]
        positions_TD = encoder.embed_positions.weight[: frames_BTD.shape[1]]
        # Positions are float32, also where the blocks are narrow.
        placed_BTD = (frames_BTD + positions_TD).to(
            torch.promote_types(frames_BTD.dtype, self.dtype)
        )
        hidden_BTD = functional.dropout(placed_BTD, encoder.dropout, self.training)
        outputs = {0: hidden_BTD}
        with recorded(encoder.layers, [layer - 1 for layer in layers if layer]) as made:
            for block in encoder.layers:
                hidden_BTD = block(hidden_BTD, mask_B11T)
        outputs |= {layer + 1: made_BTD for layer, made_BTD in made.items()}
        if not self._is_cut:
            outputs[self.num_layers] = encoder.layer_norm(hidden_BTD)
        return outputs
