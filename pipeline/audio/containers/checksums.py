"""Cyclic redundancy checks that neither zlib nor binascii has."""

import zlib
from collections.abc import Iterable


def _remainder(byte: int, polynomial: int, top: int) -> int:
    """The remainder of one byte, most significant bit first, where `top` is the polynomial's bit."""
    remainder = byte * (top >> 8)
    for _ in range(8):
        remainder = remainder << 1 ^ (polynomial if remainder & top >> 1 else 0)
    return remainder


def _reversed(number: int, num_bits: int) -> int:
    return int(f"{number:0{num_bits}b}"[::-1], 2)


_CRC8 = [_remainder(byte, 0x107, 1 << 8) for byte in range(256)]
_CRC16 = [_reversed(_remainder(_reversed(byte, 8), 0x18005, 1 << 16), 16) for byte in range(256)]
_REVERSED = bytes(_reversed(byte, 8) for byte in range(256))


def crc8(data: Iterable[int]) -> int:
    """x^8 + x^2 + x + 1, most significant bit first: of FLAC's frame headers."""
    remainder = 0
    for byte in data:
        remainder = _CRC8[remainder ^ byte]
    return remainder


def crc16(data: Iterable[int]) -> int:
    """x^16 + x^15 + x^2 + 1, least significant bit first: of LAME's first frame."""
    remainder = 0
    for byte in data:
        remainder = remainder >> 8 ^ _CRC16[(remainder ^ byte) & 0xFF]
    return remainder


def crc32_of_ogg(data: bytes | bytearray) -> int:
    """The usual polynomial, but most significant bit first: zlib's of the bits reversed.

    zlib also inverts before and after.
    """
    return _reversed(zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF, 32)
