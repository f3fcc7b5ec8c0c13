"""A causal transformer over integers, whatever they stand for.

Every sequence begins and ends with one symbol, its *edge*: p(s) = prod_n p(s_n | edge, s_1 … s_{n-1}),
where s_{N+1} is the edge too. So a sequence's probability counts where it ends, and those of all
sequences add up to one.

Shapes: B sequences, N symbols, V symbols of the vocabulary, the edge included.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.cache_utils import DynamicCache

from pipeline.config import CausalTransformer
from pipeline.features.ssl import no_progress_bars

# Marks what is read or wanted behind a sequence's end.
IGNORED = -100


@dataclass(frozen=True)
class LmState:
    """Keys and values of what the model has read of B sequences, which grow together."""

    cache: DynamicCache

    def take(self, rows_B: Tensor) -> "LmState":
        """The state of the sequences at `rows_B`, which may leave some out and repeat others."""
        cache = _copied(self.cache)
        cache.batch_select_indices(rows_B)
        return LmState(cache)


class CausalLm(nn.Module):
    """GPT-NeoX (Black et al., 2022) of transformers, its layers one after the other.

    Its positions are rotary (Su et al., 2021), so no length is too long to be read. It differs from
    transformers' Llama in having dropout, which a small corpus needs. Where the edge is SENTENCE_EDGE,
    it is a `TextScorer` of the beam search.
    """

    def __init__(self, network: GPTNeoXForCausalLM) -> None:
        super().__init__()
        self.network = network
        self.edge = cast("int", network.config.bos_token_id)

    @classmethod
    def build(cls, settings: CausalTransformer, vocabulary_size: int, edge: int) -> Self:
        """A new model of `vocabulary_size` symbols, of which `edge` begins and ends sequences.

        Random weights come from torch's global generator.
        """
        config = GPTNeoXConfig(
            vocab_size=vocabulary_size,
            hidden_size=settings.dim,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.feedforward_dim,
            hidden_dropout=settings.dropout,
            attention_dropout=settings.dropout,
            use_parallel_residual=False,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 1.0,
            },
            bos_token_id=edge,
            eos_token_id=edge,
        )
        return cls(GPTNeoXForCausalLM(config))

    @property
    def vocabulary_size(self) -> int:
        return int(self.network.config.vocab_size)

    @property
    def device(self) -> torch.device:
        return self.network.device

    def forward(self, sequences: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
        """The log-probability of each sequence's symbols and of its end, B x (N + 1), float32.

        It is 0 behind a sequence's end. Sequences hold no edges of their own, and may be empty.

        Raises:
            ValueError: a symbol lies outside the vocabulary.
        """
        read_BN, wanted_BN = self._with_edges(sequences)
        logits_BNV = self.network(input_ids=read_BN, use_cache=False).logits
        losses_BVN = nn.functional.cross_entropy(
            logits_BNV.float().transpose(1, 2), wanted_BN, ignore_index=IGNORED, reduction="none"
        )
        return -losses_BVN

    def begin(self, num_sequences: int, device: torch.device) -> LmState:  # noqa: ARG002
        """The state of so many sequences of which nothing was read; the model stays where it is."""
        return LmState(DynamicCache(config=self.network.config))

    def step(self, symbols_B: Tensor, state: LmState) -> tuple[Tensor, LmState]:
        """Read one more symbol of each sequence, which is the edge at first and never again.

        Returns:
            log p of each symbol as the next, and of the edge as the end, B x V in float32, and the new
            state; `state` stays as it is. What was read before is not read again.
        """
        return self.read(symbols_B[:, None], state)

    def read(self, symbols_BN: Tensor, state: LmState) -> tuple[Tensor, LmState]:
        """Read N more symbols of each sequence at once; returns what N calls of `step` end with."""
        cache = _copied(state.cache)
        output = self.network(input_ids=symbols_BN, past_key_values=cache, use_cache=True)
        return output.logits[:, -1].float().log_softmax(-1), LmState(cache)

    def _with_edges(self, sequences: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """What the model reads, and what it should say to each symbol of it; B x (N + 1) both."""
        rows = [torch.as_tensor(np.asarray(row, dtype=np.int64)) for row in sequences]
        symbols = torch.cat(rows)
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < self.vocabulary_size:
            raise ValueError(
                f"symbols must lie between 0 and {self.vocabulary_size - 1}, got {symbols.min()} to "
                f"{symbols.max()}: was the language model trained on others?"
            )
        edge_1 = torch.tensor([self.edge])
        read_BN = pad_sequence([torch.cat([edge_1, row]) for row in rows], batch_first=True)
        wanted_BN = pad_sequence(
            [torch.cat([row, edge_1]) for row in rows], batch_first=True, padding_value=IGNORED
        )
        return read_BN.to(self.device), wanted_BN.to(self.device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, which transformers' own classes read too."""
        with no_progress_bars():
            self.network.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote, in evaluation mode on the CPU."""
        with no_progress_bars():
            network = GPTNeoXForCausalLM.from_pretrained(folder, local_files_only=True)
        return cls(network).eval()


def _copied(cache: DynamicCache) -> DynamicCache:
    """A cache that may grow without the other one; what both hold is there once."""
    twin = copy(cache)
    twin.layers = [copy(layer) for layer in cache.layers]
    return twin
