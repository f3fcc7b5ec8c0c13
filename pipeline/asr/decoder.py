"""The attention decoder: which piece of text comes next, given the encoded frames."""

import torch
from torch import Tensor, nn

from pipeline.asr.decoder_state import DecoderState, KeysAndValues
from pipeline.asr.encoded import Encoded
from pipeline.asr.positions import sinusoids
from pipeline.config import Asr

# Of the three maps in the weights of torch's attention: from which one to which.
QUERY, KEYS_AND_VALUES = (0, 1), (1, 3)


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

    def begin(self, encoded: Encoded) -> DecoderState:
        """The state of one text in each utterance, before its first token.

        What cross-attention reads of the frames is computed here, once for the whole search.
        """
        layers, frames_BTD, padding_BT = self.stack.layers, encoded.frames_BTD, encoded.padding
        frames = tuple(
            KeysAndValues(
                *_mapped(layer.multihead_attn, frames_BTD, KEYS_AND_VALUES).chunk(2, dim=-1)
            )
            for layer in layers
        )
        shape = (len(frames_BTD), 1, frames_BTD.shape[2])
        tokens = tuple(
            KeysAndValues(frames_BTD.new_empty(shape), frames_BTD.new_empty(shape)) for _ in layers
        )
        return DecoderState(0, frames, ~padding_BT[:, None, None], tokens, padding_BT[:, None, :0])

    def step(self, tokens_BN: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Log-probabilities B x N x V of what follows each text's newest token (evaluation only).

        Equals the last column of `forward` over complete texts. `state` is used up.
        """
        x_BND = self._embed(tokens_BN[..., None], state.num_steps)[..., 0, :]
        after = state.with_newest()
        mask_B1NM = after.ancestors_BNM[:, None]
        for layer, tokens, frames in zip(
            self.stack.layers, state.tokens, state.frames, strict=True
        ):
            query_BND, *own = _mapped(layer.self_attn, layer.norm1(x_BND)).chunk(3, dim=-1)
            tokens.write(state.num_tokens, KeysAndValues(*own))
            seen = tokens.first(after.num_tokens)
            x_BND = x_BND + _attend(layer.self_attn, query_BND, seen, mask_B1NM)
            query_BND = _mapped(layer.multihead_attn, layer.norm2(x_BND), QUERY)
            x_BND = x_BND + _attend(layer.multihead_attn, query_BND, frames, state.heard_B11T)
            x_BND = x_BND + layer.linear2(layer.activation(layer.linear1(layer.norm3(x_BND))))
        logits_BNV = self.output(self.stack.norm(x_BND))  # type: ignore[misc] # never None
        return logits_BNV.float().log_softmax(-1), after

    def _embed(self, tokens: Tensor, first: int) -> Tensor:
        """... x S tokens, of which the first is token number `first` of its text."""
        embedded: Tensor = self.embedding(tokens)
        num_steps, dim = embedded.shape[-2:]
        return embedded + sinusoids(num_steps, dim, tokens.device, first)


def _attend(
    attention: nn.MultiheadAttention, query_BND: Tensor, memory: KeysAndValues, mask: Tensor
) -> Tensor:
    """`attention` over `memory` where `mask` (B x 1 x N or 1 x M) is true."""
    query_BHNd, keys_BHMd, values_BHMd = (
        each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for each in (query_BND, memory.keys_BMD, memory.values_BMD)
    )
    attended_BHNd = nn.functional.scaled_dot_product_attention(
        query_BHNd, keys_BHMd, values_BHMd, attn_mask=mask
    )
    attended_BND: Tensor = attention.out_proj(attended_BHNd.transpose(1, 2).flatten(2))
    return attended_BND


def _mapped(
    attention: nn.MultiheadAttention, read_BMD: Tensor, maps: tuple[int, int] = (0, 3)
) -> Tensor:
    """Those of the three maps that attention begins with, one beside the other."""
    rows = slice(*(place * attention.embed_dim for place in maps))
    return nn.functional.linear(
        read_BMD, attention.in_proj_weight[rows], attention.in_proj_bias[rows]
    )
