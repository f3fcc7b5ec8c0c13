"""How long each unit of a de-duplicated sequence lasts.

A run is a stretch of frames that carry the same unit; its length d is counted in frames. The
predictor is fitted to log(d + 1); a prediction x stands for round(exp(x) - 1) frames, at least 1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.rnn import pad_sequence


class DurationPredictor(nn.Module):
    """Run lengths from the units alone: embedding, two convolutions over runs, one number for each run.

    It has no dropout, so a resumed training needs no random state.
    """

    def __init__(self, num_units: int, dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_units, dim)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2) for _ in range(2)
        )
        self.head = nn.Linear(dim, 1)

    def forward(self, runs_BN: Tensor, num_runs_B: Tensor) -> Tensor:
        """Predict log(d + 1) of every run, B x N; values after a row's last run have no meaning."""
        steps_N = torch.arange(runs_BN.shape[1], device=runs_BN.device)
        inside_B1N = (steps_N < num_runs_B[:, None])[:, None]
        # Masked before each convolution, so a row does not depend on its padding.
        x_BDN = self.embedding(runs_BN).transpose(1, 2)
        for convolution in self.convolutions:
            x_BDN = leaky_relu(convolution(x_BDN * inside_B1N))
        log_lengths_BN: Tensor = self.head(x_BDN.transpose(1, 2)).squeeze(-1)
        return log_lengths_BN

    def loss(self, units_BT: Tensor) -> Tensor:
        """Mean squared error of log(d + 1) over the complete runs of segments, a scalar.

        A segment cuts its first and its last run, so their lengths are left out; a batch without
        complete runs gives zero.
        """
        pairs = [torch.unique_consecutive(units_T, return_counts=True) for units_T in units_BT]
        runs_BN = pad_sequence([runs for runs, _ in pairs], batch_first=True)
        lengths_BN = pad_sequence([lengths for _, lengths in pairs], batch_first=True)
        num_runs_B = torch.tensor([len(runs) for runs, _ in pairs], device=units_BT.device)
        steps_N = torch.arange(runs_BN.shape[1], device=units_BT.device)
        complete_BN = (steps_N > 0) & (steps_N < num_runs_B[:, None] - 1)
        error_BN: Tensor = self(runs_BN, num_runs_B) - torch.log(lengths_BN + 1.0)
        return (error_BN.square() * complete_BN).sum() / complete_BN.sum().clamp(min=1)

    @torch.inference_mode()
    def expand(self, runs_N: Tensor) -> Tensor:
        """Repeat each of N units for its predicted number of frames: units at the frame rate."""
        num_runs_1 = torch.tensor([len(runs_N)], device=runs_N.device)
        log_lengths_N = self(runs_N[None], num_runs_1)[0]
        lengths_N = torch.round(torch.exp(log_lengths_N) - 1).clamp(min=1).long()
        return torch.repeat_interleave(runs_N, lengths_N)
