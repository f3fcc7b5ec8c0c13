"""How units are compared with alignments."""

from typing import Literal

from pipeline.config.section import Section


class Purity(Section):
    """How frames are compared with the labels of the alignment."""

    silence: Literal["exclude", "include"] = "exclude"
    """Whether frames of silence count in `phone_purity`, `cluster_purity` and `pnmi`. They always
    do in the scores that end in `_with_silence`."""
    silence_labels: tuple[str, ...] = ("", "sil", "spn")
    """The labels that count as silence. Alignments have `sil` for all silences that aligners write
    (`SIL`, `sp`, `pau`, `h#`, blanks and others), `spn` for spoken noise; `""` is a frame without a
    label."""
