"""w2v-BERT 2.0: a log-mel filterbank, two of its frames at a time, then conformer blocks."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.audio.model_grid import grid_of_model
from pipeline.features.cpu_layers import replace_linears
from pipeline.features.kaldi_fbank import KaldiFbank
from pipeline.features.ssl import (
    HiddenStates,
    TransformersEncoder,
    cut,
    padding_mask,
    recorded,
    stack_layers,
)


class Wav2Vec2BertEncoder(TransformersEncoder):
    """A w2v-BERT 2.0 model; its front end has nothing that could be trained."""

    def __init__(self, backbone: Any, feature_extractor: Any, max_layer: int | None = None) -> None:
        """Wrap `backbone`, which is cut and reconfigured in place.

        Args:
            backbone: a transformers `Wav2Vec2BertModel`.
            feature_extractor: its transformers feature extractor.
            max_layer: layers above it are dropped; `None` keeps all.

        Raises:
            ValueError: the model has fewer layers than `max_layer`.
        """
        settings = backbone.config
        super().__init__(backbone, feature_extractor, grid_of_model(settings.to_dict()))
        replace_linears(backbone)
        self.fbank = KaldiFbank(feature_extractor)
        # Otherwise the model would drop layers at random in training.
        settings.layerdrop = 0.0
        cut(backbone, "num_hidden_layers", max_layer)
        # A parameter that no output depends on would block data-parallel training.
        for name in ("masked_spec_embed", "adapter", "intermediate_ffn"):
            unused = getattr(backbone, name, None)
            if unused is not None:
                unused.requires_grad_(requires_grad=False)

    def forward(
        self, waveforms_BS: Tensor, num_samples_B: Tensor, layers: Sequence[int]
    ) -> HiddenStates:
        """See `SslModel`."""
        self.check_request(num_samples_B, layers)
        num_samples_B = num_samples_B.to(waveforms_BS.device, non_blocking=True)
        features_BTM = self.fbank(waveforms_BS, num_samples_B).to(self.dtype)
        num_frames = self.grid.num_frames(waveforms_BS.shape[1])
        pairs_BTM = features_BTM[:, : 2 * num_frames].unflatten(1, (num_frames, 2)).flatten(2)
        frames_BTD, _ = self.backbone.feature_projection(pairs_BTM)
        num_frames_B = self.num_frames(num_samples_B)
        valid_BT = padding_mask(num_frames_B, num_frames)
        encoder = self.backbone.encoder
        with recorded([encoder.dropout, *encoder.layers], layers) as outputs:
            encoder(frames_BTD, attention_mask=valid_BT)
        return HiddenStates(stack_layers(outputs, layers, valid_BT), num_frames_B)

    def parts_by_length(self) -> tuple[nn.Module, ...]:
        return (self.backbone.feature_projection, *self.blocks())

    def freeze_front_end(self) -> None:
        """The filterbank is fixed as it is."""
