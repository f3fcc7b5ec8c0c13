"""`train-text-lm`: a neural language model of an ASR model's pieces of text, for the search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console

from pipeline.asr.text_pieces import TextPieceError, TextPieces
from pipeline.commands.find_model import load_model
from pipeline.commands.text_sources import sentences_of
from pipeline.config import ConfigError
from pipeline.config import TextLm as TextLmSettings
from pipeline.lm.text_lm import TextLm
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder, printable
from pipeline.storage.writable import require_writable
from pipeline.training.causal_lm import CausalLmTraining
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.worker import Worker

# Without texts to validate on, one sentence in so many is held out.
HELD_OUT = 20


@dataclass(frozen=True)
class Texts:
    """What to train on, as `sentences_of` takes it, and what chooses the epoch.

    Without texts in `valid`, that is every twentieth sentence of the others, which is not trained on.
    """

    train: Sequence[str]
    split: str
    valid: Sequence[str]
    valid_split: str

    def encoded(self, pieces: TextPieces) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The sentences of both as ids of pieces."""
        sentences = _encoded(sentences_of(self.train, self.split), pieces)
        if self.valid:
            return sentences, _encoded(sentences_of(self.valid, self.valid_split), pieces)
        kept = [each for place, each in enumerate(sentences, start=1) if place % HELD_OUT]
        return kept, sentences[HELD_OUT - 1 :: HELD_OUT] or kept


def train_text_lm(
    texts: Texts, output: str, model: str, settings: TextLmSettings, console: Console
) -> None:
    """Train in this process, and write the folder `output` with the weights of the best epoch.

    Args:
        texts: to train on.
        output: the folder.
        model: an output of train_joint, whose pieces of text the model is of.
        settings: of the transformer and its training.
        console: where each epoch is told.

    Raises:
        ConfigError: there is no such model, or a text cannot be read or written in its pieces.
        UnwritableError: the output cannot be written, which is found before any work.
    """
    require_writable(output)
    pieces = load_model(f"{model.rstrip('/')}/asr", "asr", TextPieces.load)
    sentences, held_out = texts.encoded(pieces)
    torch.manual_seed(settings.training.seed)
    text_lm = TextLm.build(settings.transformer, pieces)
    worker = Worker(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with TemporaryDirectory() as scratch:
        scores = CausalLmTraining(
            settings.training,
            text_lm.model,
            sentences,
            held_out,
            worker,
            store=CheckpointStore(Artifact(scratch), worker.device),
            history=History(settings.training.epochs, _Told(console)),
        ).run()
    text_lm.model.cpu()
    parent, name = Folder.around(output)
    with Artifact(parent.uri).write_folder(name) as local:
        text_lm.save_pretrained(local)
    perplexity = math.exp(scores["valid.loss"])
    line = f"{len(sentences)} sentences, perplexity of a piece {perplexity:.2f}, written to "
    console.print(line + printable(output), markup=False, highlight=False, soft_wrap=True)


def _encoded(sentences: Sequence[str], pieces: TextPieces) -> list[np.ndarray]:
    try:
        return [np.asarray(pieces.encode(sentence), dtype=np.int64) for sentence in sentences]
    except TextPieceError as error:
        raise ConfigError(str(error)) from None


class _Told:
    """Each epoch's loss on the console, of all that a training logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def metrics(self, values: Mapping[str, float], step: int) -> None:  # noqa: ARG002
        if "valid.loss" in values:
            self._console.print(f"validation loss {values['valid.loss']:.4f}", highlight=False)

    def flush(self) -> None:
        pass
