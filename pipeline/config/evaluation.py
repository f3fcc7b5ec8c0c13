"""How units are compared with alignments."""

from typing import Literal

from pipeline.config.section import Section


class Purity(Section):
    """How frames are compared with the labels of the alignment."""

    silence: Literal["exclude", "include"] = "exclude"
    """Whether frames of silence count."""
    silence_labels: tuple[str, ...] = ("", "sil", "sp", "spn", "pau", "<eps>")
    """The labels that mean silence."""
