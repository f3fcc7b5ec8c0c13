"""Which utterances of a corpus can be trained on, and why the others cannot.

Every utterance is decoded once here, so that no later stage meets audio that it cannot use.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from pipeline.audio.decode import (
    ANY_FILE,
    AudioError,
    decode_and_identify,
    probe_seconds,
    require_resampling,
    resampled_length,
)
from pipeline.audio.doubts import examine
from pipeline.audio.frame_grid import SSL_GRID
from pipeline.audio.signal import Signal
from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import (
    NOT_UTF_8,
    AlignmentError,
    CorpusError,
    Reject,
    Utterance,
    first_of_each_split,
)
from pipeline.config.corpus import CorpusSection, composed, speaker_name
from pipeline.corpus.alignment.plausibility import checked_alignment, warn_of
from pipeline.corpus.fold import in_fold
from pipeline.corpus.left_out import describe, require_named
from pipeline.corpus.summary import commonest
from pipeline.progress import SILENT, Progress
from pipeline.storage.folders import printable

if TYPE_CHECKING:
    from pipeline.audio.identity import Identity

_UTT_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
_DECODING_THREADS = 2
_CACHED_RECORDINGS = 16
# Short files by themselves would take as long to hand over as to decode.
_BATCH = 16


@dataclass(frozen=True)
class CheckedCorpus:
    """What passed the check, sorted by split and utt_id, and what did not.

    Rejected alignments and warnings are those of `utterances`; a rejected alignment may also be a file
    of any. `left_out` counts the utterances of splits that the config does not name.
    """

    utterances: list[Utterance]
    rejects: list[Reject]
    left_out: Counter[str]

    def rejected(self, what: str) -> list[Reject]:
        """The rejects that are an `utterance`, an `alignment`, or a `warning`."""
        return [reject for reject in self.rejects if reject.what == what]


def check(
    entries: Iterable[Utterance | Reject], config: CorpusSection, progress: Progress = SILENT
) -> CheckedCorpus:
    """Sort out what cannot be used, each entry with one reason.

    With `max_utterances`, only that many of each split are checked, the first by utt_id. Of a fold,
    `entries` are those of the whole corpus.

    Raises:
        CorpusError: the config spells a split otherwise than the corpus, or its fold is no corpus.
    """
    splits = config.whole.splits
    rejects: list[Reject] = []
    named: list[Utterance] = []
    left_out: Counter[str] = Counter()
    for entry in entries:
        if isinstance(entry, Reject):
            rejects.append(entry)
        elif entry.split in splits.names:
            named.append(entry)
        else:
            left_out[entry.split] += 1
    require_named({utterance.split for utterance in named}, left_out, splits)
    for line in describe(left_out, splits):
        progress.message(line)
    unique, misnamed = _check_names(named)
    chosen = first_of_each_split(unique, config.max_utterances)
    results = _check_contents(in_fold(chosen, config, progress), config, progress)
    utterances = [result for result in results if isinstance(result, Utterance)]
    rejects += misnamed
    rejects += [result for result in results if isinstance(result, Reject)]
    if note := _unaligned(utterances):
        progress.message(note)
    kept = {None, *(utterance.utt_id for utterance in utterances)}
    counted = [one for one in rejects if one.what == "utterance" or one.utt_id in kept]
    return CheckedCorpus(utterances, counted, left_out)


def _unaligned(utterances: list[Utterance]) -> str | None:
    """How many have no alignment, where others have one."""
    without = [utterance for utterance in utterances if utterance.alignment is None]
    if len(without) in {0, len(utterances)}:
        return None
    return (
        f"{len(without)} of {len(utterances)} utterances have no alignment, and are not counted in "
        f"phone purity; the first is {without[0].utt_id}"
    )


def require(corpus: CheckedCorpus, config: CorpusSection) -> None:
    """Refuse a corpus that is not worth training on.

    Raises:
        CorpusError: more than `max_reject_share` of the utterances or of the alignments was
            rejected, or a named split is empty.
    """
    aligned = sum(utterance.alignment is not None for utterance in corpus.utterances)
    for what, kept in (("utterance", len(corpus.utterances)), ("alignment", aligned)):
        rejects = corpus.rejected(what)
        if len(rejects) > config.max_reject_share * (len(rejects) + kept):
            raise CorpusError(
                f"{len(rejects)} of {len(rejects) + kept} {what}s were rejected, more than "
                f"corpus.max_reject_share {config.max_reject_share:g} allows; mostly:\n"
                f"{commonest(rejects)}\n"
                "All are in rejects.parquet: fix the corpus, or raise corpus.max_reject_share"
            )
    counts = Counter(utterance.split for utterance in corpus.utterances)
    empty = [split for split in config.splits.names if not counts[split]]
    if empty:
        present = sorted({*counts, *corpus.left_out})
        raise CorpusError(
            f"no usable utterance in the splits {empty}; the corpus has {present}: set "
            "corpus.splits to names that exist"
        )


def _check_names(utterances: list[Utterance]) -> tuple[list[Utterance], list[Reject]]:
    """Ids become file names, and rows are matched by them."""
    unique: dict[str, Utterance] = {}
    rejects = []
    for utterance in utterances:
        utt_id = utterance.utt_id
        if not _UTT_ID.fullmatch(utt_id) or ".." in utt_id:
            reason = f"invalid utt_id: {utt_id!r} (use letters, digits, '.', '_' and '-')"
            rejects.append(Reject(utt_id, utterance.audio, reason))
        elif printable(utterance.audio) != utterance.audio:
            rejects.append(Reject(utt_id, utterance.audio, NOT_UTF_8))
        elif utt_id in unique:
            reason = f"duplicate utt_id: {unique[utt_id].audio} has it already"
            rejects.append(Reject(utt_id, utterance.audio, reason))
        else:
            unique[utt_id] = utterance
    return list(unique.values()), rejects


def _check_contents(
    utterances: Sequence[Utterance], config: CorpusSection, progress: Progress
) -> list[Utterance | Reject]:
    results: list[Utterance | Reject] = []
    seconds = 0.0
    batches = [utterances[first : first + _BATCH] for first in range(0, len(utterances), _BATCH)]
    content = _ContentCheck(config) if config.has_audio else partial(_check_tokens, config)
    with ThreadPoolExecutor(_DECODING_THREADS) as pool:
        checked = chain.from_iterable(pool.map(lambda batch: list(map(content, batch)), batches))
        for done, (result, *rejects) in enumerate(checked, start=1):
            results += [result, *rejects]
            seconds += result.duration if isinstance(result, Utterance) else 0.0
            note = f"{seconds / 3600:.2f} h of audio"
            progress.update(done, len(utterances), "utterances", note)
    return results


class _ContentCheck:
    """Whether an utterance can be used, by its text, its audio and its alignment."""

    def __init__(self, config: CorpusSection) -> None:
        self._config = config
        # Audio files that were read already.
        self._known: dict[str, Identity] = {}
        # Utterances of one recording mostly follow each other.
        self._recording_seconds = lru_cache(_CACHED_RECORDINGS)(probe_seconds)

    def __call__(self, utterance: Utterance) -> list[Utterance | Reject]:
        """The utterance and warnings, without its alignment if that is a reject; or a reject."""
        text = _normalise(utterance.text, self._config)
        try:
            _check_speaker(utterance.speaker)
            _check_text(text, self._config.alphabet)
            heard, rate, warnings = self._hear(utterance, text)
        except (AudioError, UnusableError) as error:
            return [Reject(utterance.utt_id, utterance.audio, str(error))]
        source, rejects = (utterance.utt_id, utterance.audio), []
        try:
            alignment = checked_alignment(heard, rate, self._recording_seconds)
        except AlignmentError as error:
            alignment, rejects = None, [Reject(*source, str(error), "alignment")]
        if alignment is not None:
            warnings += warn_of(alignment, heard.duration)
        rejects += [Reject(*source, warning, "warning") for warning in warnings]
        if alignment is not heard.alignment:
            heard = replace(heard, alignment=alignment)
        return [heard, *rejects]

    def _hear(self, utterance: Utterance, text: str) -> tuple[Utterance, int, list[str]]:
        """The utterance as its audio really is, that audio's rate in Hz, and warnings of it."""
        audio, config = utterance.audio, self._config
        interval = utterance.offset, utterance.duration, config.max_seconds
        known = self._known.get(audio, ANY_FILE)
        samples, rate, identity = decode_and_identify(audio, *interval, known)
        self._known[audio] = identity
        require_resampling(rate, SSL_GRID.sample_rate_hz)
        _check_length(text, len(samples), rate, config.min_seconds)
        warnings = examine(Signal.of(samples, rate))
        heard = replace(
            utterance,
            text=text,
            speaker=speaker_name(utterance.speaker),
            duration=len(samples) / rate,
            audio_version=identity.version,
            audio_sha256=identity.sha256,
        )
        return heard, rate, warnings


