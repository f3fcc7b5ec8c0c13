"""`resynthesize`: speech from stored units, by a trained vocoder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.audio.decode import write_audio
from pipeline.commands.find_model import load_model
from pipeline.config import ConfigError
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.vocoder.generator import UnitVocoder


def resynthesize(
    model: str, tokens: Sequence[str], speaker: str | None, output: Path, console: Console
) -> None:
    """Write one WAV file into `output` for each row of the Parquet files `tokens`.

    Raises:
        ConfigError: a file has no tokens, or units of another codebook, or the speaker is unknown.
    """
    vocoder = load_model(model, "vocoder", UnitVocoder.from_pretrained)
    if speaker is not None and speaker not in vocoder.speakers:
        raise ConfigError(
            f"the vocoder does not know the speaker '{speaker}': leave --speaker out, or name one of "
            f"{', '.join(vocoder.speakers)}"
        )
    output.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for utt_id, units in _utterances(tokens):
        try:
            waveform = vocoder.resynthesize(units, speaker)
        except ValueError as error:
            raise ConfigError(f"{utt_id}: {error}") from error
        path = output / f"{_free_name(utt_id, taken)}.wav"
        write_audio(path, waveform, vocoder.sample_rate_hz, format="WAV")
        seconds = len(waveform) / vocoder.sample_rate_hz
        console.print(f"{path}: {seconds:.2f} s", markup=False, highlight=False, soft_wrap=True)


def _utterances(tokens: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for uri in tokens:
        source = Artifact(uri)
        if not source.exists(""):
            raise ConfigError(f"{uri}: no such file")
        with source.filesystem.open(source.path(), "rb") as file:
            try:
                table = pq.read_table(file, columns=["utt_id", "units"])
            except (ValueError, KeyError) as error:
                names = ", ".join(table_schemas.TOKENS.names)
                raise ConfigError(
                    f"{uri} has no tokens: name a Parquet file with {names} ({error})"
                ) from error
        for row in table.to_pylist():
            yield row["utt_id"], np.asarray(row["units"], dtype=np.int64)


def _free_name(utt_id: str, taken: set[str]) -> str:
    """A unique file name for an utterance, whose id may be a path."""
    stem = name = Path(utt_id).stem or "utterance"
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name
