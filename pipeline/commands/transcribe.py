"""`transcribe`: the text of audio files with the time of each word, by a trained ASR model."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console

from pipeline.asr.model import AsrModel
from pipeline.asr.pauses import cut_in_pauses
from pipeline.asr.scorer import Weighted
from pipeline.asr.window_join import join
from pipeline.asr.word_times import FrameTimes, TimedPiece, align, words_of
from pipeline.audio.frame_grid import FrameGrid
from pipeline.commands.audio_windows import AudioWindow, windows_of
from pipeline.commands.find_model import load_model
from pipeline.commands.named_audio import NamedAudio
from pipeline.commands.transcript import Transcript
from pipeline.commands.transcript_files import Destination
from pipeline.config import AsrEvaluation, ConfigError
from pipeline.features.batching import map_in_batches
from pipeline.features.windows import Windowing
from pipeline.lm.fused import load as load_language_model
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import printable
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.soft_tokenizer import SoftTokenizer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.units.subwords import Subwords

Result = TypeVar("Result")

# So much audio is decoded together: the search works on many utterances at once.
CHUNK_SECONDS = 240.0
# A word that a window's end cuts is whole in the next window, with some speech before it.
OVERLAP_SECONDS = 5.0


@dataclass(frozen=True)
class Recognizer:
    """An ASR model with what makes its inputs from audio."""

    encoder: UnitTokenizer | SoftTokenizer | FeatureMixer
    asr: AsrModel
    search: AsrEvaluation
    scorers: Sequence[Weighted] = ()

    @classmethod
    def load(cls, trained: str, search: AsrEvaluation) -> "Recognizer":
        """From an output of train_joint.

        Raises:
            ConfigError: there is no such model, or it reads stored tokens, or no units that could be
                mixed.
            LanguageModelError: the search's language model cannot be used.
        """
        output, tau = trained.rstrip("/"), search.soft_tau
        if Artifact(output).exists(Subwords.FOLDER):
            raise ConfigError(
                f"'{trained}' is an output of train_token_asr: its ASR model reads subwords of stored "
                "units, and neither makes units of audio nor knows when they are heard. Name an output "
                "of train_joint; evaluate_asr has the texts of this model"
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        asr = load_model(f"{output}/asr", "asr", AsrModel.from_pretrained).to(device)
        if (weight := asr.settings.ctc_weight) in (0, 1):  # what was not trained has no say
            search = search.model_copy(update={"ctc_weight": weight})
        scorers = load_language_model(search.language_model, asr.text_pieces, device)
        if Artifact(output).exists("tokenizer"):
            tokenizer = load_model(output, "tokenizer", UnitTokenizer.from_pretrained).place(device)
            encoder = tokenizer if tau is None else SoftTokenizer(tokenizer, tau)
            return cls(encoder, asr, search, scorers)
        if tau is not None:
            raise ConfigError(
                f"'{trained}' reads no units that could be mixed: leave out --soft-tau"
            )
        mixer = load_model(output, "features", FeatureMixer.from_pretrained).place(device)
        return cls(mixer, asr, search, scorers)

    @property
    def grid(self) -> FrameGrid:
        mixer = self.encoder if isinstance(self.encoder, FeatureMixer) else self.encoder.mixer
        return mixer.ssl.grid

    @property
    def has_times(self) -> bool:
        """Whether CTC was trained, which alone knows when something is said."""
        return self.asr.settings.ctc_weight > 0

    @property
    def separator(self) -> str:
        """What stands between words: a space, unless the model writes none."""
        return " " if self.asr.text_pieces.has_spaces else ""

    def read(self, windows: Sequence[AudioWindow]) -> list[list[TimedPiece]]:
        """The pieces of each window, with times that count from the start of its file.

        Without `has_times`, a window's text is one piece, whose time says nothing.
        """
        inputs = self.encoder.encode([window.waveform for window in windows])
        rate = self.grid.frames_per_second
        starts = self._in_batches(self._parts, inputs)
        parts = [
            frames[start:end]
            for frames, cuts in zip(inputs, starts, strict=True)
            for start, end in pairwise([*cuts, len(frames)])
        ]
        texts = iter(self._in_batches(self._timed, parts))
        return [
            self._successive([(window.start + cut / rate, next(texts)) for cut in cuts])
            for window, cuts in zip(windows, starts, strict=True)
        ]

    def joined(
        self, pieces: list[TimedPiece], window: AudioWindow, found: list[TimedPiece], end: float
    ) -> list[TimedPiece]:
        """`pieces` until `end` seconds, which a file's earlier windows have, with what the next one has."""
        if self.has_times:
            return join(pieces, found, (window.start, end), self.separator)
        return self._successive([(0.0, pieces), (0.0, found)])

    def _parts(self, inputs: Sequence[np.ndarray]) -> list[list[int]]:
        """The frames where the parts of each window begin; without times nobody knows its pauses."""
        if self.has_times:
            return cut_in_pauses(self.asr, inputs, self.grid.frames_per_second)
        return [[0] for _ in inputs]

    def _timed(self, inputs: Sequence[np.ndarray]) -> list[list[TimedPiece]]:
        times = FrameTimes.of(self.grid, self.asr.settings.subsampling)
        heard = self.asr.hear(inputs)
        texts = [best.text for best, *_ in self.asr.nbest(heard, self.search, self.scorers)]
        if not self.has_times:
            return [[TimedPiece(text, 0.0, 0.0, 0.0)] for text in texts]
        return align(self.asr, heard, texts, times)

    def _successive(self, parts: Sequence[tuple[float, list[TimedPiece]]]) -> list[TimedPiece]:
        """The pieces of successive parts, each with the time where it begins."""
        pieces: list[TimedPiece] = []
        for start, found in parts:
            if pieces and self.separator:
                pieces.append(TimedPiece(self.separator, start, start, 1.0))
            pieces += [piece.later(start) for piece in found]
        return pieces

    def _in_batches(
        self, process: Callable[[list[np.ndarray]], list[Result]], inputs: Sequence[np.ndarray]
    ) -> list[Result]:
        seconds = [len(frames) / self.grid.frames_per_second for frames in inputs]
        return map_in_batches(process, inputs, seconds, self.search.batch_seconds)


