"""LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`.

Alignments, where there are any, lie at `alignments/<split>/<speaker>/<chapter>/<utt_id>.TextGrid`.
"""

from collections.abc import Iterable, Iterator

from pipeline.config import LibrispeechCorpus
from pipeline.data.folder import Folder
from pipeline.data.textgrid import TextGridError, parse_textgrid
from pipeline.data.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance


def list_splits(config: LibrispeechCorpus) -> dict[str, dict[str, int]]:
    """The files of each split that the config names, with their sizes.

    Raises:
        CorpusError: there is no such root, or it lacks one of the splits.
    """
    root = Folder.at(config.root)
    found = root.folders()
    missing = [split for split in config.splits.names if split not in found]
    if missing:
        raise CorpusError(
            f"'{config.root}' has no folder for {missing}; it has {found or 'none'}: check "
            "corpus.root and corpus.splits"
        )
    return {split: root.files(split) for split in config.splits.names}


def list_alignments(config: LibrispeechCorpus) -> dict[str, dict[str, int]]:
    """The alignment files of each named split with their sizes; empty without alignments.

    Raises:
        CorpusError: the config names an alignments folder that has none of the splits.
    """
    if config.alignments is None:
        return {}
    folder = Folder.at(config.alignments)
    found = set(folder.folders()) & set(config.splits.names)
    if not found:
        raise CorpusError(
            f"corpus.alignments '{config.alignments}' has no folder for any split of "
            f"{list(config.splits.names)}: check the path, or leave the key out"
        )
    return {split: folder.files(split) for split in sorted(found)}


def read_librispeech(config: LibrispeechCorpus) -> Iterator[Utterance | Reject]:
    """Every utterance of the named splits, in the order of its file's name.

    Raises:
        CorpusError: as `list_splits` and `list_alignments`.
    """
    alignments = _Alignments(config)
    root = Folder.at(config.root)
    for split, files in list_splits(config).items():
        texts = _transcripts(root, split, files)
        spoken = {name.removesuffix(".flac") for name in files if name.endswith(".flac")}
        for stem in sorted(spoken | set(texts)):
            audio = f"{root.uri}/{split}/{stem}.flac"
            if stem in texts:
                yield _utterance(split, stem, audio, texts[stem], alignments)
            else:
                yield Reject(_utt_id(stem), audio, "no transcript: no .trans.txt names it")


def _utterance(
    split: str, stem: str, audio: str, text: str, alignments: "_Alignments"
) -> Utterance | Reject:
    try:
        alignment = alignments.of(split, stem)
    except TextGridError as error:
        return Reject(_utt_id(stem), audio, str(error))
    speaker = stem.partition("/")[0]
    return Utterance(_utt_id(stem), split, audio, 0.0, TO_THE_END, speaker, text, alignment)


def _utt_id(stem: str) -> str:
    return stem.rpartition("/")[2]


class _Alignments:
    """The alignments folder, listed once."""

    def __init__(self, config: LibrispeechCorpus) -> None:
        self._names = {split: set(files) for split, files in list_alignments(config).items()}
        self._folder = Folder.at(config.alignments) if config.alignments else None

    def of(self, split: str, stem: str) -> tuple[Segment, ...] | None:
        """The phones of one utterance; None where the aligner left none.

        Raises:
            TextGridError: there is a file, and it cannot be used.
        """
        name = f"{stem}.TextGrid"
        if self._folder is None or name not in self._names.get(split, ()):
            return None
        return parse_textgrid(self._folder.read(f"{split}/{name}"))


def _transcripts(root: Folder, split: str, files: Iterable[str]) -> dict[str, str]:
    """Text by `<speaker>/<chapter>/<utt_id>`."""
    texts = {}
    for name in files:
        if name.endswith(".trans.txt"):
            folder = name.rpartition("/")[0]
            for line in root.read(f"{split}/{name}").decode("utf-8", "replace").splitlines():
                utt_id, _, text = line.strip().partition(" ")
                if utt_id:
                    texts[f"{folder}/{utt_id}"] = text
    return texts
