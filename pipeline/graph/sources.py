"""What a stage reads that no stage wrote, such as a corpus or a pretrained model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.section import Section


@dataclass(frozen=True)
class Source:
    """What a section of the config names; `fingerprint(section)` changes when it does.

    `skips` tells the user what the fingerprint does not look at.
    """

    section: Section
    fingerprint: Callable[[Any], str]
    skips: str = ""


@dataclass(frozen=True)
class Fingerprints:
    """Computes each fingerprint once, however many variants, stages and graphs ask for it."""

    known: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, source: Source) -> str:
        key = type(source.section).__qualname__, source.section.model_dump_json()
        if key not in self.known:
            self.known[key] = source.fingerprint(source.section)
        return self.known[key]
