"""A corpus of tokens alone, whose texts can be read off the units."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pipeline.audio.utterance import Utterance
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

# Each letter is a string of units.
UNITS = {"a": (1, 2, 3, 8), "b": (4, 5, 9), "c": (6, 4, 7, 5), " ": (0, 10)}
UNITS_PER_SECOND = 50
SIZES = {"train": 24, "valid": 6, "test": 5}


def spoken(split: str, number: int) -> list[tuple[Utterance, np.ndarray]]:
    """Utterances without audio, and the units of each; every unit lasts one to three frames."""
    generator = np.random.default_rng(sum(map(ord, split)))
    found = []
    for index in range(number):
        words = ["".join(generator.choice(list("abc"), 3)) for _ in range(3)]
        text = " ".join(words)
        units = [unit for letter in text for unit in UNITS[letter]]
        units_T = np.repeat(units, generator.integers(1, 4, len(units))).astype(np.uint16)
        seconds = len(units_T) / UNITS_PER_SECOND
        name = f"{split}-{index:02d}"
        found.append((Utterance(name, split, "none", 0.0, seconds, "speaker", text), units_T))
    return found


def corpus_of(sizes: Mapping[str, int] = SIZES) -> dict[str, list[tuple[Utterance, np.ndarray]]]:
    """The utterances and units of each split."""
    return {split: spoken(split, number) for split, number in sizes.items()}


def tokens_table(spoken_units: list[tuple[Utterance, np.ndarray]]) -> pa.Table:
    """As `tokenize_corpus` stores it."""
    rows = [
        {"utt_id": each.utt_id, "split": each.split, "units": units, "num_frames": len(units)}
        for each, units in spoken_units
    ]
    return pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)


def write_tokens(output: Artifact, spoken_units: list[tuple[Utterance, np.ndarray]]) -> Artifact:
    """An output of `tokenize_corpus` for one split."""
    split = spoken_units[0][0].split
    output.write_table(f"tokens/{split}-00000.parquet", tokens_table(spoken_units))
    return output
