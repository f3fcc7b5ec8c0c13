"""Dropout of an SSL model that is fine-tuned, under the names that its family has for it."""

from typing import Any

# Of WavLM, HuBERT, wav2vec 2.0 and data2vec; `conformer_conv_dropout` of w2v-BERT, `dropout` of
# Whisper. `final_dropout` belongs to heads that are not used here.
NAMES = (
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "conformer_conv_dropout",
    "dropout",
)


def set_dropout(settings: Any, dropout: float) -> None:
    """Give a transformers config this dropout wherever its model has any."""
    for name in NAMES:
        if hasattr(settings, name):
            setattr(settings, name, dropout)
