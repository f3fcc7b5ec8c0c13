"""How an ASR model does on the utterances of a split, by greedy CTC and by beam search."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from pipeline.asr.model import AsrModel
from pipeline.audio.utterance import Utterance
from pipeline.config import AsrEvaluation
from pipeline.features.batching import map_in_batches
from pipeline.metrics.wer import cer, score, score_each
from pipeline.storage import table_schemas

# What the model reads of some utterances: units (T) or features (T x D).
Reader = Callable[[Sequence[Utterance]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Transcripts:
    """The hypotheses of each search ("greedy" and "beam"), in the order of `utterances`."""

    utterances: Sequence[Utterance]
    by_search: dict[str, list[str]]

    @property
    def references(self) -> list[str]:
        return [utterance.text for utterance in self.utterances]

    def scores(self) -> dict[str, float]:
        """Error rates, those of the beam search but for `wer_greedy`; counts are in words."""
        hypotheses = self.by_search["beam"]
        counts = score(self.references, hypotheses)
        return {
            "wer": counts.wer,
            "wer_greedy": score(self.references, self.by_search["greedy"]).wer,
            "cer": cer(self.references, hypotheses),
            "substitutions": float(counts.substitutions),
            "insertions": float(counts.insertions),
            "deletions": float(counts.deletions),
        }

    def table(self) -> pa.Table:
        """One row for each utterance and search, with its errors."""
        rows = [
            {
                "utt_id": utterance.utt_id,
                "split": utterance.split,
                "search": search,
                "reference": utterance.text,
                "hypothesis": hypothesis,
                **asdict(errors),
            }
            for search, texts in self.by_search.items()
            for utterance, hypothesis, errors in zip(
                self.utterances, texts, score_each(self.references, texts), strict=True
            )
        ]
        return pa.Table.from_pylist(rows, schema=table_schemas.HYPOTHESES)


def transcribe_all(
    model: AsrModel,
    read: Reader,
    utterances: Sequence[Utterance],
    settings: AsrEvaluation,
    report: Callable[[int], None],
) -> Transcripts:
    """Transcribe `utterances` in batches; `report` gets the number of utterances done so far."""

    def transcribe(batch: list[Utterance]) -> list[tuple[str, str]]:
        inputs = read(batch)
        greedy, beam = (model.transcribe(inputs, search) for search in (None, settings))
        return list(zip(greedy, beam, strict=True))

    seconds = [utterance.duration for utterance in utterances]
    pairs = map_in_batches(transcribe, utterances, seconds, settings.batch_seconds, report)
    return Transcripts(
        utterances,
        {"greedy": [greedy for greedy, _ in pairs], "beam": [beam for _, beam in pairs]},
    )
