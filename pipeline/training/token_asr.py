"""An ASR model alone, and the stored units that it learns from."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.asr.model import AsrModel
from pipeline.asr.subsampling import fits
from pipeline.training.inputs import Example, Inputs
from pipeline.training.learner import Learner
from pipeline.units.subwords import Subwords


class TokenLearner(Learner):
    """The ASR model, which reads subwords of units through its table of embeddings."""

    def __init__(self, asr: AsrModel) -> None:
        super().__init__()
        self.asr = asr

    def forward(self, inputs: Inputs, tau: float, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        if inputs.subwords_BT is None:
            raise ValueError("a model of stored tokens reads subwords: load them by UnitSource")
        return self.asr.losses(self.asr.embed(inputs.subwords_BT), inputs.lengths_B, inputs.targets)


class UnitSource:
    """The units of utterances as subwords, which are drawn anew in each epoch of training.

    What is drawn comes from the seed, the epoch and the utterance's id alone. Where it is too short
    for CTC to align the text, the best segmentation takes its place; `targets` fit that.
    """

    def __init__(
        self,
        units: Mapping[str, np.ndarray],
        subwords: Subwords,
        subsampling: int,
        seed: int,
    ) -> None:
        self._units = units
        self._subwords = subwords
        self._subsampling = subsampling
        self._seed = seed

    def load(self, examples: Sequence[Example], epoch: int | None = None) -> Inputs:
        """Pad the subwords of `examples`."""
        rows = [torch.from_numpy(self._encode(example, epoch)) for example in examples]
        return Inputs(
            torch.tensor([len(row) for row in rows]),
            [list(example.target) for example in examples],
            subwords_BT=nn.utils.rnn.pad_sequence(rows, batch_first=True),
        )

    def _encode(self, example: Example, epoch: int | None) -> np.ndarray:
        units = self._units[example.utterance.utt_id]
        if epoch is not None:
            drawn = self._subwords.encode(units, self._draw(example.utterance.utt_id, epoch))
            if fits(len(drawn), example.target, self._subsampling):
                return drawn
        return self._subwords.encode(units)

    def _draw(self, utt_id: str, epoch: int) -> int:
        """31 bits that depend on the seed, the epoch and the utterance."""
        text = f"subwords/{self._seed}/{epoch}/{utt_id}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
