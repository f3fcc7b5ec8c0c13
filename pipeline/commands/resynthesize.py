"""`resynthesize`: speech from stored units, by a trained vocoder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from rich.console import Console

from pipeline.audio.decode import read_audio, write_audio
from pipeline.commands.find_model import load_model
from pipeline.commands.token_files import check_tokenizer, token_files
from pipeline.config import ConfigError
from pipeline.features.batching import map_in_batches
from pipeline.storage.artifacts import Artifact
from pipeline.storage.writable import require_writable
from pipeline.vocoder.generator import UnitVocoder, as_units
from pipeline.vocoder.speakers import NO_VOICE
from pipeline.vocoder.voice import LEAST_SECONDS, Voice, is_enough, voice_of

# Of a file's 255; the rest is for a number, the extension and the name of the file being written.
MOST_NAME_BYTES = 200
# Utterances that are in memory at once, and seconds that are spoken together, padding included.
BLOCK, BATCH_SECONDS = 64, 60.0

Row = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Speaker:
    """Who is to speak: a training speaker's name, or an audio file of a voice, or neither."""

    name: str | None = None
    voice: str | None = None


def resynthesize(
    model: str, tokens: Sequence[str], speaker: Speaker, output: str, console: Console
) -> None:
    """Write one WAV file into the folder `output` for each row of the Parquet files `tokens`.

    Folders stand for the files of units in them. The tokenizer of all files is checked before the first is spoken.
    De-duplicated units, such as those of `continue`, last as long as the vocoder predicts.

    Raises:
        ConfigError: a file has no tokens, or units of another tokenizer, or the speaker is unknown,
            or the vocoder cannot take a voice, or there is too little of it.
        AudioError: the file of the voice is missing or no audio.
        UnwritableError: `output` cannot be written, which is found before any work.
    """
    require_writable(output)
    vocoder = load_model(model, "vocoder", UnitVocoder.from_pretrained)
    who = _who(vocoder, speaker)
    files = token_files(tokens)
    check_tokenizer(model, vocoder.tokenizer, "train_vocoder", files, console)
    folder = Artifact(output.rstrip("/") or output)
    taken: set[str] = set()
    for file in files:
        for rows in _blocks(file.rows()):
            waveforms = _speak(vocoder, rows, who, deduplicated=file.deduplicated)
            for (utt_id, _), waveform in zip(rows, waveforms, strict=True):
                name = f"{_free_name(utt_id, taken)}.wav"
                with folder.write(name) as wav:
                    write_audio(wav, waveform, vocoder.sample_rate_hz, format="WAV")
                line = f"{folder.uri}/{name}: {len(waveform) / vocoder.sample_rate_hz:.2f} s"
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def _who(vocoder: UnitVocoder, speaker: Speaker) -> str | Voice | None:
    """The training speaker or the voice, if the vocoder can speak so."""
    name, rate_hz = speaker.name, vocoder.sample_rate_hz
    if name is not None and speaker.voice is not None:
        raise ConfigError("--speaker and --voice both say who speaks: give one of them")
    if speaker.voice is not None:
        if vocoder.settings.speaker != "encoder":
            raise ConfigError(f"--voice: {NO_VOICE}")
        samples = read_audio(speaker.voice, rate_hz)
        if not is_enough(samples, rate_hz):
            raise ConfigError(
                f"{speaker.voice} has less than {LEAST_SECONDS:g} seconds of speech: a voice needs "
                "some seconds"
            )
        return voice_of(samples, rate_hz)
    if name is not None and name not in vocoder.speakers:
        raise ConfigError(
            f"the vocoder does not know the speaker '{name}': leave --speaker out, or name one of "
            f"{', '.join(vocoder.speakers)}"
        )
    return name


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in their order, some at a time: what is spoken is kept until it is written."""
    while block := list(islice(rows, BLOCK)):
        yield block


def _speak(
    vocoder: UnitVocoder, rows: Sequence[Row], speaker: str | Voice | None, *, deduplicated: bool
) -> list[np.ndarray]:
    """The waveform of each row; rows of similar length are spoken together."""
    for utt_id, units in rows:
        try:
            as_units(units, vocoder.num_units)
        except ValueError as error:
            raise ConfigError(f"{utt_id}: {error}") from error

    def speak(batch: list[Row]) -> list[np.ndarray]:
        speakers = [speaker] * len(batch)
        units = [units for _, units in batch]
        return vocoder.resynthesize_batch(units, speakers, deduplicated=deduplicated)

    most = BATCH_SECONDS * vocoder.grid.frames_per_second
    return map_in_batches(speak, rows, [len(units) for _, units in rows], most)


def _free_name(utt_id: str, taken: set[str]) -> str:
    """A unique file name for an utterance, whose id may be a path."""
    leaf = utt_id.rstrip("/").rpartition("/")[2].replace("\0", "") or "utterance"
    stem = name = leaf.encode()[:MOST_NAME_BYTES].decode(errors="ignore")
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name
