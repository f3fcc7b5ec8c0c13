"""From whatever corpus the config names to utterances that can be trained on, and the rest.

Every utterance is decoded once here, so that no later stage meets audio it cannot use.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from pipeline.audio.decode import AudioError, decode, require_resampling, resampled_length
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import CorpusError, Reject, Utterance
from pipeline.config.corpus import Corpus, CorpusLimits, SyntheticCorpus
from pipeline.corpus.adapters.kaldi import read_kaldi
from pipeline.corpus.adapters.lhotse import read_lhotse
from pipeline.corpus.adapters.librispeech import read_librispeech
from pipeline.corpus.adapters.ljspeech import read_ljspeech
from pipeline.corpus.adapters.manifest import read_manifest
from pipeline.corpus.alignment.lookup import Alignments
from pipeline.storage.artifacts import Artifact

Say = Callable[[str], None]
Entries = Iterator[Utterance | Reject]

# The frames of wav2vec 2.0, HuBERT and WavLM, on which CTC must find room for the text.
_GRID = FrameGrid(400, 320, 16000)
_UTT_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
_DECODING_THREADS = 2
_LOGGER = logging.getLogger(__name__)

_READERS: dict[str, Callable[[Any, Alignments], Entries]] = {
    "manifest": read_manifest,
    "librispeech": read_librispeech,
    "ljspeech": read_ljspeech,
    "kaldi": read_kaldi,
    "lhotse": read_lhotse,
}
_TELL_DURATIONS = frozenset({"manifest", "kaldi", "lhotse"})


@dataclass(frozen=True)
class CheckedCorpus:
    """What stands after the check, sorted by split and utt_id.

    `left_out` counts the utterances of splits that the config does not name.
    """

    utterances: list[Utterance]
    rejects: list[Reject]
    left_out: Counter[str]


def read_corpus(config: Corpus, output: Artifact, say: Say = _LOGGER.info) -> Entries:
    """The corpus as its adapter reads it, unchecked; a synthetic one is spoken into `output`.

    Raises:
        CorpusError: the corpus is not there, or its alignments are not, or are of another corpus.
    """
    if isinstance(config, SyntheticCorpus):
        from pipeline.corpus.adapters.synthetic import synthesize_corpus

        yield from synthesize_corpus(config, output, say)
        return
    alignments = Alignments(config)
    yield from _READERS[config.kind](config, alignments)
    alignments.require_matches()


def check(
    entries: Iterable[Utterance | Reject], config: CorpusLimits, say: Say = _LOGGER.info
) -> CheckedCorpus:
    """Sort out what cannot be used, each with one reason.

    With `max_utterances`, only the first so many of each split, in the order of their utt_id,
    are looked at.
    """
    rejects: list[Reject] = []
    found: list[Utterance] = []
    for entry in entries:
        (rejects if isinstance(entry, Reject) else found).append(entry)  # type: ignore[arg-type]
    wanted = [one for one in found if one.split in config.splits.names]
    left_out = Counter(one.split for one in found if one.split not in config.splits.names)
    named, badly_named = _check_names(wanted)
    results = _check_contents(_first_of_each_split(named, config.max_utterances), config, say)
    utterances = [one for one in results if isinstance(one, Utterance)]
    rejects += badly_named
    rejects += [one for one in results if isinstance(one, Reject)]
    return CheckedCorpus(utterances, rejects, left_out)


def known_seconds(config: Corpus) -> list[float]:
    """Durations of the utterances to be checked, as far as tables tell them.

    A manifest, segments of Kaldi and cuts of Lhotse do; for others there are none.

    Raises:
        CorpusError: the corpus is not there.
    """
    if isinstance(config, SyntheticCorpus) or config.kind not in _TELL_DURATIONS:
        return []
    unaligned = config.model_copy(update={"alignments": None})
    found = [
        one
        for one in _READERS[config.kind](unaligned, Alignments(unaligned))
        if isinstance(one, Utterance) and one.split in config.splits.names
    ]
    chosen = _first_of_each_split(found, config.max_utterances)
    return [one.duration for one in chosen if math.isfinite(one.duration)]


def estimate(config: Corpus) -> tuple[float, int]:
    """Seconds and frames of `known_seconds`."""
    seconds, rate = known_seconds(config), _GRID.sample_rate_hz
    return sum(seconds), sum(_GRID.num_frames(round(one * rate)) for one in seconds)


def require(corpus: CheckedCorpus, config: CorpusLimits) -> None:
    """Refuse a corpus that is not worth training on.

    Raises:
        CorpusError: more than `max_reject_share` was rejected, or a named split is empty.
    """
    rejected, kept = len(corpus.rejects), len(corpus.utterances)
    if rejected > config.max_reject_share * (rejected + kept):
        raise CorpusError(
            f"{rejected} of {rejected + kept} utterances were rejected, more than "
            f"corpus.max_reject_share {config.max_reject_share:g} allows; mostly:\n"
            f"{_commonest(corpus.rejects)}\n"
            "All are in rejects.parquet: mend the corpus, or raise corpus.max_reject_share"
        )
    counts = Counter(one.split for one in corpus.utterances)
    empty = [split for split in config.splits.names if not counts[split]]
    if empty:
        found = sorted({*counts, *corpus.left_out})
        raise CorpusError(
            f"no usable utterance in the splits {empty}; the corpus has {found}: set "
            "corpus.splits to names that are there"
        )


def _commonest(rejects: list[Reject]) -> str:
    kinds = Counter(reject.reason.partition(":")[0] for reject in rejects)
    lines = []
    for kind, count in kinds.most_common(3):
        example = next(one for one in rejects if one.reason.partition(":")[0] == kind)
        named = f"{example.utt_id} ({example.source})" if example.utt_id else example.source
        lines.append(f"  {count} x {kind}, such as {named}: {example.reason}")
    return "\n".join(lines)


def _check_names(found: list[Utterance]) -> tuple[list[Utterance], list[Reject]]:
    """Ids become file names, and rows are matched by them."""
    named: dict[str, Utterance] = {}
    rejects = []
    for one in found:
        if not _UTT_ID.fullmatch(one.utt_id) or ".." in one.utt_id:
            reason = f"utt_id is no plain name: {one.utt_id!r} (letters, digits, '.', '_', '-')"
            rejects.append(Reject(one.utt_id, one.audio, reason))
        elif one.utt_id in named:
            reason = f"duplicate utt_id: {named[one.utt_id].audio} has it already"
            rejects.append(Reject(one.utt_id, one.audio, reason))
        else:
            named[one.utt_id] = one
    return list(named.values()), rejects


def _first_of_each_split(found: list[Utterance], limit: int | None) -> list[Utterance]:
    ordered = sorted(found, key=lambda one: (one.split, one.utt_id))
    splits = groupby(ordered, key=lambda one: one.split)
    return [one for _, group in splits for one in list(group)[:limit]]


def _check_contents(
    found: list[Utterance], config: CorpusLimits, say: Say
) -> list[Utterance | Reject]:
    results = []
    with ThreadPoolExecutor(_DECODING_THREADS) as pool:
        for done, result in enumerate(pool.map(lambda one: _check_one(one, config), found), 1):
            results.append(result)
            if done * 10 // len(found) > (done - 1) * 10 // len(found):
                say(f"checked {done} of {len(found)} utterances")
    return results


def _check_one(found: Utterance, config: CorpusLimits) -> Utterance | Reject:
    spaced = found.text.translate(dict.fromkeys(map(ord, config.punctuation), " "))
    text = " ".join(spaced.split())
    text = text.lower() if config.lowercase else text
    try:
        _check_text(text, config.alphabet)
        samples, rate = decode(found.audio, found.offset, found.duration, config.max_seconds)
        require_resampling(rate, _GRID.sample_rate_hz)
        _check_length(text, len(samples), rate, config.min_seconds)
    except (AudioError, _UnusableError) as error:
        return Reject(found.utt_id, found.audio, str(error))
    return replace(found, text=text, duration=len(samples) / rate)


class _UnusableError(ValueError):
    """An utterance that cannot be used; the message becomes the reason."""


def _check_text(text: str, alphabet: str) -> None:
    if not text:
        raise _UnusableError("empty text")
    strange = sorted(set(text) - set(alphabet))
    if strange:
        raise _UnusableError(f"text has characters outside the alphabet: {strange}")


def _check_length(text: str, num_samples: int, sample_rate_hz: int, min_seconds: float) -> None:
    seconds = num_samples / sample_rate_hz
    if seconds < min_seconds:
        raise _UnusableError(f"too short: {seconds:g} s of at least {min_seconds:g} s")
    resampled = resampled_length(num_samples, sample_rate_hz, _GRID.sample_rate_hz)
    num_frames = _GRID.num_frames(resampled)
    # CTC needs a blank between two equal characters.
    needed = len(text) + sum(one == other for one, other in pairwise(text))
    if needed > num_frames:
        raise _UnusableError(
            f"text is longer than its audio allows: {needed} characters and repeats in "
            f"{num_frames} frames"
        )
