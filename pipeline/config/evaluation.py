"""How units are held against alignments."""

from typing import Literal

from pipeline.config.section import Section


class Purity(Section):
    """How frames are matched with alignment labels."""

    silence: Literal["exclude", "include"] = "exclude"
    silence_labels: tuple[str, ...] = ("", "sil", "sp", "spn", "pau", "<eps>")
