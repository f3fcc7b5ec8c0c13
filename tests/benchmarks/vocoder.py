"""Speech from units: the generator at the frame rate, and HiFi-GAN at the sample rate.

Both have the sizes that a config has by default and random weights, which change no cost. On a CPU one
core works, so that seconds over seconds of speech are the real-time factor.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record
from pipeline.config import Vocoder
from pipeline.vocoder.generator import UnitVocoder

NUM_UNITS, UNITS_A_SECOND = 100, 50
# Utterances, and seconds of each.
WORKS = {"full": (8, 5.0), "small": (2, 0.5)}
ROUNDS = {"full": 5, "small": 2}
GENERATORS = ("istft", "hifigan")


def run(size: str, device: torch.device) -> Record:
    utterances, seconds = WORKS[size]
    random = np.random.default_rng(0)
    rows = random.integers(NUM_UNITS, size=(utterances, round(seconds * UNITS_A_SECOND)))
    vocoders = {name: made(name, device) for name in GENERATORS}
    builders = {}
    for name, vocoder in vocoders.items():
        builders[name] = partial(together, vocoder, rows)
        builders[f"{name}, one at a time"] = partial(alone, vocoder, rows)
    with one_core():
        contenders, left_out = gather(builders)
        found = costs(contenders, device, ROUNDS[size])
        factors = {
            f"{name}: CPU seconds a second of speech": cpu_seconds(vocoder, rows)
            / (utterances * seconds)
            for name, vocoder in vocoders.items()
        }
    setting = {"utterances": utterances, "seconds of each": seconds, "rounds": ROUNDS[size]}
    pairs = [("hifigan", "istft"), ("istft, one at a time", "istft")]
    return Record("vocoder", device.type, size, setting, found, left_out, pairs, factors)


def made(generator: str, device: torch.device) -> UnitVocoder:
    torch.manual_seed(0)
    settings = Vocoder.model_validate({"generator": generator})
    return UnitVocoder(settings, NUM_UNITS, ["any"]).to(device).eval()


def together(vocoder: UnitVocoder, rows: np.ndarray) -> Contender:
    def call() -> Sequence[Any]:
        return vocoder.resynthesize_batch(list(rows), [None] * len(rows))

    return Contender(f"{len(rows)} utterances in a batch, {size_of(vocoder)}", call)


def alone(vocoder: UnitVocoder, rows: np.ndarray) -> Contender:
    def call() -> Sequence[Any]:
        return [vocoder.resynthesize(row, None) for row in rows]

    return Contender("the same utterances one at a time", call)


def size_of(vocoder: UnitVocoder) -> str:
    millions = sum(weight.numel() for weight in vocoder.parameters()) / 1e6
    return f"{millions:.1f} million parameters"


def cpu_seconds(vocoder: UnitVocoder, rows: np.ndarray) -> float:
    """Of speaking all rows one at a time, on whatever cores."""
    started = process_time()
    for row in rows:
        vocoder.resynthesize(row, None)
    return process_time() - started


@contextmanager
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
