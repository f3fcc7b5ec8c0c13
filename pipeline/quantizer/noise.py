"""Gumbel noise that is drawn again where it is needed, never kept."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

# An odd constant that spreads neighbouring tiles over all seeds (2^64 / golden ratio).
SPREAD = 0x9E3779B97F4A7C15


# torch draws on one CPU; so many stretches of a tile, each with a seed of its own, keep more busy.
STRETCHES = 4


def gumbel_noise(seed: int, tile: int, out_NK: Tensor) -> Tensor:
    """Fill `out_NK` with Gumbel(0, 1) noise; returns it.

    A pure function of the seed, the tile's number, the shape and the kind of device.
    """
    if out_NK.device.type == "cpu":
        seeds = range(tile * STRETCHES, (tile + 1) * STRETCHES)
        with ThreadPoolExecutor(min(STRETCHES, torch.get_num_threads())) as pool:
            list(pool.map(_fill, out_NK.tensor_split(STRETCHES), seeds, STRETCHES * [seed]))
    else:
        _fill(out_NK, tile, seed)
    # uniform_ can give 0 but never 1: only the lower end needs care.
    out_NK.clamp_(min=torch.finfo(torch.float32).tiny)
    return out_NK.log_().neg_().log_().neg_()


def _fill(out_NK: Tensor, number: int, seed: int) -> None:
    generator = torch.Generator(out_NK.device).manual_seed((seed + number * SPREAD) % (1 << 63))
    out_NK.uniform_(generator=generator)
