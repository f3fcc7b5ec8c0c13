"""One spelling for each label, whatever the aligner and its format."""

import re

from pipeline.audio.utterance import SILENCE

# Kaldi marks a phone's position in its word: beginning, inside, end, singleton.
_POSITION = re.compile(r"(?<=.)_[BIES]$")
# ARPABET writes stress after a vowel: AA0, AA1, AA2.
_STRESSED = re.compile(r"(A[AEHOWXY]|AXR|E[HRY]|I[HXY]|O[WY]|U[HWX])[0-2]")
# Of Kaldi, HTK, TIMIT, Festival, Julius and MAUS. Lengths of silence are not told apart.
_SILENCES = frozenset(
    {"sil", "<sil>", "ssil", "silb", "sile", "sp", "<sp>", "pau", "<pau>", "h#", "epi"}
    | {"<silence>", "<eps>", "<p:>", "#", "_"}
)
# Noise of a speaker, which purity counts as silence by default.
_SPOKEN_NOISES = frozenset({"spn", "<spn>"})


def plain_label(label: str) -> str:
    """A label without stress digit and position in the word; all silences are SILENCE.

    `AH0_B` becomes `AH`; `SIL`, `h#`, a blank and their like become `sil`, and `SPN` becomes `spn`.
    """
    plain = _POSITION.sub("", label.strip())
    small = plain.lower()
    if not plain or small in _SILENCES:
        return SILENCE
    if small in _SPOKEN_NOISES:
        return "spn"
    stressed = _STRESSED.fullmatch(plain)
    return stressed[1] if stressed else plain