@dataclass(frozen=True)
class Reading:
    """How long audio is cut into windows, and how texts are searched in them."""

    windowing: Windowing
    search: AsrEvaluation

    @classmethod
    def of(cls, window_seconds: float, search: AsrEvaluation) -> "Reading":
        """Windows of at most so many seconds."""
        overlap = min(OVERLAP_SECONDS, window_seconds / 2)
        return cls(Windowing(window_seconds, overlap), search)


def transcribe(
    model: str,
    audio: Sequence[str],
    destination: Destination,
    reading: Reading,
    *,
    console: Console,
    messages: Console,
) -> bool:
    """Write what is said in each file; return whether all could be read.

    Whatever ends the work early, the transcripts made until then are written, as by `tokenize`. A model
    whose CTC was not trained reads windows that do not overlap, since nothing tells where to join them.

    Args:
        model: an output of train_joint.
        audio: files and folders.
        destination: where transcripts go, and in which format.
        reading: long audio is read in overlapping windows, a few of them in memory.
        console: where transcripts go that go to no file.
        messages: where everything else is told.

    Raises:
        ConfigError: there is no such model; or no destination for the subtitles of several files; or the
            format has times, which the model does not know.
        CorpusError: a folder without audio.
        UnwritableError: the destination cannot be written, which is found before any work.
    """
    destination.require_writable()
    named = NamedAudio.of(audio)
    destination.require_place_for(len(named.ids))
    recognizer, windowing = Recognizer.load(model, reading.search), reading.windowing
    if not recognizer.has_times:
        destination.require_no_times(model)
        windowing = replace(windowing, overlap_seconds=0.0)
    for reject in named.unusable:
        line = f"{reject.source}: {reject.reason}"
        messages.print(line, style="red", markup=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    windows = windows_of(named.ids, recognizer.grid, windowing, messages)
    num_read = 0
    with destination.open(console) as write:
        for uri, pieces in _texts(recognizer, windows):
            words = words_of(pieces)
            write(Transcript(named.ids[uri], printable(uri), words, recognizer.has_times))
            num_read += 1
    if destination.output is not None:
        line = f"{num_read} of {len(named.ids)} written to {printable(destination.output)}"
        messages.print(line, markup=False, soft_wrap=True)
    return num_read == len(named.ids) and not named.unusable


def _texts(
    recognizer: Recognizer, windows: Iterable[AudioWindow]
) -> Iterator[tuple[str, list[TimedPiece]]]:
    """Each file that can be used to its end, with its pieces."""
    pieces: list[TimedPiece] = []
    end = 0.0
    for window, found in _read(recognizer, windows):
        if window.start == 0.0:  # whether the file before was read to its end or not
            pieces, end = [], 0.0
        pieces = recognizer.joined(pieces, window, found, end)
        end = window.end
        if window.is_last:
            yield window.uri, pieces


def _read(
    recognizer: Recognizer, windows: Iterable[AudioWindow]
) -> Iterator[tuple[AudioWindow, list[TimedPiece]]]:
    chunk: list[AudioWindow] = []
    for window in windows:
        chunk.append(window)
        if sum(each.end - each.start for each in chunk) >= CHUNK_SECONDS:
            yield from zip(chunk, recognizer.read(chunk), strict=True)
            chunk = []
    if chunk:
        yield from zip(chunk, recognizer.read(chunk), strict=True)
