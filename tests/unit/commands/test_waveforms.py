"""Audio nobody prepared: unusable files are named."""

import io

import numpy as np
import soundfile
from rich.console import Console

from pipeline.audio.decode import write_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.commands.waveforms import readable

GRID = FrameGrid(400, 320, 16000)


def test_unusable_files_are_named_and_the_others_go_on(tmp_path):
    good, short, text = (tmp_path / name for name in ("good.wav", "short.wav", "text.wav"))
    write_audio(good, np.random.default_rng(0).normal(0, 0.1, 8000), 8000, format="WAV")
    write_audio(short, np.zeros(300), 16000, format="WAV")
    text.write_text("no audio")
    screen = io.StringIO()
    uris = [str(short), str(text), str(tmp_path / "gone.wav"), str(good)]

    found = list(readable(uris, GRID, Console(file=screen, width=300)))

    assert [(uri, len(waveform)) for uri, waveform in found] == [(str(good), 16000)]
    short_line, text_line, gone_line = screen.getvalue().splitlines()
    assert short_line == f"{short}: shorter than one frame of 0.025 s"
    assert text_line.startswith(f"{text}: not readable as audio")
    assert gone_line == f"{tmp_path / 'gone.wav'}: no such audio file"


def test_what_is_doubtful_is_used_and_said(tmp_path):
    silent, loud, huge = (str(tmp_path / name) for name in ("silent.wav", "loud.wav", "huge.wav"))
    samples = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    soundfile.write(silent, 0 * samples, 16000)
    soundfile.write(loud, np.clip(10 * samples, -1, 1), 16000)
    soundfile.write(huge, 1e20 * samples, 16000, subtype="FLOAT")
    screen = io.StringIO()

    found = list(readable([silent, loud, huge], GRID, Console(file=screen, width=300)))

    assert [uri for uri, _ in found] == [silent, loud]
    silent_line, loud_line, huge_line = screen.getvalue().splitlines()
    assert silent_line.startswith(f"{silent}: silence: every sample is 0; ")
    assert loud_line.startswith(f"{loud}: clipped: ")
    assert huge_line.startswith(f"{huge}: out of scale: samples reach ")
