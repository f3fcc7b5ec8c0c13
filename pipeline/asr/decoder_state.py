"""What the decoder keeps between two steps: keys and values, and which of them a text may read."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Dead branches are cleared away when the tree has grown by this many steps.
STEPS_BETWEEN_CLEARINGS = 8


@dataclass(frozen=True)
class KeysAndValues:
    """What attention reads of M frames or tokens, each B x H heads x M x d."""

    keys_BHMd: Tensor
    values_BHMd: Tensor

    def grown(self, other: "KeysAndValues") -> "KeysAndValues":
        return KeysAndValues(
            torch.cat((self.keys_BHMd, other.keys_BHMd), dim=2),
            torch.cat((self.values_BHMd, other.values_BHMd), dim=2),
        )

    def keep(self, utterances_U: Tensor) -> "KeysAndValues":
        """Those of some of the utterances."""
        return KeysAndValues(self.keys_BHMd[utterances_U], self.values_BHMd[utterances_U])

    def at(self, places_BP: Tensor) -> "KeysAndValues":
        """P of the M places in each utterance."""
        utterances_B1 = torch.arange(len(places_BP), device=places_BP.device)[:, None]
        # Heads go behind the places when both are indexed.
        return KeysAndValues(
            self.keys_BHMd.transpose(1, 2)[utterances_B1, places_BP].transpose(1, 2),
            self.values_BHMd.transpose(1, 2)[utterances_B1, places_BP].transpose(1, 2),
        )


@dataclass(frozen=True)
class DecoderState:
    """N texts in each of B utterances, all of `num_steps` tokens, as one tree of prefixes.

    A token's keys and values stay where they are when texts branch and change places; only
    `ancestors_BNM` does, which says which of the tree's M tokens each text consists of.

    Attributes:
        frames: what cross-attention reads, for each layer.
        heard_B11T: whether a frame lies before its utterance's end.
        tokens: what self-attention reads, for each layer.
        num_cleared: the tokens that were left when dead branches were last cleared away.
    """

    num_steps: int
    frames: tuple[KeysAndValues, ...]
    heard_B11T: Tensor
    tokens: tuple[KeysAndValues, ...]
    ancestors_BNM: Tensor
    num_cleared: int = 0

    @property
    def num_texts(self) -> int:
        return self.ancestors_BNM.shape[1]

    def with_newest(self) -> Tensor:
        """`ancestors_BNM` once each text has one more token of its own."""
        num_utterances, num_texts, _ = self.ancestors_BNM.shape
        own_NN = torch.eye(num_texts, dtype=torch.bool, device=self.ancestors_BNM.device)
        own_BNN = own_NN.expand(num_utterances, -1, -1)
        return torch.cat((self.ancestors_BNM, own_BNN), dim=2)

    def choose(self, rows_BN: Tensor) -> "DecoderState":
        """Of each utterance the texts at `rows_BN`, some perhaps several times."""
        utterances_B1 = torch.arange(len(rows_BN), device=rows_BN.device)[:, None]
        chosen = replace(self, ancestors_BNM=self.ancestors_BNM[utterances_B1, rows_BN])
        num_new = self.ancestors_BNM.shape[2] - self.num_cleared
        due = num_new >= STEPS_BETWEEN_CLEARINGS * rows_BN.shape[1]
        return chosen.cleared() if due else chosen

    def cleared(self) -> "DecoderState":
        """The same without tokens that belong to no text."""
        alive_BM = self.ancestors_BNM.any(dim=1)
        num_places = int(alive_BM.sum(dim=1).max())
        places_BP = alive_BM.byte().argsort(dim=1, descending=True, stable=True)[:, :num_places]
        places_BNP = places_BP[:, None].expand(-1, self.ancestors_BNM.shape[1], -1)
        return replace(
            self,
            tokens=tuple(layer.at(places_BP) for layer in self.tokens),
            ancestors_BNM=self.ancestors_BNM.gather(2, places_BNP),
            num_cleared=num_places,
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
