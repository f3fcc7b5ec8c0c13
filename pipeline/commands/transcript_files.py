"""Where transcripts go: to the console, into one file, or subtitles into a file each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from pipeline.commands.stopped_output import place_of
from pipeline.commands.transcript import Format, Transcript
from pipeline.config import ConfigError
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder
from pipeline.storage.writable import require_writable

Write = Callable[[Transcript], None]
SUBTITLES = ".srt"


@dataclass(frozen=True)
class Destination:
    """Transcripts in a format, printed if `output` is None.

    It is a file, or with SRT a folder for a file each, unless it ends in `.srt`.
    """

    output: str | None
    output_format: Format

    @property
    def _is_folder(self) -> bool:
        return self.output_format == "srt" and not (self.output or "").endswith(SUBTITLES)

    def require_writable(self) -> None:
        """Raise an UnwritableError if the output cannot be written."""
        if self.output is not None:
            require_writable(self.output, as_file=not self._is_folder)

    def require_place_for(self, num_files: int) -> None:
        """Refuse the subtitles of several files where one has room.

        Raises:
            ConfigError: they are to be printed, or written into one file.
        """
        if self.output_format == "srt" and num_files > 1 and not (self.output and self._is_folder):
            raise ConfigError(
                f"{num_files} audio files have {num_files} files of subtitles: name a folder for "
                "them, such as --output subtitles"
            )

    def require_no_times(self, model: str) -> None:
        """Refuse a format that consists of times, for a model that knows none.

        Raises:
            ConfigError: it is CTM or SRT.
        """
        if self.output_format in ("ctm", "srt"):
            raise ConfigError(
                f"{self.output_format} says when words are heard, which CTC tells, and that of '{model}' "
                "was not trained (asr.ctc_weight 0): use --format text or json, or name a model that was "
                "trained with a weight above 0"
            )

    @contextmanager
    def open(self, console: Console) -> Iterator[Write]:
        """What writes a transcript; on leaving, however that comes, all of them are in place."""
        if self.output is None:
            yield lambda transcript: _print(self._lines(transcript), console)
        elif self._is_folder:
            folder = Artifact(Folder.at(self.output).uri)
            yield lambda transcript: _write(
                folder, f"{transcript.utt_id}{SUBTITLES}", self._lines(transcript)
            )
        else:
            yield from self._one_file(self.output)

    def _one_file(self, output: str) -> Iterator[Write]:
        written: list[str] = []
        complete = False
        try:
            yield lambda transcript: written.append(self._lines(transcript))
            complete = True
        finally:
            if complete or written:
                folder, name = Folder.around(place_of(output, complete=complete))
                _write(Artifact(folder.uri), name, "".join(written))

    def _lines(self, transcript: Transcript) -> str:
        text = transcript.write(self.output_format)
        return f"{text}\n" if text else ""


def _print(text: str, console: Console) -> None:
    console.print(text, end="", markup=False, highlight=False, soft_wrap=True)


def _write(folder: Artifact, name: str, text: str) -> None:
    with folder.write(name) as file:
        file.write(text.encode())
