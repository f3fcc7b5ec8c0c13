"""The utt_ids of files that no corpus names: where they lie below the folder that was named.

An id is the file's path below this folder, without extension; files that are named one by one count
from the folder that holds them all. If an output takes files of several folders, each id carries its
folder's name, except those of a folder that was there alone first: what an output has listed keeps
its id. Of two files that would have one id, such as `a.flac` and `a.wav`, the second keeps its
extension.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

from pipeline.audio.audio_files import Place


@dataclass(frozen=True)
class Naming:
    """Folders that files were listed from, with what their ids begin with, and all ids."""

    prefixes: Mapping[str, str]
    taken: Collection[str] = ()


@dataclass(frozen=True)
class Name:
    """A file's id; `place` is below the folder that the id counts from, and ids there begin alike."""

    utt_id: str
    place: Place
    prefix: str


def name_files(
    uris: Iterable[str], folders: Collection[str] = (), earlier: Naming | None = None
) -> dict[str, Name]:
    """The name of each file, by its address.

    Args:
        uris: addresses of files.
        folders: addresses of the folders that were named; other files were named one by one.
        earlier: what has names already.
    """
    earlier = earlier or Naming({})
    places = _places(sorted(set(uris)), folders, earlier.prefixes)
    prefixes = _prefixes({place.root for place in places}, earlier)
    used = set(earlier.taken)
    names = {}
    for place in places:
        prefix = prefixes[place.root]
        candidates = (f"{prefix}{place.stem}", f"{prefix}{place.name}", place.uri)
        utt_id = next(each for each in candidates if each not in used)
        used.add(utt_id)
        names[place.uri] = Name(utt_id, place, prefix)
    return names


def _places(uris: Sequence[str], folders: Collection[str], known: Collection[str]) -> list[Place]:
    """Each file below the outermost of the known folders, else of `folders`, else of those that hold the others."""
    roots = [*sorted(known, key=len), *sorted(folders, key=len)]
    inside = {uri: next((root for root in roots if _holds(root, uri)), None) for uri in uris}
    others = [uri for uri, root in inside.items() if root is None]
    inside |= {
        uri: root for _, group in groupby(others, key=_storage) for uri, root in _together(group)
    }
    return [_below(inside[uri] or "", uri) for uri in uris]


def _together(uris: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Files of one storage with the innermost folder that holds them all."""
    listed = list(uris)
    levels = zip(*(uri.split("/")[:-1] for uri in listed), strict=False)
    common = "/".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))
    return ((uri, common or "/") for uri in listed)


def _storage(uri: str) -> str:
    """`s3://bucket`, or nothing for a local path."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.partition('/')[0]}" if mark else ""


def _holds(folder: str, uri: str) -> bool:
    return uri.startswith(f"{folder.rstrip('/')}/")


def _below(folder: str, uri: str) -> Place:
    return Place(folder, uri.removeprefix(f"{folder.rstrip('/')}/"))


def _prefixes(roots: Collection[str], earlier: Naming) -> dict[str, str]:
    """What ids below each root begin with: nothing for one alone, else the last part of its address.

    Where that does not tell it from the others, it is as many parts as needed.
    """
    prefixes = dict(earlier.prefixes)
    new = sorted(set(roots) - set(prefixes))
    if not prefixes and len(new) == 1:
        return {new[0]: ""}
    folders = _folders(earlier.taken) if new else set()
    for root in new:
        tails = _tails(root)
        others = folders.union(*(_tails(other) for other in new if other != root))
        candidates = [*(tail for tail in tails if tail not in others), tails[-1], f"{root}/"]
        used = set(prefixes.values())
        prefixes[root] = next(each for each in candidates if each not in used)
    return prefixes


def _tails(root: str) -> list[str]:
    """`c/`, `b/c/` and `a/b/c/` of `/a/b/c`."""
    parts = [part for part in (root.partition("://")[2] or root).split("/") if part]
    return ["/".join(parts[-count:]) + "/" for count in range(1, len(parts) + 1)] or ["/"]


def _folders(ids: Iterable[str]) -> set[str]:
    """The folders above them: `a/` and `a/b/` of `a/b/c`."""
    above = {tuple(each.split("/")[:-1]) for each in ids}
    return {"/".join(parts[:depth]) + "/" for parts in above for depth in range(1, len(parts) + 1)}
