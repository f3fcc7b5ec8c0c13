"""The temperature of soft assignment: which ones are tried, and how well each does."""

from collections.abc import Callable, Sequence

import torch

from pipeline.asr.evaluation import Reader
from pipeline.asr.model import AsrModel
from pipeline.audio.utterance import Utterance
from pipeline.clustering.assignment import mixture
from pipeline.features.batching import map_in_batches
from pipeline.metrics.wer import score

# Of the mean distance of a unit to its nearest other one. Far below, a mixture is its nearest unit;
# as tau grows to this distance, a frame becomes the mean of all units.
SHARES = tuple(2 ** (-half / 2) for half in range(12, -1, -1))


def candidates(centroids_KD: torch.Tensor) -> tuple[float, ...]:
    """Temperatures to choose from, in ascending order: `SHARES` of the distances within the codebook."""
    distances_KK = torch.cdist(centroids_KD, centroids_KD).fill_diagonal_(torch.inf)
    spacing = float(distances_KK.min(dim=1).values.mean())
    return tuple(share * spacing for share in SHARES)


def wer_by_tau(
    model: AsrModel,
    closeness: Reader,
    utterances: Sequence[Utterance],
    taus: Sequence[float],
    *,
    batch_seconds: float,
    report: Callable[[int], None] = lambda _done: None,
) -> dict[float, float]:
    """The word error rate of greedy CTC on `utterances` with each temperature.

    Args:
        model: reads units.
        closeness: -||s - mu_j|| of the frames of some utterances, T x K each.
        utterances: those of the validation split, not of a test.
        taus: the temperatures.
        batch_seconds: audio that is encoded at once.
        report: gets the number of utterances done so far.
    """

    def texts(batch: list[Utterance]) -> list[tuple[str, ...]]:
        frames = list(map(torch.from_numpy, closeness(batch)))
        by_tau = (
            model.transcribe([mixture(close_TK, tau).numpy() for close_TK in frames], None)
            for tau in taus
        )
        return list(zip(*by_tau, strict=True))

    seconds = [utterance.duration for utterance in utterances]
    found = map_in_batches(texts, utterances, seconds, batch_seconds, report)
    references = [utterance.text for utterance in utterances]
    by_tau = zip(taus, zip(*found, strict=True), strict=True)
    return {tau: score(references, hypotheses).wer for tau, hypotheses in by_tau}


def best(wers: dict[float, float]) -> float:
    """The temperature with the fewest errors; of several, the lowest, whose mixtures are the purest."""
    return min(wers, key=lambda tau: (wers[tau], tau))
