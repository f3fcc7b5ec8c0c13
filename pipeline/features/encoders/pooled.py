"""An SSL model with fewer frames a second: the mean of each group of neighbours."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.features.ssl import HiddenStates, SslModel, valid


class PooledEncoder(SslModel):
    """The hidden states of `encoder`, averaged over each `pool` neighbouring frames.

    A group that the end of an utterance leaves incomplete is dropped, as the encoder drops a frame
    that the end cuts off: so every frame stands for equally many samples, in any batch and window.
    """

    def __init__(self, encoder: SslModel, pool: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = pool
        self.grid = encoder.grid.pooled(pool)
        self.hidden_size = encoder.hidden_size

    def forward(
        self, waveforms_BS: Tensor, num_samples_B: Tensor, layers: Sequence[int]
    ) -> HiddenStates:
        """See `SslModel`."""
        self.check_request(num_samples_B, layers)
        most = self._most_heard(waveforms_BS.shape[1])
        hidden_LBTD, num_frames_B = self.encoder(
            waveforms_BS[:, :most], num_samples_B.clamp(max=most), layers
        )
        num_groups = hidden_LBTD.shape[2] // self.pool
        grouped = hidden_LBTD[:, :, : num_groups * self.pool].unflatten(2, (num_groups, self.pool))
        num_groups_B = num_frames_B // self.pool
        valid_BT = valid(num_groups_B, num_groups)
        return HiddenStates(grouped.mean(3) * valid_BT[..., None], num_groups_B)

    def _most_heard(self, num_samples: int) -> int:
        """How many of so many samples the encoder is given.

        A group that is cut off may begin within the encoder's window and end behind it. As it is
        dropped, so is what lies behind the window; a complete group there is an error of the encoder.
        """
        grid = self.encoder.grid
        if (
            grid.max_frames is None
            or self.grid.num_frames(num_samples) * self.pool > grid.max_frames
        ):
            return num_samples
        return min(num_samples, grid.num_samples(grid.max_frames + 1) - 1)

    def narrow(self, dtype: torch.dtype) -> None:
        self.encoder.narrow(dtype)

    def blocks(self) -> tuple[nn.Module, ...]:
        return self.encoder.blocks()

    def parts_by_length(self) -> tuple[nn.Module, ...]:
        return self.encoder.parts_by_length()

    @property
    def final_norm(self) -> nn.Module | None:
        return self.encoder.final_norm

    def padded_samples(self, num_samples: int) -> int:
        return self.encoder.padded_samples(num_samples)

    def freeze_front_end(self) -> None:
        self.encoder.freeze_front_end()

    def remember_front_end(self, max_bytes: int) -> None:
        self.encoder.remember_front_end(max_bytes)

    def checkpoint_gradients(self, num_blocks: int | None = None) -> None:
        self.encoder.checkpoint_gradients(num_blocks)

    def save_pretrained(self, folder: str | Path) -> None:
        self.encoder.save_pretrained(folder)
