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
        stem, dot, ending = name.rpartition(".")
        if dot and ending.lower() in EXTENSIONS and not is_shadow(name):
            found.setdefault(stem, name)
    return found


def is_shadow(name: str) -> bool:
    """Whether it is what a Mac writes beside a file `name` on foreign disks: `._name`, no audio."""
    return name.rpartition("/")[2].startswith("._")
