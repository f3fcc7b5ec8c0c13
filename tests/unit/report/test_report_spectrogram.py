"""Sound, units and phones on one time axis."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.audio.utterance import Segment
from pipeline.report.spectrogram import Sound, Speech, spectrogram, unit_segments

SVG = "{http://www.w3.org/2000/svg}"
PHONES = (Segment(0.0, 0.5, "<b>"), Segment(0.5, 1.0, "$a$"))


def texts(svg):
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own


def test_runs_of_units_last_as_long_as_their_frames():
    runs = unit_segments(np.array([7, 7, 7, 2], dtype=np.uint16), SSL_GRID)
    # Frame 0 is centred at 12.5 ms, frames are 20 ms apart.
    assert [(run.label, run.start, run.end) for run in runs] == [
        ("7", pytest.approx(0.0025), pytest.approx(0.0625)),
        ("2", pytest.approx(0.0625), pytest.approx(0.0825)),
    ]
    assert unit_segments(np.empty(0, np.uint16), SSL_GRID) == []


def test_all_rows_are_named_and_labels_stay_text():
    sound = Sound(np.sin(np.arange(16000)), 16000)
    svg = spectrogram(Speech(1.0, sound, [Segment(0.1, 0.9, "12")], PHONES), 'u"1')
    assert {"units", "phones", "kHz", "seconds", "12", "<b>", "$a$"} <= set(texts(svg))
    alt = ET.fromstring(svg).get("aria-label")  # noqa: S314 - our own
    assert alt == 'Spectrogram of u"1, 1.0 s. Units: 12. Phones: <b> $a$.'
    assert "data:image/png;base64," in svg


def test_without_sound_the_units_are_drawn_alone():
    svg = spectrogram(Speech(1.0, units=[Segment(0.1, 0.9, "12")]), "u1")
    assert {"units", "12"} <= set(texts(svg))
    assert "phones" not in texts(svg)
    assert "<image" not in svg


def test_a_label_that_does_not_fit_is_left_out():
    units = [Segment(0.0, 0.01, "123"), Segment(0.01, 1.0, "45")]
    found = texts(spectrogram(Speech(1.0, units=units), "u1"))
    assert "45" in found
    assert "123" not in found


def test_seconds_are_as_wide_in_every_picture_of_long_speech():
    widths = []
    for seconds in (4.0, 8.0):
        speech = Speech(seconds, units=[Segment(0.0, seconds, "1")])
        widths.append(float(re.search(r"width: ([\d.]+)pt", spectrogram(speech, "u"))[1]))
    assert widths[1] - widths[0] == pytest.approx(4 * 2.4 * 72)


@pytest.mark.parametrize("samples", [np.zeros(16000), np.zeros(5), np.empty(0)])
def test_silence_and_nothing_can_be_drawn(samples):
    assert "<image" in spectrogram(Speech(1.0, Sound(samples, 16000)), "u1")
