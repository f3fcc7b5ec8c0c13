"""What a run shows: live lines on a terminal, a few plain lines in a log."""

import io

import pytest
from rich.console import Console

from pipeline.commands.run_display import RunDisplay
from pipeline.progress import Report


@pytest.fixture
def clock():
    """Seconds, which the test moves."""
    return [0.0]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120)


def screen(console):
    return console.file.getvalue()


def test_a_log_has_a_start_an_end_and_at_most_a_line_each_half_minute(clock, console):
    with RunDisplay(console, lambda: clock[0]) as display:
        display.start("train[dkm]")
        for second in range(100):
            clock[0] = second
            display.show("train[dkm]", Report(second, 1000, "epochs", "loss 1.5"))
        display.end("train[dkm]", "done in 100.0 s, test.wer 0.05")
        display.show("train[dkm]", Report(100, 1000, "epochs"))  # too late
    assert screen(console).splitlines() == [
        "  0:00  train[dkm] starts",
        "  0:30  train[dkm] 30 of 1,000 epochs, 1/s, 16:10 left, loss 1.5",
        "  1:00  train[dkm] 60 of 1,000 epochs, 1/s, 15:40 left, loss 1.5",
        "  1:30  train[dkm] 90 of 1,000 epochs, 1/s, 15:10 left, loss 1.5",
        "  1:39  train[dkm] done in 100.0 s, test.wer 0.05",
    ]


def test_a_line_of_a_log_is_not_broken(console):
    with RunDisplay(console) as display:
        display.line("x" * 500)
    assert len(screen(console).splitlines()) == 1


def test_what_was_done_before_a_resume_is_no_speed(clock, console):
    with RunDisplay(console, lambda: clock[0]) as display:
        display.start("train")
        for second in range(31):
            clock[0] = second
            display.show("train", Report(5 + 0.01 * second, 10, "epochs"))
    assert "5.30 of 10 epochs, 36/h, 7:51 left" in screen(console)


def test_another_unit_has_a_speed_of_its_own(clock, console):
    with RunDisplay(console, lambda: clock[0]) as display:
        display.start("fit")
        display.show("fit", Report(0, 1000, "shards counted"))
        clock[0] = 10.0
        display.show("fit", Report(1000, 1000, "shards counted"))
        clock[0] = 40.0
        display.show("fit", Report(1, 60, "passes", "mean squared distance 2"))
    assert screen(console).splitlines()[-1].endswith("fit 1 of 60 passes, mean squared distance 2")


def test_a_terminal_shows_a_bar_and_keeps_the_line_of_a_finished_stage():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with RunDisplay(console) as display:
        display.start("extract[dkm +3]")
        display.show("extract[dkm +3]", Report(1.5, 3, "h of audio", "2 shards"))
        display._bars.refresh()
        shown = screen(console)
        display.end("extract[dkm +3]", "done in 1.0 s")
    assert "extract[dkm +3] ━" in shown
    assert "1.50 of 3 h of audio" in shown
    assert "starts" not in shown
    assert "0:00  extract[dkm +3] done in 1.0 s" in screen(console)


def test_work_in_this_process_is_shown_too(console):
    with RunDisplay(console) as display:
        progress = display.progress("tokenize")
        progress.update(1, 2, "headers")
        progress.message("found 2 audio files")
    assert screen(console).splitlines() == [
        "  0:00  tokenize starts",
        "  0:00  tokenize found 2 audio files",
    ]
