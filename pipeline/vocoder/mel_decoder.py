"""A small network from embedded units and a speaker to log-mel spectra, for a loss of the units.

Shapes: B utterances, T frames, E embedding, M mel bands.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu

from pipeline.vocoder.frame_mels import NUM_MELS
from pipeline.vocoder.speakers import SpeakerRows

KERNEL, LAYERS = 5, 3


class MelDecoder(nn.Module):
    """Residual convolutions over frames, each of which hears 120 ms to either side.

    Nothing in it is random or depends on padding.
    """

    def __init__(self, num_units: int, num_speakers: int, dim: int) -> None:
        super().__init__()
        self.unit_embedding = nn.Embedding(num_units, dim)
        self.speaker_embedding = SpeakerRows(num_speakers, dim)
        for table in (self.unit_embedding, self.speaker_embedding):
            nn.init.normal_(table.weight, std=dim**-0.5)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2) for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, NUM_MELS)

    def forward(self, embedded_BTE: Tensor, speakers_B: Tensor, mask_BT: Tensor) -> Tensor:
        """Log-mel spectra B x T x M; those where `mask_BT` is false mean nothing.

        Args:
            embedded_BTE: the row of `unit_embedding` of each frame's unit.
            speakers_B: int64, rows of `speaker_embedding` or `AVERAGE_SPEAKER`.
            mask_BT: bool, true on valid frames.
        """
        x_BET = (embedded_BTE + self.speaker_embedding(speakers_B)[:, None]).transpose(1, 2)
        for convolution in self.convolutions:
            x_BET = x_BET + gelu(convolution(x_BET * mask_BT[:, None]))
        made_BTM: Tensor = self.head(self.norm(x_BET.transpose(1, 2)))
        return made_BTM

    def loss(
        self, embedded_BTE: Tensor, speakers_B: Tensor, mask_BT: Tensor, heard_BTM: Tensor
    ) -> Tensor:
        """The sum over valid frames of the mean absolute error over mel bands, in float32."""
        made_BTM = self(embedded_BTE, speakers_B, mask_BT).float()
        # A model of the hub may have a frame more or less than its grid was taken to have.
        error_BTM = (made_BTM[:, : heard_BTM.shape[1]] - heard_BTM[:, : made_BTM.shape[1]]).abs()
        padding_BT = ~mask_BT[:, : error_BTM.shape[1]]
        loss: Tensor = error_BTM.mean(-1).masked_fill(padding_BT, 0).sum()
        return loss
