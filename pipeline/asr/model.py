"""The ASR model: units or features in; CTC and attention losses, or text, out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.asr.decoder import Decoder
from pipeline.asr.encoded import Encoded
from pipeline.asr.encoder import Encoder, padding_mask
from pipeline.asr.masking import TimeMasking, WidthMasking
from pipeline.asr.scorer import Weighted
from pipeline.asr.search import beam_search, greedy_search, pieces_of_frames
from pipeline.asr.text_pieces import BLANK, SENTENCE_EDGE, TextPieces
from pipeline.config import Asr, AsrEvaluation

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

# Marks the positions of a padded target that no loss counts.
IGNORED = -100


class ScoredText(NamedTuple):
    """A text, and its score in the beam search: a weighted log-probability."""

    text: str
    score: float | None


class AsrModel(nn.Module):
    """Joint CTC and attention ASR (Watanabe et al., 2017) over discrete units or features.

    Exactly one of `num_units` (it reads units, through a table of its own) and `input_dim` (it
    reads continuous features) is given. Random weights come from torch's global generator.
    """

    def __init__(
        self, settings: Asr, num_units: int | None, input_dim: int | None, text_pieces: TextPieces
    ) -> None:
        super().__init__()
        self.settings = settings
        self.num_units = num_units
        self.input_dim = input_dim
        self.text_pieces = text_pieces
        width = settings.embedding_dim
        if num_units is not None and input_dim is None:
            self.unit_embedding = nn.Embedding(num_units, width)
            nn.init.normal_(self.unit_embedding.weight, std=width**-0.5)
        elif input_dim is not None and num_units is None:
            self.input_norm = nn.LayerNorm(input_dim)
            self.projection = nn.Linear(input_dim, width)
        else:
            raise ValueError("an ASR model reads units or features: give num_units or input_dim")
        self.time_masking = TimeMasking(
            settings.time_masking.masks, settings.time_masking.max_share
        )
        self.width_masking = WidthMasking(
            settings.width_masking.masks, settings.width_masking.max_share
        )
        self.encoder = Encoder(settings)
        self.ctc_head = nn.Linear(settings.dim, len(text_pieces))
        self.decoder = Decoder(settings, len(text_pieces))

    @property
    def device(self) -> torch.device:
        return self.ctc_head.weight.device

    def embed(self, inputs: Tensor) -> Tensor:
        """Units B x T (integers) or features B x T x D to embedded frames B x T x E.

        In place of units there may be mixtures of them, B x T x K: a mixture is embedded as the mean of
        the units' embeddings, weighted by it.
        """
        if self.num_units is None:
            embedded_BTE: Tensor = self.projection(self.input_norm(inputs))
        elif inputs.is_floating_point():
            embedded_BTE = inputs @ self.unit_embedding.weight
        else:
            embedded_BTE = self.unit_embedding(inputs)
        return embedded_BTE

    def encode(self, embedded_BTE: Tensor, num_frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded frames B x T' x D and their numbers B, where `num_frames_B` is; masks some in training."""
        masked_BTE = self.width_masking(self.time_masking(embedded_BTE, num_frames_B))
        encoded: tuple[Tensor, Tensor] = self.encoder(masked_BTE, num_frames_B)
        return encoded

    def ctc_log_probs(self, encoded_BTD: Tensor) -> Tensor:
        """Log-probabilities B x T' x V in float32, also under autocast."""
        with torch.autocast(encoded_BTD.device.type, enabled=False):
            logits_BTV: Tensor = self.ctc_head(encoded_BTD.float())
            return logits_BTV.log_softmax(-1)

    def losses(
        self, embedded_BTE: Tensor, num_frames_B: Tensor, targets: Sequence[Sequence[int]]
    ) -> dict[str, Tensor]:
        """The two losses as sums over the batch, in float32; in evaluation mode the pieces too.

        `ctc`: -log p(target) summed over utterances, zero for one that does not fit.
        `attention`: label-smoothed cross entropy summed over tokens, each sentence's end
        included. `targets` are ids of pieces, without sentence edges.
        `frame_pieces_BT`: the likeliest CTC piece of each encoded frame, blanks behind the last.
        """
        encoded_BTD, lengths_B = self.encode(embedded_BTE, num_frames_B)
        log_probs_BTV = self.ctc_log_probs(encoded_BTD)
        # First the decoder: on a GPU, CTC waits for what was asked for before it.
        attention = self._attention_loss(encoded_BTD, lengths_B, targets)
        outputs = {"ctc": _ctc_loss(log_probs_BTV, lengths_B, targets), "attention": attention}
        if not self.training:
            padding_BT = padding_mask(lengths_B, encoded_BTD)
            outputs["frame_pieces_BT"] = log_probs_BTV.argmax(-1).masked_fill(padding_BT, BLANK)
        return outputs

    def _attention_loss(
        self, encoded_BTD: Tensor, lengths_B: Tensor, targets: Sequence[Sequence[int]]
    ) -> Tensor:
        device = encoded_BTD.device
        read_BS = _padded([[SENTENCE_EDGE, *target] for target in targets], SENTENCE_EDGE, device)
        wanted_BS = _padded([[*target, SENTENCE_EDGE] for target in targets], IGNORED, device)
        padding_BT = padding_mask(lengths_B, encoded_BTD)
        logits_BSV = self.decoder(read_BS, encoded_BTD, padding_BT)
        return nn.functional.cross_entropy(
            logits_BSV.float().flatten(0, 1),
            wanted_BS.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.settings.label_smoothing,
            reduction="sum",
        )

    @torch.no_grad()
    def transcribe(
        self,
        inputs: Sequence[np.ndarray],
        search: AsrEvaluation | None,
        scorers: Sequence[Weighted] = (),
    ) -> list[str]:
        """The text of each utterance, given as units (T), mixtures of units (T x K) or features (T x D).

        `search` has the settings of the joint beam search, in which the language models `scorers`
        take part; `None` takes the likeliest CTC piece of each frame.

        Raises:
            ValueError: the model is in training mode, or an utterance has no frames.
        """
        heard = self.hear(inputs)
        if search is None:
            return self.greedy(heard)
        return [best.text for best, *_ in self.nbest(heard, search, scorers)]

    @torch.no_grad()
    def hear(self, inputs: Sequence[np.ndarray]) -> Encoded:
        """Utterances, given as units (T), mixtures of units (T x K) or features (T x D), encoded.

        Raises:
            ValueError: the model is in training mode, or an utterance has no frames.
        """
        if self.training:
            raise ValueError("a transcript needs a model in evaluation mode: call model.eval()")
        if not all(map(len, inputs)):
            raise ValueError("an utterance without frames has no transcript: leave it out")
        kind = np.int64 if inputs[0].ndim == 1 else np.float32
        rows = [torch.from_numpy(np.asarray(frames, kind)).to(self.device) for frames in inputs]
        num_frames_B = torch.tensor([len(row) for row in rows])
        embedded_BTE = self.embed(nn.utils.rnn.pad_sequence(rows, batch_first=True))
        encoded_BTD, lengths_B = self.encode(embedded_BTE, num_frames_B)
        return Encoded(encoded_BTD, lengths_B.to(self.device), self.ctc_log_probs(encoded_BTD))

    def greedy(self, heard: Encoded) -> list[str]:
        """For each utterance the text of the likeliest CTC piece of each frame."""
        return [self.text_of(pieces) for pieces in greedy_search(heard)]

    @torch.no_grad()
    def nbest(
        self, heard: Encoded, search: AsrEvaluation, scorers: Sequence[Weighted] = ()
    ) -> list[list[ScoredText]]:
        """For each utterance its `search.nbest` best texts, best first, at least one.

        Texts that are spelled alike, with other pieces, are several.
        """
        found = beam_search(heard, self.decoder, search, scorers)
        return [
            [ScoredText(self.text_of(each.pieces), each.score) for each in hypotheses]
            for hypotheses in found
        ]

    def read_frames(self, frame_pieces_BT: Tensor) -> list[str]:
        """The texts that CTC reads in a piece for each frame, such as those from `losses`."""
        return [self.text_of(pieces_of_frames(pieces_T)) for pieces_T in frame_pieces_BT.cpu()]

    def text_of(self, pieces: Sequence[int]) -> str:
        """The text of ids of pieces, without spaces at its ends or two in a row."""
        return " ".join(self.text_pieces.decode(pieces).split())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and the pieces of text into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "asr": self.settings.model_dump(mode="json"),
            "num_units": self.num_units,
            "input_dim": self.input_dim,
        }
        (folder / CONFIG).write_text(json.dumps(description, indent=2), encoding="utf-8")
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        self.text_pieces.save(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "AsrModel":
        """The model that `save_pretrained` wrote, in evaluation mode on the CPU."""
        folder = Path(folder)
        description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model = cls(
            Asr.model_validate(description["asr"]),
            description["num_units"],
            description["input_dim"],
            TextPieces.load(folder),
        )
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model.eval()


def _ctc_loss(log_probs_BTV: Tensor, lengths_B: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    device = log_probs_BTV.device
    return nn.functional.ctc_loss(
        log_probs_BTV.transpose(0, 1),
        _padded(targets, BLANK, device),
        lengths_B,
        torch.tensor([len(target) for target in targets]),
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def _padded(sequences: Sequence[Sequence[int]], filler: int, device: torch.device) -> Tensor:
    longest = max(map(len, sequences))
    rows = [[*sequence, *[filler] * (longest - len(sequence))] for sequence in sequences]
    return torch.tensor(rows, dtype=torch.long).to(device, non_blocking=True)
