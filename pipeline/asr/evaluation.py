"""How an ASR model does on the utterances of a split, by greedy CTC and by beam search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from pipeline.asr.model import AsrModel, ScoredText
from pipeline.asr.scorer import Weighted
from pipeline.audio.utterance import Utterance
from pipeline.config import AsrEvaluation
from pipeline.features.batching import map_in_batches
from pipeline.metrics.wer import cer, score, score_each
from pipeline.storage import table_schemas

# What the model reads of some utterances: units (T) or features (T x D).
Reader = Callable[[Sequence[Utterance]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Transcripts:
    """What each search made of `utterances`, in their order: `beam` has their n best texts."""

    utterances: Sequence[Utterance]
    greedy: Sequence[str]
    beam: Sequence[Sequence[ScoredText]]

    @classmethod
    def of(
        cls, utterances: Sequence[Utterance], found: Mapping[str, tuple[str, Sequence[ScoredText]]]
    ) -> Self:
        """From the greedy text and the n best ones of each utterance, by utt_id."""
        greedy, beam = zip(*(found[utterance.utt_id] for utterance in utterances), strict=True)
        return cls(utterances, greedy, beam)

    @property
    def references(self) -> list[str]:
        return [utterance.text for utterance in self.utterances]

    @property
    def best(self) -> list[ScoredText]:
        return [texts[0] for texts in self.beam]

    def scores(self) -> dict[str, float]:
        """Error rates, those of the beam search but for `wer_greedy`; counts are in words."""
        hypotheses = [best.text for best in self.best]
        counts = score(self.references, hypotheses)
        return {
            "wer": counts.wer,
            "wer_greedy": score(self.references, self.greedy).wer,
            "cer": cer(self.references, hypotheses),
            "substitutions": float(counts.substitutions),
            "insertions": float(counts.insertions),
            "deletions": float(counts.deletions),
        }

    def table(self) -> pa.Table:
        """One row for each utterance and search, with its errors and the beam search's score."""
        greedy = [ScoredText(text, None) for text in self.greedy]
        rows = [
            {
                "utt_id": utterance.utt_id,
                "split": utterance.split,
                "search": search,
                "reference": utterance.text,
                "hypothesis": found.text,
                "score": found.score,
                **asdict(errors),
            }
            for search, texts in {"greedy": greedy, "beam": self.best}.items()
            for utterance, found, errors in zip(
                self.utterances,
                texts,
                score_each(self.references, [each.text for each in texts]),
                strict=True,
            )
        ]
        return pa.Table.from_pylist(rows, schema=table_schemas.HYPOTHESES)

    def nbest_table(self) -> pa.Table:
        """One row for each utterance and each of its n best texts; rank 1 is the best."""
        rows = [
            {
                "utt_id": utterance.utt_id,
                "split": utterance.split,
                "rank": rank,
                "hypothesis": found.text,
                "score": found.score,
            }
            for utterance, texts in zip(self.utterances, self.beam, strict=True)
            for rank, found in enumerate(texts, 1)
        ]
        return pa.Table.from_pylist(rows, schema=table_schemas.NBEST)


@dataclass(frozen=True)
class Transcriber:
    """An ASR model that reads utterances and searches as `settings` say, with language models."""

    model: AsrModel
    read: Reader
    settings: AsrEvaluation
    scorers: Sequence[Weighted] = ()

    def __call__(
        self, utterances: Sequence[Utterance], report: Callable[[int], None]
    ) -> Transcripts:
        """Transcribe in batches; `report` gets the number of utterances done so far."""
        seconds = [utterance.duration for utterance in utterances]
        batch_seconds = self.settings.batch_seconds
        found = map_in_batches(self._batch, utterances, seconds, batch_seconds, report)
        return Transcripts(utterances, [greedy for greedy, _ in found], [beam for _, beam in found])

    def _batch(self, utterances: list[Utterance]) -> list[tuple[str, list[ScoredText]]]:
        heard = self.model.hear(self.read(utterances))
        beam = self.model.nbest(heard, self.settings, self.scorers)
        return list(zip(self.model.greedy(heard), beam, strict=True))
