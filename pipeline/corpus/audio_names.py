"""Which file of a folder is the audio of an utterance."""

from collections.abc import Iterable

from pipeline.audio.audio_files import EXTENSIONS


def audio_by_stem(names: Iterable[str], extension: str) -> dict[str, str]:
    """The audio files among `names` by their path without extension.

    Where several differ in nothing else, the one that ends in `extension` counts, or else the first
    by name.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (not name.endswith(f".{extension}"), name)):
        stem, _, ending = name.rpartition(".")
        if ending.lower() in EXTENSIONS:
            found.setdefault(stem, name)
    return found
