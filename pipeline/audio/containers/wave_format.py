"""How the samples of a WAV file are encoded: its `fmt` chunk."""

import struct
from typing import NamedTuple

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, require_equal

_PCM, _FLOAT, _ALAW, _MULAW, _MP3, _EXTENSIBLE = 1, 3, 6, 7, 0x55, 0xFFFE
_GSM, _GSM_BLOCK_BYTES, _GSM_BLOCK_SAMPLES = 0x31, 65, 320


class WaveFormat(NamedTuple):
    """The fields of a `fmt` chunk, the tag of an extensible one's coding among them."""

    tag: int
    channels: int
    rate_hz: int
    second_bytes: int
    frame_bytes: int
    bits: int
    is_extensible: bool = False

    @classmethod
    def at(cls, file: FileBytes, start: int, endian: str) -> "WaveFormat":
        data = file.at(start, 26).ljust(26, b"\0")
        *fields, coding = struct.unpack(f"{endian}HHIIHH8xH", data)
        plain = cls(*fields)
        if plain.tag == _EXTENSIBLE:
            return plain._replace(tag=coding, is_extensible=True)
        return plain

    def require_supported(self, *, is_wave64: bool) -> None:
        """Refuse what libsndfile reads wrongly, and fields that contradict each other.

        Raises:
            ContainerError: it says which.
        """
        if self.tag == _MP3:
            raise ContainerError("coding is not supported: MP3 in WAV; convert it to WAV or FLAC")
        if is_wave64 and self.is_extensible and self.tag != _PCM:
            # libsndfile takes them for integers.
            raise ContainerError(
                "coding is not supported: other samples than integers behind an extensible Wave64 "
                "header; convert it to WAV or FLAC"
            )
        if self.tag in {_PCM, _FLOAT, _ALAW, _MULAW}:
            require_equal("bytes in a frame are", self.frame_bytes, self.channels * self._width)
            second_bytes = self.rate_hz * self.frame_bytes
            require_equal("bytes in a second are", self.second_bytes, second_bytes)

    def num_samples(self, num_bytes: int) -> int | None:
        """The number in complete blocks of GSM 6.10: libsndfile also decodes a byte of padding."""
        if self.tag == _GSM:
            return num_bytes // _GSM_BLOCK_BYTES * _GSM_BLOCK_SAMPLES
        return None

    @property
    def _width(self) -> int:
        """Bytes of a sample; those of 24 bits may take four."""
        if self.tag in {_ALAW, _MULAW}:
            return 1
        width = -(-self.bits // 8)
        return 4 if width == 3 and self.frame_bytes == 4 * self.channels else width
