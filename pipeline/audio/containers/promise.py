"""What a header says of its samples, against the bytes that are there."""

from typing import NamedTuple

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.tags import is_padding


class ContainerError(ValueError):
    """A file that contradicts its header or leaves its length open; the message is the reason."""


class Samples(NamedTuple):
    """Where the encoded samples lie according to a header, in bytes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Finding(NamedTuple):
    """What a file says of itself.

    Where it ends, in bytes; what is missing before that, in words; and the number of its samples where
    a decoder would also return the rest of the last block or packet.
    """

    end: int
    missing: str | None = None
    num_samples: int | None = None


def held(file: FileBytes, end: int) -> Finding:
    """The finding for a file that should have `end` bytes."""
    missing = f"{file.size} bytes of the {end} its header promises" if end > file.size else None
    return Finding(end, missing)


def require_finished(file: FileBytes, samples: Samples) -> None:
    """Refuse a length of 0 before samples: the program that recorded them never came back to it.

    Raises:
        ContainerError: with the number of bytes that follow.
    """
    rest = file.size - samples.start
    if samples.length == 0 and not is_padding(file, samples.start):
        raise ContainerError(
            f"audio was never finished: its header says 0 bytes of samples, and {rest} bytes "
            "follow; write its length into the header (`sox --ignore-length`)"
        )


def require_nothing_behind(file: FileBytes, end: int) -> None:
    """Refuse more than padding and tags behind what the header accounts for.

    Raises:
        ContainerError: with both numbers of bytes.
    """
    if not is_padding(file, end):
        raise unaccounted(file, end)


def unaccounted(file: FileBytes, end: int) -> ContainerError:
    return ContainerError(
        f"audio does not match its header: it accounts for {end} bytes of the file's {file.size}"
    )


def require_equal(what: str, promised: int, found: int) -> None:
    """Refuse a header one part of which contradicts another.

    Raises:
        ContainerError: `what` is `promised` by one and `found` by the other.
    """
    if promised != found:
        raise ContainerError(
            f"audio does not match its header: {what} {promised} in one place, {found} in another"
        )
