"""What the decoder keeps between two steps: keys and values, and which of them a text may read."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# So many steps fit into the memory that is reserved at once; then dead branches are cleared away.
STEPS_BETWEEN_CLEARINGS = 8


@dataclass(frozen=True)
class KeysAndValues:
    """What attention reads of M frames or tokens, all heads side by side."""

    keys_BMD: Tensor
    values_BMD: Tensor

    def first(self, number: int) -> "KeysAndValues":
        return KeysAndValues(self.keys_BMD[:, :number], self.values_BMD[:, :number])

    def write(self, place: int, new: "KeysAndValues") -> None:
        """Put `new` at the places from `place` on."""
        num_places = new.keys_BMD.shape[1]
        self.keys_BMD[:, place : place + num_places] = new.keys_BMD
        self.values_BMD[:, place : place + num_places] = new.values_BMD

    def keep(self, utterances_U: Tensor) -> "KeysAndValues":
        """Those of some of the utterances."""
        # On a CPU several times as fast as indexing.
        return KeysAndValues(
            self.keys_BMD.index_select(0, utterances_U),
            self.values_BMD.index_select(0, utterances_U),
        )

    def moved(self, places_BP: Tensor, num_places: int) -> "KeysAndValues":
        """P of the M places in each utterance, and room for `num_places` in all."""
        utterances_B1 = torch.arange(len(places_BP), device=places_BP.device)[:, None]
        shape = (len(places_BP), num_places, self.keys_BMD.shape[2])
        keys_BMD, values_BMD = self.keys_BMD.new_empty(shape), self.values_BMD.new_empty(shape)
        keys_BMD[:, : places_BP.shape[1]] = self.keys_BMD[utterances_B1, places_BP]
        values_BMD[:, : places_BP.shape[1]] = self.values_BMD[utterances_B1, places_BP]
        return KeysAndValues(keys_BMD, values_BMD)


@dataclass(frozen=True)
class DecoderState:
    """N texts in each of B utterances, all of `num_steps` tokens, as one tree of prefixes.

    A token's keys and values stay where they are when texts branch and change places; only
    `ancestors_BNM` does, which says which of the tree's M tokens each text consists of. Each step
    writes into the memory of the state before it, so a state makes one step.

    Attributes:
        frames: what cross-attention reads, for each layer.
        heard_B11T: whether a frame lies before its utterance's end.
        tokens: what self-attention reads, for each layer, with room for more behind the M tokens.
    """

    num_steps: int
    frames: tuple[KeysAndValues, ...]
    heard_B11T: Tensor
    tokens: tuple[KeysAndValues, ...]
    ancestors_BNM: Tensor

    @property
    def num_texts(self) -> int:
        return self.ancestors_BNM.shape[1]

    @property
    def num_tokens(self) -> int:
        """M of each utterance."""
        return self.ancestors_BNM.shape[2]

    def with_newest(self) -> "DecoderState":
        """Each text with one more token of its own, whose keys and values are still to be written."""
        own_NN = torch.eye(self.num_texts, dtype=torch.bool, device=self.ancestors_BNM.device)
        own_BNN = own_NN.expand(len(self.ancestors_BNM), -1, -1)
        ancestors_BNM = torch.cat((self.ancestors_BNM, own_BNN), dim=2)
        return replace(self, num_steps=self.num_steps + 1, ancestors_BNM=ancestors_BNM)

    def choose(self, rows_BN: Tensor) -> "DecoderState":
        """Of each utterance the texts at `rows_BN`, some perhaps several times."""
        utterances_B1 = torch.arange(len(rows_BN), device=rows_BN.device)[:, None]
        chosen = replace(self, ancestors_BNM=self.ancestors_BNM[utterances_B1, rows_BN])
        room = self.tokens[0].keys_BMD.shape[1] - chosen.num_tokens
        return chosen if room >= chosen.num_texts else chosen.cleared()

    def cleared(self) -> "DecoderState":
        """The same without tokens that belong to no text, and with room for some steps."""
        alive_BM = self.ancestors_BNM.any(dim=1)
        num_alive = int(alive_BM.sum(dim=1).max())
        places_BP = alive_BM.byte().argsort(dim=1, descending=True, stable=True)[:, :num_alive]
        num_places = num_alive + STEPS_BETWEEN_CLEARINGS * self.num_texts
        places_BNP = places_BP[:, None].expand(-1, self.num_texts, -1)
        return replace(
            self,
            tokens=tuple(layer.moved(places_BP, num_places) for layer in self.tokens),
            ancestors_BNM=self.ancestors_BNM.gather(2, places_BNP),
        )

    def keep(self, utterances_U: Tensor) -> "DecoderState":
        """The state of some of the utterances."""
        return replace(
            self,
            frames=tuple(layer.keep(utterances_U) for layer in self.frames),
            heard_B11T=self.heard_B11T[utterances_U],
            tokens=tuple(layer.keep(utterances_U) for layer in self.tokens),
            ancestors_BNM=self.ancestors_BNM[utterances_U],
        )
