"""How the samples of a WAV file are encoded: its `fmt` chunk."""

import struct
from typing import NamedTuple

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, require_equal

_PCM, _FLOAT, _ALAW, _MULAW, _MP3, _EXTENSIBLE = 1, 3, 6, 7, 0x55, 0xFFFE
# Microsoft's ADPCM, IMA's and GSM 6.10 say how many samples a block has.
_IN_BLOCKS = {2, 0x11, 0x31}
_BLOCK_SAMPLES_BYTES = 2


class WaveFormat(NamedTuple):
    """The fields of a `fmt` chunk, the tag of an extensible one's coding among them."""

    tag: int
    channels: int
    rate_hz: int
    second_bytes: int
    frame_bytes: int
    bits: int
    more_bytes: int
    block_samples: int
    is_extensible: bool = False

    @classmethod
    def at(cls, file: FileBytes, start: int, endian: str) -> "WaveFormat":
        data = file.at(start, 26).ljust(26, b"\0")
        *fields, coding = struct.unpack(f"{endian}HHIIHHHH4xH", data)
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

    def numbers_of_samples(self, num_bytes: int) -> range:
        """The numbers that compressed samples may have which end in their last block."""
        if (
            self.tag not in _IN_BLOCKS
            or not self.frame_bytes
            or self.more_bytes < _BLOCK_SAMPLES_BYTES
        ):
            return range(0)
        most = num_bytes // self.frame_bytes * self.block_samples
        return range(most - self.block_samples + 1, most + 1)

    @property
    def _width(self) -> int:
        """Bytes of a sample; those of 24 bits may take four."""
        if self.tag in {_ALAW, _MULAW}:
            return 1
        width = -(-self.bits // 8)
        return 4 if width == 3 and self.frame_bytes == 4 * self.channels else width
