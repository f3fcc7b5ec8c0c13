"""What a prepared corpus consists of: a digest for each split and each thing that stages read of it.

A stage is keyed by the parts that it reads, so alignments do not touch features, a further test
split does not touch training, and a corpus that moved is still the same corpus.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from pipeline.audio.utterance import Utterance
from pipeline.config.digests import digest

AUDIO, TEXT, SPEAKER, ALIGNMENT = "audio", "text", "speaker", "alignment"


def parts_of(split: str, *kinds: str) -> tuple[str, ...]:
    """The names of parts of one split: `train/audio`, `train/text`."""
    return tuple(f"{split}/{kind}" for kind in kinds)


def part_digests(utterances: Iterable[Utterance]) -> dict[str, str]:
    """The digest of every part of a checked corpus, sorted by split, by its name."""
    digests: dict[str, str] = {}
    for split, members in groupby(utterances, key=attrgetter("split")):
        rows = list(members)
        for kind, content in _CONTENTS.items():
            digests[f"{split}/{kind}"] = digest([(row.utt_id, content(row)) for row in rows])
    return digests


def _audio(row: Utterance) -> Any:
    """What is heard, wherever it lies."""
    return row.audio_sha256 or row.audio_version, row.offset, row.duration


def _alignment(row: Utterance) -> Any:
    segments = row.alignment
    return segments and [(segment.start, segment.end, segment.label) for segment in segments]


_CONTENTS: dict[str, Callable[[Utterance], Any]] = {
    AUDIO: _audio,
    TEXT: attrgetter("text"),
    SPEAKER: attrgetter("speaker"),
    ALIGNMENT: _alignment,
}
