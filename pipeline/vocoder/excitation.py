"""What excites a vocal tract: pulses at F0 where speech is voiced, and noise.

Both are flat in frequency and have the power 1, so a filter alone makes speech of them, as in the
harmonic-plus-noise model of neural homomorphic vocoders (Liu, Chen and Yu, "Neural homomorphic
vocoder", Interspeech 2020).
"""

import math

import torch
from torch import Tensor, nn

NOISE_SECONDS = 16
_SMALL = 1e-4  # of a phase, below which the sum of cosines is their number


class Excitation(nn.Module):
    """Pulses and noise at the sample rate, from F0 at the frame rate; equal for equal F0."""

    noise_N: Tensor

    def __init__(self, sample_rate_hz: int, hop: int) -> None:
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.hop = hop
        random = torch.Generator().manual_seed(0)
        noise_N = torch.randn(NOISE_SECONDS * sample_rate_hz, generator=random)
        self.register_buffer("noise_N", noise_N, persistent=False)

    @torch.no_grad()
    def forward(self, f0_BT: Tensor, inside_BT: Tensor) -> tuple[Tensor, Tensor]:
        """B x T hertz, 0 where unvoiced, to the B x (hop T) samples of pulses and of noise.

        Both are silent in frames that are not `inside` their row.
        """
        pulses_BS = self._pulses(f0_BT.float() * inside_BT)
        positions_S = torch.arange(pulses_BS.shape[1], device=f0_BT.device) % len(self.noise_N)
        return pulses_BS, self.noise_N[positions_S] * self._held(inside_BT)

    def _held(self, x_BT: Tensor) -> Tensor:
        """The value of each frame at all its samples."""
        return x_BT.repeat_interleave(self.hop, dim=1)

    def _pulses(self, f0_BT: Tensor) -> Tensor:
        """All harmonics below half the sample rate, as cosines of one phase."""
        hz_BS = self._interpolated(f0_BT)
        voiced_BS = self._held(f0_BT > 0)
        # Minutes of float32 phase would lose its period.
        turns_BS = torch.cumsum(hz_BS.double() / self.sample_rate_hz, dim=1)
        half_BS = (math.pi * (turns_BS - turns_BS.round())).float()
        count_BS = (self.sample_rate_hz / 2 / hz_BS.clamp(min=1)).floor()
        # cos x + cos 2x + … + cos nx = (sin((2n + 1) x / 2) / sin(x / 2) - 1) / 2
        below_BS = torch.sin(half_BS)
        dirichlet_BS = torch.where(
            below_BS.abs() < _SMALL,
            2 * count_BS + 1,
            torch.sin((2 * count_BS + 1) * half_BS) / below_BS,
        )
        cosines_BS = (dirichlet_BS - 1) / 2
        return voiced_BS * cosines_BS * torch.sqrt(2 / count_BS)

    def _interpolated(self, f0_BT: Tensor) -> Tensor:
        """Hertz of each sample: lines between the centres of voiced frames, level beside others."""
        num_frames = f0_BT.shape[1]
        samples_S = torch.arange(self.hop * num_frames, device=f0_BT.device)
        place_S = (samples_S + 0.5) / self.hop - 0.5
        before_S = place_S.floor().long()
        left_BS = f0_BT[:, before_S.clamp(0, num_frames - 1)]
        right_BS = f0_BT[:, (before_S + 1).clamp(0, num_frames - 1)]
        left_BS, right_BS = (
            torch.where(left_BS > 0, left_BS, right_BS),
            torch.where(right_BS > 0, right_BS, left_BS),
        )
        return torch.lerp(left_BS, right_BS, (place_S - before_S).float())
