r"""Reading and writing ARPA files, the format that SRILM, KenLM, IRSTLM and others share.

The line `\data\`, then the number of n-grams of each length; for each length `\2-grams:` and a line
for each n-gram, `log10-probability word … word [log10-backoff]`; at last `\end\`.
"""

import gzip
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from pipeline.lm.ngrams import BEGIN, END, NGrams, Order
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder

LN_10 = math.log(10.0)
# Files have few digits: a probability of 1 may be a little more.
ROUNDING = 1e-4
_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION = re.compile(r"\\(\d+)-grams:")


class LanguageModelError(ValueError):
    """A language model that cannot be used; the message says where and why."""


class _Lines:
    """Lines with their numbers, without white space around them, blank ones left out."""

    def __init__(self, file: Iterable[bytes], name: str) -> None:
        self._file, self._name, self.number = file, name, 0

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self._file:
                self.number += 1
                if stripped := line.strip(b" \t\r\n"):
                    yield stripped.decode()
        except UnicodeDecodeError:
            raise self.error("it is not UTF-8; write it again in UTF-8") from None
        except (EOFError, gzip.BadGzipFile):
            raise self.error("the compressed file is damaged or cut short") from None

    def error(self, problem: str) -> LanguageModelError:
        return LanguageModelError(f"{self._name}:{self.number}: {problem}")


def read_arpa(uri: str) -> NGrams:
    """The model in a file, local or on any storage; a name that ends in `.gz` is compressed.

    Raises:
        LanguageModelError: there is no such file, or it is not what its header promises.
    """
    with _open(uri) as file:
        lines = _Lines(file, uri)
        return _parse(lines, iter(lines))


def write_arpa(uri: str, model: NGrams) -> None:
    """Write the model as a file, local or on any storage, whole or not at all."""
    folder, name = Folder.around(uri)
    with Artifact(folder.uri).write(name) as file:
        for line in _lines_of(model):
            file.write(f"{line}\n".encode())


def _lines_of(model: NGrams) -> Iterator[str]:
    yield r"\data" "\\"
    yield from (f"ngram {n}={len(order.keys)}" for n, order in enumerate(model.orders, start=1))
    contexts: list[str] = []
    for length, order in enumerate(model.orders, start=1):
        yield from ("", rf"\{length}-grams:")  # KenLM insists on the empty line
        places, lasts = np.divmod(order.keys, len(model.words))
        ngrams = [model.words[last] for last in lasts.tolist()]
        if contexts:
            ngrams = [
                f"{contexts[place]} {last}" for place, last in zip(places, ngrams, strict=True)
            ]
        for ngram, log_prob, backoff in zip(
            ngrams, order.log_probs / LN_10, order.backoffs / LN_10, strict=True
        ):
            yield f"{log_prob:.7g}\t{ngram}" + f"\t{backoff:.7g}" * (length < len(model.orders))
        contexts = ngrams
    yield ""
    yield r"\end" "\\"


def _parse(lines: _Lines, text: Iterator[str]) -> NGrams:
    counts = _header(lines, text)
    ids: dict[str, int] = {}
    orders: list[Order] = []
    for length, count in enumerate(counts, start=1):
        rows = [_row(lines, next(text, ""), length) for _ in range(count)]
        if length == 1:
            ids |= {words[0]: number for number, (_, words, _) in enumerate(rows)}
        orders.append(_order(lines, rows, ids, orders))
        ending, expected = next(text, "nothing"), rf"\{length + 1}-grams:"
        if ending != (expected if length < len(counts) else r"\end" "\\"):
            raise lines.error(
                f"{ending[:40]!r} where the {count} {length}-grams of the header should have "
                "ended: is the file complete?"
            )
    if missing := [word for word in (BEGIN, END) if word not in ids]:
        raise lines.error(f"the model lists no {missing[0]} among its single words")
    return NGrams(list(ids), orders)


def _header(lines: _Lines, text: Iterator[str]) -> list[int]:
    r"""The numbers of n-grams by length; the line `\1-grams:` has been read too."""
    if not any(line == r"\data" "\\" for line in text):
        raise lines.error(r"no line \data" "\\: this is no ARPA file")
    counts: list[int] = []
    for line in text:
        if found := _COUNT.fullmatch(line):
            if int(found[1]) != len(counts) + 1:
                raise lines.error(f"'{line}' where the number of {len(counts) + 1}-grams is due")
            counts.append(int(found[2]))
        elif counts and line == r"\1-grams:":
            return counts
        else:
            break
    raise lines.error("the header must say 'ngram 1=…', 'ngram 2=…' and so on, then \\1-grams:")


def _row(lines: _Lines, line: str, length: int) -> tuple[float, tuple[str, ...], float]:
    # Words hold no white space that ASCII knows; others, such as U+00A0, they may.
    fields = re.split("[ \t]+", line)
    numbers = [fields[0], *fields[length + 1 :]]
    if len(fields) in {length + 1, length + 2} and all(map(_is_number, numbers)):
        log_prob, backoff = (LN_10 * float(number) for number in [*numbers, "0"][:2])
        return log_prob, tuple(fields[1 : length + 1]), backoff
    raise lines.error(
        f"{line[:60]!r} is no {length}-gram: a logarithm, {length} words and perhaps a back-off"
    )


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def _order(
    lines: _Lines,
    rows: Sequence[tuple[float, tuple[str, ...], float]],
    ids: dict[str, int],
    shorter: Sequence[Order],
) -> Order:
    try:
        keys = np.array([[ids[word] for word in words] for _, words, _ in rows], dtype=np.int64)
    except KeyError as error:
        raise lines.error(f"{error} is in an n-gram, but no single word of the model") from None
    keys = keys.reshape(len(rows), len(shorter) + 1)
    places = keys[:, 0]
    for order, column in zip(shorter[1:], keys.T[1:-1], strict=True):
        places = _places(lines, order, places * len(ids) + column)
    if shorter:
        places = places * len(ids) + keys[:, -1]
    ranks = np.argsort(places, kind="stable")
    if len(places) > len(np.unique(places)) or (not shorter and len(rows) != len(ids)):
        raise lines.error(f"a {len(shorter) + 1}-gram is listed twice")
    log_probs, backoffs = (np.array([row[i] for row in rows], dtype=np.float32) for i in (0, 2))
    if (log_probs > ROUNDING).any():
        raise lines.error(f"a {len(shorter) + 1}-gram has a probability above 1")
    return Order(places[ranks], log_probs[ranks], backoffs[ranks])


def _places(lines: _Lines, order: Order, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    places = np.searchsorted(order.keys, keys).clip(max=max(0, len(order.keys) - 1))
    if len(keys) and not (len(order.keys) and (order.keys[places] == keys).all()):
        raise lines.error("an n-gram is listed whose words but the last are not, one order below")
    return places


@contextmanager
def _open(uri: str) -> Iterator[Iterable[bytes]]:
    folder, name = Folder.around(uri)
    try:
        with folder.open(name) as file:
            yield gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
    except (FileNotFoundError, IsADirectoryError):
        raise LanguageModelError(f"{uri}: no such file") from None
