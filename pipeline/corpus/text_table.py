r"""Text files of a corpus, line by line: the same rules for every format.

A line ends at \n or \r\n, or at \r in a file without any \n (old Macs), and nowhere else: U+2028,
U+0085, form feeds and their like belong to the text. A byte order mark is no text; a file that
begins with that of UTF-16 is read as such, and all others must be UTF-8.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Reject
from pipeline.storage.failures import may_recover
from pipeline.storage.folders import Folder, printable

BLANKS = " \t"
_BLANK = re.compile(f"[{BLANKS}]+")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, and where it is: `name:number`."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """What a line says of its id, and where it is; the value may be empty."""

    source: str
    value: str


def read_text(folder: Folder, name: str, missing: str) -> bytes:
    """A text file of a corpus, as bytes.

    Raises:
        CorpusError: it does not exist, which is said as `missing`, or it cannot be read.
        OSError: the storage failed, and another try may succeed.
    """
    try:
        return folder.read(name)
    except (FileNotFoundError, IsADirectoryError):
        raise CorpusError(missing) from None
    except OSError as error:
        if may_recover(error):
            raise
        address = printable(folder.address(name))
        raise CorpusError(f"'{address}' cannot be read: {error.strerror or error}") from None


def read_lines(content: bytes, name: str) -> Iterator[Line | Reject]:
    """Each line that is not blank, or the reason why it cannot be read."""
    for number, line in enumerate(split_lines(content), start=1):
        source = f"{name}:{number}"
        try:
            text = decode_line(line)
        except UnusableError as error:
            yield Reject(None, source, f"broken line: {error}")
            continue
        if text.strip():
            yield Line(source, text)


def id_first(line: str) -> tuple[str, str]:
    """Id and value of a line `id value`, separated by spaces or tabs; the value may be empty."""
    key, *values = _BLANK.split(line.strip(BLANKS), maxsplit=1)
    return key, "".join(values)


class TextTable:
    """Lines of an id and a value: `rows` by id, and `rejects`.

    `parse` takes both from a line, or raises an UnusableError that says why the line is broken. The
    first line of an id counts; all later ones are rejects.
    """

    def __init__(
        self, content: bytes, name: str, parse: Callable[[str], tuple[str, str]] = id_first
    ) -> None:
        self.rows: dict[str, TableRow] = {}
        self.rejects: list[Reject] = []
        for line in read_lines(content, name):
            if isinstance(line, Reject):
                self.rejects.append(line)
                continue
            try:
                self._add(line.source, *parse(line.text))
            except UnusableError as error:
                self.rejects.append(Reject(None, line.source, f"broken line: {error}"))

    def _add(self, source: str, key: str, value: str) -> None:
        if key in self.rows:
            reason = f"duplicate id: {self.rows[key].source} has it already"
            self.rejects.append(Reject(key, source, reason))
        else:
            self.rows[key] = TableRow(source, value)


def fields(value: str) -> list[str]:
    """The parts of a value that spaces or tabs separate."""
    return [field for field in _BLANK.split(value) if field]


def split_lines(content: bytes) -> Iterator[bytes]:
    r"""Lines with their ends, as UTF-8; to be read by `decode_line`."""
    if content.startswith(_UTF16):
        content = content.decode("utf-16", "replace").encode()
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    # A file object of bytes knows no other line end than \n.
    return iter(io.BytesIO(content))


def decode_line(line: bytes) -> str:
    """A line without its end and a byte order mark.

    Raises:
        UnusableError: it is not UTF-8, or holds NUL bytes or a carriage return.
    """
    line = line.rstrip(b"\r\n")
    if b"\0" in line:
        raise UnusableError("it holds NUL bytes; save the file as UTF-8")
    if b"\r" in line:
        raise UnusableError("it holds a carriage return, which ends a line only before a newline")
    try:
        return line.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise UnusableError("not UTF-8") from None
