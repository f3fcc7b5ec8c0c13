"""What a recogniser hears in speech, and how much of the text that is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.audio.utterance import Utterance
from pipeline.metrics.utterance_scores import ScoredUtterance, Share
from pipeline.metrics.wer import character_errors, score_each
from pipeline.storage import table_schemas

# Kinds of speech that recognisers hear; scores begin with them.
RECORDINGS, RESYNTHESIS = "recordings", "resynthesis"


@dataclass(frozen=True)
class Heard:
    """What a recogniser made of one utterance in a kind of speech."""

    utterance: Utterance
    speech: str
    text: str

    def errors(self, who: str = "", normalize: Callable[[str], str] = str) -> dict[str, Share]:
        """Word and character errors as `<speech>_wer` and `<speech>_cer`, with `who` behind them.

        Reference and text are normalized alike before they are compared.
        """
        reference, text = normalize(self.utterance.text), normalize(self.text)
        [counts] = score_each([reference], [text])
        return {
            f"{self.speech}_wer{who}": Share(counts.errors, counts.reference_words),
            f"{self.speech}_cer{who}": Share(*character_errors(reference, text)),
        }


def scored(utterance: Utterance, shares: Mapping[str, Share]) -> ScoredUtterance:
    """The scores of an utterance of the corpus."""
    return ScoredUtterance(utterance.utt_id, utterance.split, utterance.speaker, shares)


def table(heard: Sequence[Heard], normalize: Callable[[str], str] = str) -> pa.Table:
    """One row for each utterance and kind of speech: both texts, and as `Heard.errors` compares them."""
    rows = [
        {
            "utt_id": each.utterance.utt_id,
            "split": each.utterance.split,
            "speech": each.speech,
            "reference": each.utterance.text,
            "hypothesis": each.text,
            "compared_reference": normalize(each.utterance.text),
            "compared_hypothesis": normalize(each.text),
        }
        for each in heard
    ]
    return pa.Table.from_pylist(rows, schema=table_schemas.HEARD)
