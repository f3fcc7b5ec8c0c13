"""Texts of utterances, shard by shard: the work of each worker that decodes a test split."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch

from pipeline.asr.evaluation import Reader, Transcriber
from pipeline.asr.model import AsrModel, ScoredText
from pipeline.asr.scorer import Weighted
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.utterance import Utterance
from pipeline.config import AsrEvaluation
from pipeline.storage.artifacts import Artifact


class ShardTranscriber:
    """Loads an ASR model once, then decodes shard after shard of utterances.

    May be called from several threads, which take turns.

    Args:
        trained: the output that holds the model.
        open_reader: gives what reads the model's inputs, on a device.
        open_scorers: gives the language models of the search, for the pieces that the model writes, on a
            device.
        settings: those of the search.
    """

    def __init__(
        self,
        trained: Artifact,
        open_reader: Callable[[torch.device], Reader],
        open_scorers: Callable[[TextPieces, torch.device], Sequence[Weighted]],
        settings: AsrEvaluation,
    ) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with trained.read_folder("asr") as folder:
            model = AsrModel.from_pretrained(folder).to(device)
        scorers = open_scorers(model.text_pieces, device)
        self._transcribe = Transcriber(model, open_reader(device), settings, scorers)
        self._turn = Lock()

    def __call__(
        self,
        name: str,  # noqa: ARG002 - nothing is written
        utterances: Sequence[Utterance],
        report: Callable[[int], None] = lambda _done: None,
    ) -> dict[str, Any]:
        """By utt_id the greedy text, and the n best ones with their scores (JSON).

        `report` gets the number of utterances done so far.
        """
        with self._turn:
            found = self._transcribe(utterances, report)
        texts = zip(utterances, found.greedy, found.beam, strict=True)
        return {utterance.utt_id: (greedy, beam) for utterance, greedy, beam in texts}


def texts_of(
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[str, list[ScoredText]]]:
    """What the workers returned of all shards, by utt_id."""
    return {
        utt_id: (greedy, [ScoredText(*each) for each in beam])
        for shard in shards
        for utt_id, (greedy, beam) in shard.items()
    }
