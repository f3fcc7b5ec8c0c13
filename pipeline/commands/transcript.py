"""A transcript of an audio file, and how it is written: plain text, JSON, CTM or SRT."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from pipeline.asr.word_times import Word

Format = Literal["text", "json", "ctm", "srt"]

# A subtitle has two lines of 42 characters and stays for 7 seconds at most; a pause ends it.
LINE_CHARACTERS, LINES = 42, 2
CUE_SECONDS, PAUSE_SECONDS = 7.0, 0.8


@dataclass(frozen=True)
class Transcript:
    """What is said in the audio file at `audio`, whose id is `utt_id`. Times count from its start.

    Without `has_times`, times and scores of the words say nothing, and no format may show them.
    """

    utt_id: str
    audio: str
    words: Sequence[Word]
    has_times: bool = True

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def score(self) -> float:
        """The mean of those of the words; 0 without any."""
        return sum(word.score for word in self.words) / max(1, len(self.words))

    def write(self, output_format: Format) -> str:
        """Complete lines of the format, without the last line end; nothing where no line is due."""
        writers = {
            "text": self._as_text,
            "json": self._as_json,
            "ctm": self._as_ctm,
            "srt": self._as_srt,
        }
        return writers[output_format]()

    def _as_text(self) -> str:
        return f"{self.audio}: {self.text}"

    def _as_json(self) -> str:
        row: dict[str, Any] = {"utt_id": self.utt_id, "audio": self.audio, "text": self.text}
        words = [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "score": round(word.score, 4),
            }
            for word in self.words
        ]
        if self.has_times:
            row |= {"score": round(self.score, 4), "words": words}
        return json.dumps(row, ensure_ascii=False)

    def _as_ctm(self) -> str:
        """`name channel start duration word score`; what would split the name is written as in URLs."""
        name = re.sub(r"[\s%]", lambda match: quote(match[0]), self.utt_id)
        return "\n".join(
            f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text} {word.score:.4f}"
            for word in self.words
        )

    def _as_srt(self) -> str:
        return "\n\n".join(
            f"{number}\n{_clock(cue[0].start)} --> {_clock(cue[-1].end)}\n{_lines(cue)}"
            for number, cue in enumerate(_cues(self.words), start=1)
        )


def _cues(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words that are shown together."""
    cue: list[Word] = []
    for word in words:
        if cue and not _belongs(word, cue):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _belongs(word: Word, cue: Sequence[Word]) -> bool:
    return (
        word.start - cue[-1].end < PAUSE_SECONDS
        and word.end - cue[0].start <= CUE_SECONDS
        and _lines([*cue, word]).count("\n") < LINES
    )


def _lines(cue: Sequence[Word]) -> str:
    """The words in lines of at most LINE_CHARACTERS; a longer word has one to itself."""
    lines: list[str] = []
    for word in cue:
        if lines and len(lines[-1]) + 1 + len(word.text) <= LINE_CHARACTERS:
            lines[-1] += f" {word.text}"
        else:
            lines.append(word.text)
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    """`01:02:03,456`."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"
