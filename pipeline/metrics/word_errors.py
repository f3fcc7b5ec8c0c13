"""Word errors of each utterance, as `evaluate_asr` stores them, and how sure rates made of them are.

A variant may have been trained with N seeds, and with each seed once for each fold of the corpus.
The test utterances of all folds are one test set, on which each has the hypothesis of its own fold.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pipeline.metrics import significance
from pipeline.metrics.significance import ROUNDS, SEED, interval
from pipeline.storage.artifacts import Artifact

SEARCH = "beam"  # the search that `<split>.wer` is of
_ERRORS = ("substitutions", "insertions", "deletions")


class ScoredUtterance(NamedTuple):
    """What a hypothesis is scored on."""

    speaker: str
    utt_id: str
    reference: str


@dataclass(frozen=True)
class WordErrors:
    """The word errors of N trainings of one variant on U utterances, which are sorted."""

    utterances: tuple[ScoredUtterance, ...]
    errors_NU: np.ndarray

    @cached_property
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

    @property
    def num_trainings(self) -> int:
        return len(self.errors_NU)

    @property
    def rates(self) -> np.ndarray:
        """The word error rate of each training (N)."""
        rates: np.ndarray = self.errors_NU.sum(axis=1) / self.num_words.sum()
        return rates


def read_word_errors(scored: Artifact, corpus: Artifact, split: str) -> WordErrors:
    """The word errors of one training from outputs of evaluate_asr (`split`) and prepare_corpus.

    Raises:
        ArtifactError: one of their tables is missing.
        pyarrow.ArrowException: one of their tables is damaged.
    """
    # Rows are chosen here, not by pyarrow, which would import pandas and take a second for it.
    known = corpus.read_table("corpus.parquet", ["utt_id", "split", "speaker"]).to_pylist()
    speakers = {row["utt_id"]: row["speaker"] for row in known if row["split"] == split}
    columns = ["utt_id", "reference", "search", *_ERRORS]
    rows = sorted(
        (
            ScoredUtterance(speakers[row["utt_id"]], row["utt_id"], row["reference"]),
            sum(row[kind] for kind in _ERRORS),
        )
        for row in scored.read_table("hypotheses.parquet", columns).to_pylist()
        if row["search"] == SEARCH
    )
    return WordErrors(
        tuple(utterance for utterance, _ in rows), np.array([[errors for _, errors in rows]])
    )


def pooled(folds: Sequence[WordErrors]) -> WordErrors:
    """The word errors of one seed: those of all its folds, as on one test set."""
    utterances = [utterance for fold in folds for utterance in fold.utterances]
    order = sorted(range(len(utterances)), key=utterances.__getitem__)
    errors_1U = np.concatenate([fold.errors_NU for fold in folds], axis=1)[:, order]
    return WordErrors(tuple(utterances[place] for place in order), errors_1U)


def stacked(seeds: Sequence[WordErrors]) -> WordErrors:
    """The word errors of one variant: those of all its seeds, which share their test set."""
    return WordErrors(seeds[0].utterances, np.concatenate([seed.errors_NU for seed in seeds]))


def uncertainty(
    errors: Mapping[str, WordErrors], baseline: str, best: str | None = None
) -> dict[str, dict[str, float]]:
    """For each variant, how sure its word error rate is and how it compares with `baseline`'s.

    - `wer_low`, `wer_high`: the 95 % interval of the WER over other speakers, utterances and, if the
      variant was trained with several, seeds; missing for a single utterance, from which nothing can
      be told
    - `wer_speakers`: how many speakers that interval resamples; with 1, it resamples utterances alone
    - `wer_reduction_low`, `wer_reduction_high`: that of the relative reduction, by the same draws
    - `wer_reduction_p`: the two-sided p of the difference, if utterances are swapped (`swap_test`)
    - `wer_reduction_p_speakers`: if whole speakers are, of whom there are several
    - `wer_reduction_p_seeds`: if trainings are relabelled (`relabel_test`), of which both variants
      have several
    - `gap_closed_low`, `gap_closed_high`: the interval of the share of the gap between `baseline` and
      `best` that the variant closes

    All but the first three are for variants that were scored on the same utterances as `baseline`.
    """
    alike: dict[tuple[ScoredUtterance, ...], dict[str, WordErrors]] = defaultdict(dict)
    for variant, found in errors.items():
        alike[found.utterances][variant] = found
    rows: dict[str, dict[str, float]] = {}
    for utterances, variants in alike.items():
        if len(utterances) > 1:
            rows |= _on_the_same_utterances(variants, baseline, best)
    return rows


def _on_the_same_utterances(
    variants: Mapping[str, WordErrors], baseline: str, best: str | None
) -> dict[str, dict[str, float]]:
    words_R, errors = _resampled(variants)
    rows = {
        variant: {
            **_edges("wer", *interval(errors[variant] / words_R)),
            "wer_speakers": float(found.num_speakers),
        }
        for variant, found in variants.items()
    }
    for variant in variants.keys() - {baseline} if baseline in variants else ():
        reduced_R = significance.reductions(errors[variant], errors[baseline])
        rows[variant] |= _edges("wer_reduction", *interval(reduced_R))
        rows[variant] |= _tests(variants[variant], variants[baseline])
        if best in errors and variant != best:
            edges = significance.gap_interval(errors[variant], errors[baseline], errors[best])
            rows[variant] |= _edges("gap_closed", *edges)
    return rows


def _resampled(variants: Mapping[str, WordErrors]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Words (R) and each variant's errors (R, means over its trainings) of each round.

    Speakers and utterances are the same for all; trainings are drawn for each variant apart.
    """
    shared = next(iter(variants.values()))
    counts_UC = np.column_stack(
        [shared.num_words, *(each.errors_NU.T for each in variants.values())]
    )
    words_RC = significance.resampled_sums(counts_UC, shared.speakers)
    errors, first = {}, 1
    for variant, each in variants.items():
        sums_RN = words_RC[:, first : first + each.num_trainings]
        first += each.num_trainings
        # Seeded by name, so that a variant's figures are the same whatever it is compared with.
        seed = (SEED, *variant.encode())
        shares_RN = significance.drawn_shares(each.num_trainings, ROUNDS, seed)
        errors[variant] = (sums_RN * shares_RN).sum(axis=1)
    return words_RC[:, 0], errors


def _tests(variant: WordErrors, base: WordErrors) -> dict[str, float]:
    """The p of the difference in each way that is possible."""
    # Means over trainings, times both numbers of trainings: integers.
    differences_U = (
        variant.errors_NU.sum(axis=0) * base.num_trainings
        - base.errors_NU.sum(axis=0) * variant.num_trainings
    )
    found = {"wer_reduction_p": significance.swap_test(differences_U)}
    if base.num_speakers > 1:
        _, speakers_U = np.unique(base.speakers, return_inverse=True)
        differences_S = np.zeros(base.num_speakers, np.int64)
        np.add.at(differences_S, speakers_U, differences_U)
        found["wer_reduction_p_speakers"] = significance.swap_test(differences_S)
    if min(variant.num_trainings, base.num_trainings) > 1:
        totals = (each.errors_NU.sum(axis=1) for each in (variant, base))
        found["wer_reduction_p_seeds"] = significance.relabel_test(*totals)
    return found


def _edges(name: str, low: float, high: float) -> dict[str, float]:
    return {f"{name}_low": low, f"{name}_high": high}
