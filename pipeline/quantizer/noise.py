"""Gumbel noise that is drawn again when it is needed, never stored.

It is drawn in stretches of one utterance each, so that an utterance has the same noise in any batch:
a batch shared by several workers is quantized as by one worker.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

# An odd constant that spreads neighbouring stretches over all seeds (2^64 / golden ratio).
SPREAD = 0x9E3779B97F4A7C15

# torch draws on one CPU core. This many stretches, each with its own seed, use several cores in a
# tile that one utterance fills.
STRETCHES = 4

# More stretches than an utterance has. torch's CPU generator reads the low 32 bits of a seed, in
# which these numbers and as many utterances differ.
MOST_STRETCHES = 1 << 16


@dataclass(frozen=True)
class Stretch:
    """Neighbouring frames of one utterance: `span` among a batch's valid frames, and their seed."""

    span: slice
    seed: int


@dataclass(frozen=True)
class Noise:
    """Everything that determines the noise of a batch.

    Attributes:
        seed: of the step.
        keys: a number from 0 for each utterance, unique in the step, the same on any worker.
        lengths: valid frames of each utterance.
    """

    seed: int
    keys: tuple[int, ...]
    lengths: tuple[int, ...]

    def tiles(self, num_rows: int) -> Iterator[tuple[Stretch, ...]]:
        """The stretches in groups of at most `num_rows` frames."""
        tile: list[Stretch] = []
        for stretch in self._stretches(max(1, num_rows // STRETCHES)):
            if tile and stretch.span.stop - tile[0].span.start > num_rows:
                yield tuple(tile)
                tile = []
            tile.append(stretch)
        if tile:
            yield tuple(tile)

    def _stretches(self, num_rows: int) -> Iterator[Stretch]:
        first = 0
        for key, length in zip(self.keys, self.lengths, strict=True):
            for number, start in enumerate(range(first, first + length, num_rows)):
                span = slice(start, min(start + num_rows, first + length))
                spread = (key * MOST_STRETCHES + number) * SPREAD
                yield Stretch(span, (self.seed + spread) % (1 << 63))
            first += length


@dataclass(frozen=True)
class Counters:
    """Where a GPU's kernels draw each valid frame's noise.

    Attributes:
        seed: of the step.
        key_N: int32, the key of the frame's utterance; empty for no noise.
        index_N: int32, the frame's index in its utterance.
    """

    seed: int
    key_N: Tensor
    index_N: Tensor

    @classmethod
    def of(cls, noise: Noise | None, device: torch.device) -> "Counters":
        if noise is None:
            nothing = torch.empty(0, dtype=torch.int32, device=device)
            return cls(0, nothing, nothing)
        # Made on the host, so that nothing waits for the GPU.
        lengths_B = torch.tensor(noise.lengths).to(device, non_blocking=True)
        total = sum(noise.lengths)
        repeat = torch.repeat_interleave
        keys_B = torch.tensor(noise.keys, dtype=torch.int32).to(device, non_blocking=True)
        starts_B = (lengths_B.cumsum(0) - lengths_B).to(torch.int32)
        index_N = torch.arange(total, dtype=torch.int32, device=device)
        index_N -= repeat(starts_B, lengths_B, output_size=total)
        return cls(noise.seed, repeat(keys_B, lengths_B, output_size=total), index_N)

    @property
    def draws(self) -> bool:
        return len(self.key_N) > 0


def gumbel_noise(stretches: Sequence[Stretch], out_RK: Tensor) -> Tensor:
    """Fill the rows `out_RK` of neighbouring stretches with Gumbel(0, 1) noise; returns it.

    Each stretch's is a pure function of its seed, its shape and the kind of device.
    """
    first = stretches[0].span.start
    rows = [out_RK[each.span.start - first : each.span.stop - first] for each in stretches]
    seeds = [stretch.seed for stretch in stretches]
    if out_RK.device.type == "cpu":
        with ThreadPoolExecutor(min(len(rows), torch.get_num_threads())) as pool:
            list(pool.map(_fill, rows, seeds))
    else:
        for row, seed in zip(rows, seeds, strict=True):
            _fill(row, seed)
    # uniform_ can give 0 but never 1: only the lower end needs care.
    out_RK.clamp_(min=torch.finfo(torch.float32).tiny)
    return out_RK.log_().neg_().log_().neg_()


def _fill(out_RK: Tensor, seed: int) -> None:
    out_RK.uniform_(generator=torch.Generator(out_RK.device).manual_seed(seed))
