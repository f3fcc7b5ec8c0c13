"""Word errors of each utterance, as `evaluate_asr` stores them, and how sure rates made of them are."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from pipeline.metrics.significance import interval, reductions, resampled_sums, swap_test
from pipeline.storage.artifacts import Artifact

SEARCH = "beam"  # the search that `<split>.wer` is of


class ScoredUtterance(NamedTuple):
    """What a hypothesis is scored on."""

    speaker: str
    utt_id: str
    reference: str


@dataclass(frozen=True)
class WordErrors:
    """The word errors of one variant on U utterances, which are sorted."""

    utterances: tuple[ScoredUtterance, ...]
    errors_U: np.ndarray

    @property
    def num_words(self) -> np.ndarray:
        """How many words each reference has (U)."""
        return np.array([len(utterance.reference.split()) for utterance in self.utterances])

    @property
    def speakers(self) -> np.ndarray:
        """The speaker of each utterance (U)."""
        return np.array([utterance.speaker for utterance in self.utterances])

    @property
    def num_speakers(self) -> int:
        return len({utterance.speaker for utterance in self.utterances})


def read_word_errors(scored: Artifact, corpus: Artifact, split: str) -> WordErrors:
    """The word errors of `split` from outputs of evaluate_asr and prepare_corpus.

    Raises:
        ArtifactError: one of their tables is missing.
        pyarrow.ArrowException: one of their tables is damaged.
    """
    columns = ["utt_id", "split", "speaker"]
    known = corpus.read_table("corpus.parquet", columns).filter(pc.field("split") == split)
    speakers = dict(zip(known["utt_id"].to_pylist(), known["speaker"].to_pylist(), strict=True))
    table = scored.read_table("hypotheses.parquet").filter(pc.field("search") == SEARCH)
    rows = sorted(
        (
            ScoredUtterance(speakers[row["utt_id"]], row["utt_id"], row["reference"]),
            row["substitutions"] + row["insertions"] + row["deletions"],
        )
        for row in table.to_pylist()
    )
    return WordErrors(
        tuple(utterance for utterance, _ in rows), np.array([errors for _, errors in rows])
    )


def uncertainty(errors: Mapping[str, WordErrors], baseline: str) -> dict[str, dict[str, float]]:
    """For each variant, how sure its word error rate is and how it compares with `baseline`'s.

    - `wer_low`, `wer_high`: the 95 % interval of the WER over other speakers and utterances; missing
      for a single utterance, from which nothing can be told
    - `wer_speakers`: how many speakers that interval resamples; with 1, it resamples utterances alone
    - `wer_reduction_low`, `wer_reduction_high`: that of the relative reduction, by the same draws
    - `wer_reduction_p`: the two-sided p of the difference (`swap_test`)

    The last three are for variants that were scored on the same utterances as `baseline`.
    """
    alike: dict[tuple[ScoredUtterance, ...], dict[str, WordErrors]] = defaultdict(dict)
    for variant, found in errors.items():
        alike[found.utterances][variant] = found
    rows: dict[str, dict[str, float]] = {}
    for variants in alike.values():
        rows |= _on_the_same_utterances(variants, baseline)
    return rows


def _on_the_same_utterances(
    variants: Mapping[str, WordErrors], baseline: str
) -> dict[str, dict[str, float]]:
    shared = next(iter(variants.values()))
    if len(shared.utterances) < 2:
        return {}
    counts_UC = np.column_stack(
        [shared.num_words, *(variant.errors_U for variant in variants.values())]
    )
    words_R, *errors_VR = resampled_sums(counts_UC, shared.speakers).T
    resampled = dict(zip(variants, errors_VR, strict=True))
    rows = {
        variant: {
            **_edges("wer", errors_R / words_R),
            "wer_speakers": float(shared.num_speakers),
        }
        for variant, errors_R in resampled.items()
    }
    if baseline in variants:
        for variant in variants.keys() - {baseline}:
            reduced_R = reductions(resampled[variant], resampled[baseline])
            p = swap_test(variants[variant].errors_U, variants[baseline].errors_U)
            rows[variant] |= {**_edges("wer_reduction", reduced_R), "wer_reduction_p": p}
    return rows


def _edges(name: str, values_R: np.ndarray) -> dict[str, float]:
    low, high = interval(values_R)
    return {f"{name}_low": low, f"{name}_high": high}
