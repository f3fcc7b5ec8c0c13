"""The attention decoder: which piece of text comes next, given the encoded frames."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.asr.positions import sinusoids
from pipeline.config import Asr


@dataclass(frozen=True)
class DecoderState:
    """What the decoder keeps of N hypotheses of one utterance.

    `past_NSD` holds, for each layer, the normalised inputs of the S steps so far.
    """

    past_NSD: tuple[Tensor, ...]

    def take(self, rows_N: Tensor) -> "DecoderState":
        return DecoderState(tuple(past[rows_N] for past in self.past_NSD))


class Decoder(nn.Module):
    """A pre-norm Transformer decoder (Vaswani et al., 2017) over `vocabulary_size` ids."""

    def __init__(self, settings: Asr, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        layer = nn.TransformerDecoderLayer(
            settings.dim,
            settings.heads,
            settings.decoder_feedforward_dim or settings.feedforward_dim,
            settings.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.stack = nn.TransformerDecoder(
            layer, settings.decoder_layers, norm=nn.LayerNorm(settings.dim)
        )
        for weight in self.stack.parameters():  # torch copies one layer into the stack
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.output = nn.Linear(settings.dim, vocabulary_size)

    def forward(self, tokens_BS: Tensor, encoded_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        """Logits B x S x V of the token after each of `tokens_BS`.

        `padding_BT` is true where `encoded_BTD` lies after the utterance's end.
        """
        num_steps = tokens_BS.shape[1]
        hidden_BSD = self.stack(
            self.dropout(self._embed(tokens_BS, 0)),
            encoded_BTD,
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(
                num_steps, device=tokens_BS.device, dtype=torch.bool
            ),
            tgt_is_causal=True,
            memory_key_padding_mask=padding_BT,
        )
        logits_BSV: Tensor = self.output(hidden_BSD)
        return logits_BSV

    def begin(self) -> DecoderState:
        """The state of one hypothesis before its first token."""
        weight = self.output.weight
        empty = weight.new_zeros(1, 0, weight.shape[1])
        return DecoderState((empty,) * len(self.stack.layers))

    def step(
        self, tokens_N: Tensor, state: DecoderState, encoded_TD: Tensor
    ) -> tuple[Tensor, DecoderState]:
        """Log-probabilities N x V of what follows each hypothesis' newest token (evaluation only).

        Equals the last column of `forward` over complete hypotheses. All hypotheses belong to one
        utterance, so its frames are read once, by N queries at a time.
        """
        x_N1D = self._embed(tokens_N[:, None], state.past_NSD[0].shape[1])
        memory_1TD = encoded_TD[None]
        pasts = []
        for layer, past_NSD in zip(self.stack.layers, state.past_NSD, strict=True):
            query_N1D = layer.norm1(x_N1D)
            seen_NSD = torch.cat((past_NSD, query_N1D), dim=1)
            pasts.append(seen_NSD)
            x_N1D = x_N1D + _attend(layer.self_attn, query_N1D, seen_NSD)
            query_1ND = layer.norm2(x_N1D).transpose(0, 1)
            read_1ND = _attend(layer.multihead_attn, query_1ND, memory_1TD)
            x_N1D = x_N1D + read_1ND.transpose(0, 1)
            x_N1D = x_N1D + layer.linear2(layer.activation(layer.linear1(layer.norm3(x_N1D))))
        logits_NV = self.output(self.stack.norm(x_N1D[:, 0]))  # type: ignore[misc] # never None
        return logits_NV.float().log_softmax(-1), DecoderState(tuple(pasts))

    def _embed(self, tokens_NS: Tensor, first: int) -> Tensor:
        embedded_NSD: Tensor = self.embedding(tokens_NS)
        _, num_steps, dim = embedded_NSD.shape
        return embedded_NSD + sinusoids(num_steps, dim, tokens_NS.device, first)


def _attend(attention: nn.MultiheadAttention, query: Tensor, memory: Tensor) -> Tensor:
    attended: Tensor = attention(query, memory, memory, need_weights=False)[0]
    return attended
