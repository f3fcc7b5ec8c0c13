"""Audio nobody prepared: unusable files are named, long ones are cut without losing a frame."""

import io

import numpy as np
from rich.console import Console

from pipeline.audio.decode import write_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.commands.waveforms import readable, split_at_pauses

GRID = FrameGrid(400, 320, 16000)


def test_pieces_are_cut_in_the_pause_and_lose_nothing():
    generator = np.random.default_rng(0)
    waveform = generator.normal(size=16000 * 5)
    pause = slice(int(1.7 * 16000), int(1.9 * 16000))
    waveform[pause] *= 1e-3
    pieces = split_at_pauses(waveform, 16000, max_seconds=2.0)
    np.testing.assert_array_equal(np.concatenate(pieces), waveform)
    assert pause.start < len(pieces[0]) < pause.stop
    assert all(0 < len(piece) <= 2 * 16000 for piece in pieces)


def test_short_audio_is_one_piece():
    (piece,) = split_at_pauses(np.ones(32000), 16000, max_seconds=2.0)
    assert len(piece) == 32000


def test_unusable_files_are_named_and_the_others_go_on(tmp_path):
    good, short, text = (tmp_path / name for name in ("good.wav", "short.wav", "text.wav"))
    write_audio(good, np.zeros(8000), 8000, format="WAV")
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
