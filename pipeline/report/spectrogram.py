"""A spectrogram with units and phones under it, on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment
from pipeline.report.picture import FAINT, INK, picture

# Inches. Long utterances are wide and scroll; the scale of the time axis is the same for all.
_SECOND, _NARROWEST, _WIDEST = 2.4, 6.2, 40.0
_LEFT, _RIGHT, _BOTTOM, _GAP = 0.55, 0.1, 0.4, 0.05
_HEIGHTS = {"sound": 1.2, "units": 0.24, "phones": 0.24}
_LETTER = 0.065  # the width of a letter of a label
_DECIBELS = 70.0  # what is fainter than the loudest by more is black
_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.01
_GOLDEN = 0.618  # steps of hue by which neighbouring units differ most


@dataclass(frozen=True)
class Sound:
    """Samples in [-1, 1], of shape (num_samples,)."""

    samples: np.ndarray
    sample_rate_hz: int


@dataclass(frozen=True)
class Speech:
    """What is drawn of one utterance: of each as much as is known."""

    seconds: float
    sound: Sound | None = None
    units: Sequence[Segment] = ()
    phones: Sequence[Segment] = ()

    @property
    def rows(self) -> list[str]:
        """What there is to draw, from top to bottom."""
        return [name for name in _HEIGHTS if getattr(self, name)]


def unit_segments(units_T: np.ndarray, grid: FrameGrid) -> list[Segment]:
    """Runs of equal units; a frame lasts from half a hop before its centre to half a hop after."""
    half = grid.hop / grid.sample_rate_hz / 2
    runs, first = [], 0
    for unit, run in groupby(units_T.tolist()):
        end = first + len(list(run))
        start_seconds, end_seconds = grid.centre_seconds(first), grid.centre_seconds(end - 1)
        runs.append(Segment(start_seconds - half, end_seconds + half, str(unit)))
        first = end
    return runs


def spectrogram(speech: Speech, whose: str) -> Markup:
    """The picture of an utterance that has something to draw."""
    labels = {"units": speech.units, "phones": speech.phones}
    said = "".join(
        f" {name.capitalize()}: {' '.join(segment.label for segment in segments)}."
        for name, segments in labels.items()
        if segments
    )
    what = "Spectrogram" if speech.sound else "Time axis"
    alt = f"{what} of {whose}, {speech.seconds:.1f} s.{said}"
    return picture(lambda: _draw(speech), alt, keeps_size=True)


def _draw(speech: Speech) -> Figure:
    width = min(_WIDEST, max(_NARROWEST, _SECOND * speech.seconds))
    height = sum(_HEIGHTS[name] + _GAP for name in speech.rows)
    full = _LEFT + width + _RIGHT, height + _BOTTOM
    figure = Figure(figsize=full, dpi=100)
    bottom = full[1]
    for name in speech.rows:
        bottom -= _HEIGHTS[name] + _GAP
        place = _LEFT / full[0], bottom / full[1], width / full[0], _HEIGHTS[name] / full[1]
        axes = figure.add_axes(place)
        if name == "sound" and speech.sound is not None:
            _draw_sound(axes, speech.sound)
        else:
            _draw_segments(axes, name, getattr(speech, name), width / speech.seconds)
        axes.set_xlim(0, speech.seconds)
        is_last = name == speech.rows[-1]
        axes.tick_params(axis="x", bottom=is_last, labelbottom=is_last, labelsize=8)
        if is_last:
            axes.set_xlabel("seconds", fontsize=8)
    return figure


def _draw_sound(axes: Axes, sound: Sound) -> None:
    window, hop = (round(each * sound.sample_rate_hz) for each in (_WINDOW_SECONDS, _HOP_SECONDS))
    samples = np.pad(sound.samples, (0, max(0, 2 * window - len(sound.samples))))
    with np.errstate(divide="ignore"):  # of the logarithm of digital silence
        power, _, _, image = axes.specgram(
            samples,
            NFFT=window,
            Fs=sound.sample_rate_hz,
            noverlap=window - hop,
            cmap="magma",
        )
    loudest = 10 * np.log10(max(power.max(), np.finfo(np.float32).tiny))
    axes.set_facecolor("black")  # as silence is
    image.set_clim(loudest - _DECIBELS, loudest)
    axes.yaxis.set_major_formatter(lambda hertz, _: f"{hertz / 1000:g}")
    axes.set_ylabel("kHz", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)


def _draw_segments(axes: Axes, name: str, segments: Sequence[Segment], inches: float) -> None:
    """Boxes with their labels, as far as these fit at so many `inches` a second."""
    spans = [(each.start, each.end - each.start) for each in segments]
    colours = [_fill(each.label) if name == "units" else (0, 0, 0, 0) for each in segments]
    axes.broken_barh(spans, (0, 1), facecolors=colours, edgecolors=FAINT, linewidth=0.4)
    for segment, (start, length) in zip(segments, spans, strict=True):
        if length * inches >= _LETTER * len(segment.label):
            axes.text(
                start + length / 2, 0.47, segment.label,
                fontsize=7, color=INK, ha="center", va="center", clip_on=True,
            )  # fmt: skip
    axes.set(ylim=(0, 1), yticks=[0.5])
    axes.set_yticklabels([name], fontsize=8)
    axes.tick_params(axis="y", left=False)


def _fill(unit: str) -> tuple[float, float, float, float]:
    """A colour for each unit, through which the page shows."""
    red, green, blue = hsv_to_rgb((int(unit) * _GOLDEN % 1, 0.8, 0.8))
    return red, green, blue, 0.4
