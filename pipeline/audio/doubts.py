"""What is doubtful about a signal: why nothing can be learned from it, or what somebody should know."""

from collections.abc import Callable

from pipeline.audio.signal import BLOCK_SECONDS, OVER_FULL_SCALE, Channel, Signal
from pipeline.audio.unusable import UnusableError

FEWEST_AUDIBLE_BLOCKS = 2
# Speech that is 6, 12 and 40 dB too loud has 0.5, 4 and 50 % of its samples cut off.
CLIPPED_SHARE = 0.005
CLIPPED_BEYOND_USE_SHARE = 0.5
MOSTLY_SILENT_SHARE = 0.8
# A copy that was cut off may have been filled up.
SILENT_END_SECONDS = 1.0
SILENT_END_SHARE = 0.25

_NO_SPEECH = "leave it out, or make it again, louder, if it should hold speech"


def examine(signal: Signal) -> list[str]:
    """The doubts about a signal that can be used; each begins with its kind, one of DOUBTS.

    Raises:
        UnusableError: nothing can be learned from it.
    """
    mono = signal.mono
    # The last block may be too short to be heard.
    if mono.num_audible < min(FEWEST_AUDIBLE_BLOCKS, max(1, mono.num_blocks - 1)):
        raise UnusableError(f"silence: {_describe(mono)}; {_NO_SPEECH}")
    if signal.is_dither:
        raise UnusableError(f"silence: samples have no more values than dither has; {_NO_SPEECH}")
    found = [f"{kind}: {text}" for kind, doubt in DOUBTS.items() if (text := doubt(signal))]
    if found and (share := signal.clipped_share) > CLIPPED_BEYOND_USE_SHARE:
        raise UnusableError(f"clipped beyond use: {_cut_off(share)}")
    return found


def _clipped(signal: Signal) -> str | None:
    share = signal.clipped_share
    return _cut_off(share) if share >= CLIPPED_SHARE else None


def _mostly_silent(signal: Signal) -> str | None:
    mono = signal.mono
    if mono.num_audible >= (1 - MOSTLY_SILENT_SHARE) * mono.num_blocks:
        return None
    return f"{_describe(mono)}; cut it to the speech"


def _silent_end(signal: Signal) -> str | None:
    seconds, total = (
        blocks * BLOCK_SECONDS for blocks in (signal.mono.num_constant, signal.mono.num_blocks)
    )
    if seconds < max(SILENT_END_SECONDS, SILENT_END_SHARE * total):
        return None
    return (
        f"the last {seconds:.3g} s of {total:.3g} s have one value: is it a copy that was cut off?"
    )


def _over_full_scale(signal: Signal) -> str | None:
    peak = signal.mono.peak
    return f"samples reach {peak:g}; scale them to at most 1" if peak > OVER_FULL_SCALE else None


def _cancelled_mix(signal: Signal) -> str | None:
    if not signal.is_cancelled:
        return None
    (loudest,) = signal.used
    return (
        f"the channels cancel each other; the loudest, channel {loudest + 1} of "
        f"{len(signal.channels)}, is used alone"
    )


def _silent_channel(signal: Signal) -> str | None:
    if len(signal.channels) == 1:
        return None
    silent = [index + 1 for index, each in enumerate(signal.channels) if not each.num_audible]
    return f"{silent} of {len(signal.channels)}; the others are used" if silent else None


DOUBTS: dict[str, Callable[[Signal], str | None]] = {
    "clipped": _clipped,
    "mostly silent": _mostly_silent,
    "silent end": _silent_end,
    "over full scale": _over_full_scale,
    "cancelled mix": _cancelled_mix,
    "silent channel": _silent_channel,
}


def _describe(channel: Channel) -> str:
    """What can be heard where most is silent."""
    if channel.low == channel.high:
        return f"every sample is {channel.low:g}"
    if channel.num_audible:
        heard, total = (
            blocks * BLOCK_SECONDS for blocks in (channel.num_audible, channel.num_blocks)
        )
        return f"about {heard:.3g} s of {total:.3g} s can be heard"
    swing = max(channel.swings)
    return f"nothing is louder than {swing:.2g} of full scale"


def _cut_off(share: float) -> str:
    return f"{share:.1%} of the samples are cut off at the limit; record it at a lower level"
