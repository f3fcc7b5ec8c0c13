"""LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`.

Published alignments are in folders of the same structure:
`<split>/<speaker>/<chapter>/<utt_id>.TextGrid`.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.storage.folders import Folder


class LibrispeechCorpus(RecordedCorpus):
    """LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`."""

    kind: Literal["librispeech"] = "librispeech"
    root: str
    """The folder that holds `train-clean-100`, `dev-clean` and so on."""


def list_splits(config: LibrispeechCorpus) -> dict[str, dict[str, int]]:
    """The files of each split that the config names, with their sizes.

    Raises:
        CorpusError: the root does not exist, or lacks one of the splits.
    """
    root = Folder.at(config.root)
    present = root.folders()
    missing = [split for split in config.splits.names if split not in present]
    if missing:
        raise CorpusError(
            f"'{config.root}' has no folder for {missing}; it has {present or 'none'}: check "
            "corpus.root and corpus.splits"
        )
    return {split: root.files(split) for split in config.splits.names}


def read_librispeech(config: LibrispeechCorpus) -> Iterator[Utterance | Reject]:
    """Every utterance of the named splits, sorted by file name."""
    root = Folder.at(config.root)
    for split, files in list_splits(config).items():
        texts = _transcripts(root, split, files)
        spoken = {name.removesuffix(".flac") for name in files if name.endswith(".flac")}
        for stem in sorted(spoken | set(texts)):
            audio = f"{root.uri}/{split}/{stem}.flac"
            speaker, utt_id = stem.partition("/")[0], stem.rpartition("/")[2]
            if stem in texts:
                yield Utterance(utt_id, split, audio, 0.0, TO_THE_END, speaker, texts[stem])
            else:
                yield Reject(utt_id, audio, "no transcript: no .trans.txt names it")


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


ADAPTER = RecordedAdapter(
    section=LibrispeechCorpus,
    entries=read_librispeech,
    contents=list_splits,
    path_keys=("root",),
)
