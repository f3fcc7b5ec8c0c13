"""The bundled espeak-ng synthesiser: speech with the exact times of its phones.

The wheel `espeakng-loader` contains library and data; nothing installed on the system is used.
"""

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.utterance import Segment

# Constants of the library's C interface.
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x1
_IPA = 0x2
_DO_NOT_EXIT = 0x8000
_RATE = 1
_PITCH = 3
_CHARACTERS = 1
_UTF8 = 0x1
_END_PAUSE = 0x1000
_LIST_END = 0
_PHONEME = 7

_STRESS_AND_LENGTH = str.maketrans("", "", "ˈˌːˑ:")


class EspeakError(RuntimeError):
    """The synthesiser cannot do what was asked."""


@dataclass(frozen=True)
class Voice:
    """A speaker: an accent (`en-us`) spoken by a voice variant (`f4`)."""

    accent: str
    variant: str

    @property
    def name(self) -> str:
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True)
class Speech:
    """16-bit mono samples (num_samples,) and their phones in IPA; between phones is silence."""

    samples: npt.NDArray[np.int16]
    sample_rate_hz: int
    phones: tuple[Segment, ...]


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass
class _Recording:
    """What the library has delivered so far."""

    chunks: list[npt.NDArray[np.int16]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def receive(self, samples: Any, num_samples: int, events: Any) -> int:
        """The library's callback; 0 tells it to continue."""
        if samples and num_samples > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                self.events.append((events[index].sample, events[index].name.decode()))
            index += 1
        return 0


def speak(
    text: str,
    voice: Voice,
    words_per_minute: int = 175,
    pitch: int = 50,
    data_path: Path | None = None,
) -> Speech:
    """Speak `text`: 80 to 450 words a minute, pitch 0 to 99. One call at a time in a process.

    Raises:
        EspeakError: the data or the voice do not exist, or nothing was spoken.
    """
    data = data_path or _bundled_data()
    _check(data, voice)
    with _engine(data) as (library, sample_rate_hz):
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise EspeakError(f"espeak-ng has no accent '{voice.accent}'")
        library.espeak_SetParameter(_RATE, words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        recording = _record(library, text)
    samples = np.concatenate(recording.chunks)
    return Speech(
        samples, sample_rate_hz, _segments(recording.events, len(samples), sample_rate_hz)
    )


def _bundled_data() -> Path:
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


def _check(data: Path, voice: Voice) -> None:
    # The library accepts a wrong data path and an unknown variant silently.
    if not (data / "phontab").is_file():
        raise EspeakError(f"no espeak-ng data at {data}: install espeakng-loader again")
    if not (data / "voices" / "!v" / voice.variant).is_file():
        raise EspeakError(f"espeak-ng has no voice variant '{voice.variant}'")


@contextmanager
def _engine(data: Path) -> Iterator[tuple[ctypes.CDLL, int]]:
    """A freshly loaded library and its sample rate.

    The library keeps state that changes the samples of the next utterance. Terminating it does not
    reset that state, only unloading does (about 2 ms for each utterance).
    """
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        options = _PHONEME_EVENTS | _IPA | _DO_NOT_EXIT
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), options)
        if rate <= 0:
            raise EspeakError(f"espeak-ng does not start with the data at {data} (code {rate})")
        try:
            yield library, rate
        finally:
            library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes has no public way to unload


def _record(library: ctypes.CDLL, text: str) -> _Recording:
    recording = _Recording()
    callback = _Callback(recording.receive)
    library.espeak_SetSynthCallback(callback)
    content = text.encode() + b"\0"
    size = ctypes.c_size_t(len(content))
    flags = _UTF8 | _END_PAUSE
    code = library.espeak_Synth(content, size, 0, _CHARACTERS, 0, flags, None, None)
    library.espeak_Synchronize()
    if code != 0 or not any(name for _, name in recording.events):
        raise EspeakError(f"espeak-ng spoke nothing for '{text}' (code {code})")
    return recording


def _segments(
    events: list[tuple[int, str]], num_samples: int, sample_rate_hz: int
) -> tuple[Segment, ...]:
    """Each phone lasts until the next event; an event without a name starts a pause."""
    ends = [sample for sample, _ in events[1:]] + [num_samples]
    segments = []
    for (start, name), end in zip(events, ends, strict=True):
        label = name.translate(_STRESS_AND_LENGTH)
        if label and end > start:
            segments.append(Segment(start / sample_rate_hz, end / sample_rate_hz, label))
    return tuple(segments)
