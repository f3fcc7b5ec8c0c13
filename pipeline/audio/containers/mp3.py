"""MP3: the frame that counts the others, against the chain of frames behind it."""

import struct

from pipeline.audio.containers.checksums import crc16
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding, held, unaccounted
from pipeline.audio.containers.tags import end_before_tags, is_padding

_HEADER_BYTES = 4
_MPEG1 = 3
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HAS_FRAMES, _HAS_BYTES = 1, 2
_LARGEST_FRAME = 2881
# Behind `Xing` or `Info`: the encoder's name, and the checksum of all before it.
_ENCODER_AT, _CHECKSUM_AT = 120, 154
_PIECE_BYTES = 1 << 20


def check_mp3(file: FileBytes, start: int) -> Finding | None:
    """Hold the frames from byte `start` on against the number that the first of them says.

    There is no finding for what is not Layer III. Of a large file that is not at hand, only the number
    of bytes is compared.

    Raises:
        ContainerError: no Xing or Info frame counts the others, so that a cut would go unnoticed;
            or the frames are damaged; or more follow than were counted.
    """
    length = _frame_bytes(file.at(start, _HEADER_BYTES))
    if not length:
        return None
    if start + length > file.size:
        return held(file, start + length)
    promised, num_bytes = _promised(file.at(start, length))
    if not file.is_at_hand:
        return _compare_bytes(file, start + num_bytes) if num_bytes else Finding(file.size)
    found, end = _walk(file, start, 1 + promised)
    if found == 1 + promised:
        if not is_padding(file, end):
            raise ContainerError(
                f"audio does not match its header: {promised} frames in it end at byte {end} of "
                f"{file.size}"
            )
        return Finding(file.size)
    if _frame_bytes(file.at(end, _HEADER_BYTES)) or end >= end_before_tags(file):
        return Finding(
            file.size, f"{max(0, found - 1)} frames of the {promised} its header promises"
        )
    raise ContainerError(f"audio is damaged: no MP3 frame begins at byte {end}")


def _compare_bytes(file: FileBytes, end: int) -> Finding:
    # Some programs do not count the first frame.
    if end_before_tags(file) > end + _LARGEST_FRAME:
        raise unaccounted(file, end)
    return held(file, end)


def _promised(frame: bytes) -> tuple[int, int]:
    """The numbers of frames and bytes that the first frame says, where decoders look; 0 is unknown."""
    is_mpeg1, is_mono = frame[1] >> 3 & 3 == _MPEG1, frame[3] >> 6 == 3
    side_bytes = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    position = _HEADER_BYTES + side_bytes
    name, flags, number, num_bytes = struct.unpack(
        ">4sIII", frame[position : position + 16].ljust(16, b"\0")
    )
    if name not in {b"Xing", b"Info"} or not flags & _HAS_FRAMES or any(frame[6:position]):
        # libmpg123 does not read Fraunhofer's VBRI.
        raise ContainerError(
            "audio does not say its length: no Xing or Info frame counts the frames of this MP3, so "
            "that a cut would go unnoticed; convert it to FLAC"
        )
    _require_intact(frame, position)
    return int(number), int(num_bytes) if flags & _HAS_BYTES else 0


def _require_intact(frame: bytes, position: int) -> None:
    """Refuse LAME's first frame, which also says what to drop at both ends, if it is damaged."""
    end = position + _CHECKSUM_AT
    stored = int.from_bytes(frame[end : end + 2], "big")
    is_lame = frame[position + _ENCODER_AT :].startswith(b"LAME")
    if is_lame and stored and stored != crc16(frame[:end]):
        raise ContainerError(
            "audio is damaged: the first frame of this MP3 does not match its checksum"
        )


def _walk(file: FileBytes, position: int, most: int) -> tuple[int, int]:
    """How many complete frames follow each other from `position` on, up to `most`; where they end."""
    found, piece, begin = 0, b"", position
    while found < most:
        header = piece[position - begin : position - begin + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES:
            piece, begin = file.at(position, _PIECE_BYTES), position
            header = piece[:_HEADER_BYTES]
        length = _frame_bytes(header)
        if not length or position + length > file.size:
            break
        position += length
        found += 1
    return found, position


def _frame_bytes(header: bytes) -> int:
    """The length of a Layer III frame with this header; 0 if it is none, or does not say its length."""
    if len(header) < _HEADER_BYTES or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in {0, 15} or rate == 3:
        return 0
    bits = _KBITS[3 if version == _MPEG1 else 2][bitrate] * 1000
    slots = 144 if version == _MPEG1 else 72
    return slots * bits // _RATES_HZ[version][rate] + (header[2] >> 1 & 1)
