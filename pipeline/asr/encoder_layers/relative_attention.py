"""Self-attention that knows how far apart two frames are, and not where they are."""

import math

import torch
from torch import Tensor, nn

from pipeline.asr.positions import sinusoids
from pipeline.config import Asr


class RelativeAttention(nn.Module):
    """Transformer-XL's attention (Dai et al., 2019, section 3.3), in both directions.

    The score of frame j for frame i is ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(d) in each head of
    width d, where r is a projection of the sinusoids of the distance i - j, negative ones included.
    """

    def __init__(self, settings: Asr) -> None:
        super().__init__()
        self.heads = settings.heads
        self.dropout = settings.dropout
        width = settings.dim
        self.project_in = nn.Linear(width, 3 * width)
        self.project_distances = nn.Linear(width, width, bias=False)
        self.project_out = nn.Linear(width, width)
        self.content_bias_HD = nn.Parameter(torch.zeros(self.heads, width // self.heads))
        self.distance_bias_HD = nn.Parameter(torch.zeros(self.heads, width // self.heads))

    def forward(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        """`padding_BT` is true after an utterance's end, which nothing attends to."""
        query_BHTD, key_BHTD, value_BHTD = map(self._in_heads, self.project_in(x_BTD).chunk(3, -1))
        scores_BHTT = self._distance_scores(query_BHTD + self.distance_bias_HD[:, None])
        attended_BHTD = nn.functional.scaled_dot_product_attention(
            query_BHTD + self.content_bias_HD[:, None],
            key_BHTD,
            value_BHTD,
            attn_mask=scores_BHTT.masked_fill(padding_BT[:, None, None], -math.inf),
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended_BTD: Tensor = self.project_out(attended_BHTD.transpose(1, 2).flatten(2))
        return attended_BTD

    def _in_heads(self, x_BTD: Tensor) -> Tensor:
        split_BTHD: Tensor = x_BTD.unflatten(-1, (self.heads, -1))
        return split_BTHD.transpose(1, 2)

    def _distance_scores(self, query_BHTD: Tensor) -> Tensor:
        """query_i r_{i-j} / sqrt(d) at (i, j), as a view of the scores of all distances."""
        num_frames, dim = query_BHTD.shape[2:]
        farthest_first_RD = sinusoids(
            2 * num_frames, self.heads * dim, query_BHTD.device, first=-num_frames
        ).flip(0)
        projected_RD = self.project_distances(farthest_first_RD.to(query_BHTD.dtype))
        distances_HRD = self._in_heads(projected_RD[None])[0]
        by_distance_BHTR = (query_BHTD * dim**-0.5) @ distances_HRD.transpose(1, 2)
        # Row i needs columns T - 1 - i to 2T - 2 - i of the 2T. Read as rows that are one column
        # shorter, each starts one column further to the left than the row before it.
        rows_BHN = by_distance_BHTR.flatten(2)[..., num_frames - 1 : -1]
        scores_BHTT: Tensor = rows_BHN.unflatten(2, (num_frames, -1))[..., :num_frames]
        return scores_BHTT
