"""A language model of speech: of units, de-duplicated or not, or of their subwords.

Lakhotia et al., "On Generative Spoken Language Modeling from Raw Audio", 2021, with another
transformer. Of a sequence of units it knows the probability of one way to cut it into subwords, the
one that `Subwords.encode` finds: a lower bound of its own.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pipeline.lm.causal_lm import CausalLm
from pipeline.metrics.units import units_in_range
from pipeline.units.subwords import UNKNOWN, Subwords

DESCRIPTION = "unit_lm.json"
SUBWORDS = "subwords"


class UnitLm:
    """A causal language model and its subwords.

    Attributes:
        num_units: of the codebook.
        tokenizer: the digest of the tokenizer whose units these are, if it is known.
        units_per_second: frames a second.
        symbols_per_second: subwords a second, in the training split.
    """

    def __init__(
        self,
        model: CausalLm,
        subwords: Subwords,
        *,
        num_units: int,
        tokenizer: str | None,
        units_per_second: float,
        symbols_per_second: float,
    ) -> None:
        self.model, self.subwords = model, subwords
        self.num_units, self.tokenizer = num_units, tokenizer
        self.units_per_second = units_per_second
        self.symbols_per_second = symbols_per_second

    def encode(self, units: ArrayLike) -> NDArray[np.int64]:
        """The subwords of an utterance's units, one for each frame.

        Raises:
            ValueError: a unit is not in the codebook.
        """
        return self.subwords.encode(units_in_range(np.asarray(units), self.num_units))

    @torch.inference_mode()
    def log_probs(self, utterances: Sequence[NDArray[np.int64]]) -> list[float]:
        """Log p of utterances, each given as its subwords, with its end."""
        return [float(log_prob) for log_prob in self.model(utterances).double().sum(1)]

    @torch.inference_mode()
    def go_on(
        self, prompt: ArrayLike, seconds: float, *, temperature: float = 1.0, seed: str = ""
    ) -> NDArray[np.int64]:
        """The prompt's units and those that are drawn to follow, de-duplicated if the model's are.

        The end of an utterance, or about `seconds`, ends them. Probabilities are those of log p /
        `temperature`; the same seed draws the same.

        Raises:
            ValueError: the prompt has no units, or one that is not in the codebook.
        """
        symbols = self.encode(prompt).tolist()
        if not symbols:
            raise ValueError("an utterance without units cannot be continued: leave it out")
        chance = random.Random(seed)  # noqa: S311 - a draw, no secret
        most = len(symbols) + round(seconds * self.symbols_per_second)
        state = self.model.begin(1, self.model.device)
        log_probs_1V, state = self.model.read(torch.tensor([[self.model.edge, *symbols]]), state)
        while len(symbols) < most:
            symbol = self._draw(log_probs_1V[0], temperature, chance)
            if symbol == self.model.edge:
                break
            symbols.append(symbol)
            log_probs_1V, state = self.model.step(torch.tensor([symbol]), state)
        return self.subwords.decode(symbols)

    def _draw(self, log_probs_V: torch.Tensor, temperature: float, chance: random.Random) -> int:
        logits_V = log_probs_V.double().cpu() / temperature
        logits_V[UNKNOWN] = -torch.inf
        below_V = logits_V.softmax(0).cumsum(0)
        drawn = int(torch.searchsorted(below_V, chance.random() * float(below_V[-1]), right=True))
        return min(drawn, len(below_V) - 1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the transformer as transformers does, the subwords, and what units these are."""
        self.model.save_pretrained(folder)
        Path(folder, SUBWORDS).mkdir(exist_ok=True)
        self.subwords.save(Path(folder, SUBWORDS))
        description = {
            "num_units": self.num_units,
            "tokenizer": self.tokenizer,
            "units_per_second": self.units_per_second,
            "symbols_per_second": self.symbols_per_second,
        }
        Path(folder, DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote, in evaluation mode on the CPU.

        Raises:
            ValueError: the folder is not a language model of units.
        """
        description = Path(folder, DESCRIPTION)
        if not description.is_file():
            raise ValueError(
                f"{folder} is not a language model of units: name the `unit_lm` folder of a run"
            )
        return cls(
            CausalLm.from_pretrained(folder),
            Subwords.load(Path(folder, SUBWORDS)),
            **json.loads(description.read_text(encoding="utf-8")),
        )
