"""The audio that a user names on the command line, and the id of each file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.audio.audio_files import Place, list_audio
from pipeline.audio.utterance import Reject
from pipeline.commands.unit_ids import name_files
from pipeline.storage.folders import Folder


@dataclass(frozen=True)
class NamedAudio:
    """The utt_id of each file, by the address it was given or found at, and what is unusable below folders."""

    ids: Mapping[str, str]
    unusable: Sequence[Reject]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Self:
        """Search folders; take files as they are named, whether they exist or not.

        A file that is named twice, or below a folder that is named too, counts once.

        Raises:
            CorpusError, OSError: as `list_audio`, of a folder.
        """
        folders = [path for path in paths if Folder.at(path).is_folder()]
        found, unusable = list_audio(folders)
        given: dict[str, str] = {}
        for path in paths:
            if path not in folders:
                given.setdefault(Place.of(path).uri, path)
        for file in found:
            given.setdefault(file.uri, file.uri)
        names = name_files(given, {file.root for file in found})
        return cls({path: names[uri].utt_id for uri, path in given.items()}, unusable)