def _check_tokens(config: CorpusSection, utterance: Utterance) -> list[Utterance | Reject]:
    """The utterance, or a reject, of a corpus that has tokens in the place of audio."""
    text = _normalise(utterance.text, config)
    try:
        _check_text(text, config.alphabet)
        _check_seconds(utterance.duration, config)
    except UnusableError as error:
        return [Reject(utterance.utt_id, utterance.audio, str(error))]
    return [replace(utterance, text=text, speaker=speaker_name(utterance.speaker))]


def _check_seconds(seconds: float, config: CorpusSection) -> None:
    if seconds < config.min_seconds:
        raise UnusableError(f"too short: {seconds:g} s of at least {config.min_seconds:g} s")
    if seconds > config.max_seconds:
        raise UnusableError(f"too long: {seconds:g} s of at most {config.max_seconds:g} s")


def _normalise(text: str, config: CorpusSection) -> str:
    """As `config` wants it, in NFC; whatever Unicode counts as white space becomes one space."""
    spaced = composed(text).translate(dict.fromkeys(map(ord, config.punctuation), " "))
    text = " ".join(spaced.split())
    # Lowercase is not always composed: that of U+0130 is two characters.
    return composed(text.lower()) if config.lowercase else text


def _check_speaker(speaker: str) -> None:
    if not speaker.strip():
        raise UnusableError("no speaker: the corpus names none")


def _check_text(text: str, alphabet: str) -> None:
    if not text:
        raise UnusableError("empty text")
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        raise UnusableError(f"text has characters outside the alphabet: {unknown}")


def _check_length(text: str, num_samples: int, sample_rate_hz: int, min_seconds: float) -> None:
    seconds = num_samples / sample_rate_hz
    if seconds < min_seconds:
        raise UnusableError(f"too short: {seconds:g} s of at least {min_seconds:g} s")
    num_frames = SSL_GRID.num_frames(
        resampled_length(num_samples, sample_rate_hz, SSL_GRID.sample_rate_hz)
    )
    # CTC needs a blank between two equal characters.
    needed = len(text) + sum(first == second for first, second in pairwise(text))
    if needed > num_frames:
        raise UnusableError(
            f"text is longer than its audio allows: {needed} characters and repeats in "
            f"{num_frames} frames"
        )
