"""VOC, Creative's voice file: blocks of sound, silence, text and repetition."""

from collections.abc import Iterator

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import (
    ContainerError,
    Finding,
    held,
    require_nothing_behind,
)

_TERMINATOR, _NEW_SOUND = 0, 9
# Sound, its continuation, silence, the ends of a repetition, and the newer kind of sound.
_AUDIBLE = {1, 2, 3, 6, 7, _NEW_SOUND}
# SoX does not count so many bytes of the block's own header; a terminator then ends the file.
_SOX_FORGETS = 8


def check_voc(file: FileBytes) -> Finding:
    """Hold a VOC file against its blocks.

    Raises:
        ContainerError: it has several blocks of sound, which libsndfile takes for one, or more
            follows than its blocks account for.
    """
    blocks = list(_blocks(file))
    sounds = sum(kind in _AUDIBLE for kind, _ in blocks)
    if sounds > 1:
        raise ContainerError(
            f"audio holds more than one stream: {sounds} blocks of a VOC file; convert it to WAV or "
            "FLAC"
        )
    kind, end = blocks[-1] if blocks else (_TERMINATOR, file.size)
    if kind not in {_TERMINATOR, _NEW_SOUND}:
        # Without a terminator libsndfile reads a block of the newer kind, and no older one.
        return held(file, end + 1)
    require_nothing_behind(file, end)
    return held(file, end)


def _blocks(file: FileBytes) -> Iterator[tuple[int, int]]:
    """Kind and end of each block, the terminator included."""
    position = int.from_bytes(file.at(20, 2), "little")
    while position < file.size:
        kind = file.at(position, 1)[0]
        if kind == _TERMINATOR:
            yield kind, position + 1
            return
        position += 4 + int.from_bytes(file.at(position + 1, 3), "little")
        if kind == _NEW_SOUND and file.at(position + _SOX_FORGETS, 2) == b"\0":
            position += _SOX_FORGETS
        yield kind, position
