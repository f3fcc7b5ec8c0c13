"""The splits that a config does not name: what is left out, and what may have been meant."""

from collections import Counter
from collections.abc import Iterable

from pipeline.audio.utterance import CorpusError
from pipeline.config.corpus import Splits, plain_name
from pipeline.storage.folders import printable

_MOST_NAMED = 10


def require_named(present: Iterable[str], left_out: Counter[str], splits: Splits) -> None:
    """Refuse a config that spells a split otherwise than the corpus does.

    Args:
        present: the named splits that the corpus has.
        left_out: how many utterances each other split of the corpus has.
        splits: what the config names.

    Raises:
        CorpusError: a named split has no utterance, and one of nearly the same name has some.
    """
    for split in sorted(set(splits.names) - set(present)):
        if alike := _alike(split, left_out):
            raise CorpusError(
                f"the corpus has no split '{split}', but {_count(alike, left_out)}: write it so in "
                "corpus.splits"
            )


def describe(left_out: Counter[str], splits: Splits) -> list[str]:
    """A line about what is left out, and one for each split that seems to belong to a named one."""
    if not left_out:
        return []
    names = [name for name, _ in left_out.most_common()]
    counts = ", ".join(f"{_line(name)} {left_out[name]}" for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    first = (
        f"left out {left_out.total()} utterances of splits that corpus.splits does not name: "
        f"{counts}{more}"
    )
    alike = ((split, _alike(split, left_out)) for split in splits.names)
    return [
        first,
        *(
            f"is part of split '{split}' left out? The corpus has {_count(others, left_out)} too; if "
            "they are one split, give them one name there"
            for split, others in alike
            if others
        ),
    ]


def _alike(split: str, left_out: Counter[str]) -> list[str]:
    return sorted(name for name in left_out if plain_name(name) == plain_name(split))


def _count(names: list[str], left_out: Counter[str]) -> str:
    return ", ".join(f"'{_line(name)}' with {left_out[name]} utterances" for name in names)


def _line(name: str) -> str:
    """The name of any corpus, on one line."""
    return " ".join(printable(name).splitlines())
