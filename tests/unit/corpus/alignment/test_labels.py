import pytest

from pipeline.config import Purity
from pipeline.corpus.alignment.labels import plain_label


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("AA1", "AA"),
        ("ER0", "ER"),
        ("AXR2", "AXR"),
        ("AH0_B", "AH"),
        ("T_I", "T"),
        ("SPN_S", "spn"),
        (" iy\n", "iy"),
        ("T", "T"),
        ("kcl", "kcl"),
        ("T5", "T5"),
        ("ao1", "ao1"),
        ("a1", "a1"),
        ("7", "7"),
        ("_B", "_B"),
        ("a_b", "a_b"),
        ("silence", "silence"),
        ("spn", "spn"),
    ],
)
def test_stress_and_position_are_removed_and_all_else_is_kept(label, plain):
    assert plain_label(label) == plain
    assert plain_label(plain) == plain


SILENCES = ["sil", "SIL", "SIL_S", "sp", "SP", "pau", "PAU", "h#", "H#", "epi", "<eps>", "<SIL>"]
SILENCES += ["<p:>", "silB", "silE", "ssil", "#", "_", "", " ", "\t"]


@pytest.mark.parametrize("label", SILENCES)
def test_all_silences_are_one_that_purity_leaves_out(label):
    assert plain_label(label) == "sil"
    assert "sil" in Purity().silence_labels
    assert "spn" in Purity().silence_labels
