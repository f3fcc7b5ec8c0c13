"""Sinusoidal positions."""

import math

import torch
from torch import Tensor


def sinusoids(num_positions: int, dim: int, device: torch.device, first: int = 0) -> Tensor:
    """Sinusoidal positions (Vaswani et al., 2017, section 3.5).

    Positions `first` … `first + num_positions - 1` as num_positions x dim float32; they may be
    negative.

    Even columns hold sin(t / 10000^(column / dim)), odd ones the cosine of their left neighbour.
    """
    times_T = torch.arange(first, first + num_positions, device=device, dtype=torch.float32)
    columns = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angles = times_T[:, None] * torch.exp(columns * (-math.log(10000.0) / dim))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :dim]
