"""The joint model: SSL model -> layer mix -> quantizer -> ASR, one forward for all variants.

Shapes: L layers, B utterances, T frames, D features, K units, E embedding.
"""

import torch
from torch import nn

from pipeline.asr.model import AsrModel
from pipeline.config import Config, Phase
from pipeline.features.ssl import SslModel, valid
from pipeline.features.windows import Windowing, hidden_states_in_windows
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.quantizer.unit_quantizer import UnitQuantizer
from pipeline.training.activation_memory import blocks_to_recompute
from pipeline.training.inputs import Inputs
from pipeline.training.learner import Learner, PhaseParameters, trainable
from pipeline.training.optimizer import ssl_rate_shares
from pipeline.training.sharding import gathered
from pipeline.training.worker import Worker
from pipeline.vocoder.mel_decoder import MelDecoder


class JointModel(Learner):
    """What is trained together. `quantizer` is None for the variant on continuous features.

    The SSL model hears long utterances in windows, as extraction and the trained tokenizer do. With a
    `mel_decoder`, which reads the same units by rows of its own, there is a resynthesis loss too.
    """

    def __init__(
        self,
        ssl: SslModel | None,
        layers: tuple[int, ...],
        mix: LayerMix,
        quantizer: UnitQuantizer | None,
        asr: AsrModel,
        *,
        mel_decoder: MelDecoder | None = None,
        windowing: Windowing = Windowing(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        self.ssl = ssl
        self.layers = layers
        self.mix = mix
        self.quantizer = quantizer
        self.asr = asr
        self.mel_decoder = mel_decoder
        self.windowing = windowing

    def forward(self, inputs: Inputs, tau: float, seed: int) -> dict[str, torch.Tensor]:
        """Losses as sums over the batch ("ctc", "attention", "kmeans", perhaps "resynthesis") and
        statistics; in evaluation mode also "frame_pieces_BT" (see `AsrModel.losses`).

        `inputs.waveforms_BS` runs through the SSL model, `inputs.hidden_LBTD` past it. In training
        mode tokens are sampled at temperature `tau` with noise drawn from `seed` and each
        utterance's position in the batch, whichever worker has it; in evaluation mode they are the
        nearest centroids'.
        """
        hidden_LBTD, num_frames_B = self._hidden(inputs)
        mixed_BTD = self.mix(hidden_LBTD)
        if self.quantizer is None:
            embedded_BTE = self.asr.embed(mixed_BTD)
            return self.asr.losses(embedded_BTE, num_frames_B, inputs.targets)
        mask_BT = valid(num_frames_B, mixed_BTD.shape[1])
        quantized = self.quantizer(
            mixed_BTD,
            mask_BT,
            self._unit_rows(),
            tau=tau,
            seed=seed,
            keys_B=inputs.positions or None,
        )
        width = self.asr.settings.embedding_dim
        embedded_BTE, spoken_BTE = quantized.embedded_BTE.tensor_split([width], dim=-1)
        losses = self.asr.losses(embedded_BTE, num_frames_B, inputs.targets)
        resynthesis = self._resynthesis(spoken_BTE, mask_BT, inputs)
        return {**losses, **resynthesis, **quantized.losses, **quantized.stats}

    def _unit_rows(self) -> torch.Tensor:
        """What a unit is embedded as: the ASR model's row, then the decoder's, of one choice."""
        rows_KE = self.asr.unit_embedding.weight
        if self.mel_decoder is None:
            return rows_KE
        return torch.cat([rows_KE, self.mel_decoder.unit_embedding.weight], dim=-1)

    def _resynthesis(
        self, spoken_BTE: torch.Tensor, mask_BT: torch.Tensor, inputs: Inputs
    ) -> dict[str, torch.Tensor]:
        if self.mel_decoder is None:
            return {}
        if inputs.log_mels_BTM is None or inputs.speakers_B is None:
            raise ValueError("a resynthesis loss needs spectra: load inputs by `WithTargets`")
        mask_BT = mask_BT.to(spoken_BTE.device, non_blocking=True)
        loss = self.mel_decoder.loss(spoken_BTE, inputs.speakers_B, mask_BT, inputs.log_mels_BTM)
        return {"resynthesis": loss}

    def _hidden(self, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        if inputs.hidden_LBTD is not None:
            return inputs.hidden_LBTD, inputs.lengths_B
        if self.ssl is None or inputs.waveforms_BS is None:
            raise ValueError("audio needs the SSL model: build the joint model with it")
        return hidden_states_in_windows(
            self.ssl, inputs.waveforms_BS, inputs.lengths_B, self.layers, self.windowing
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = {
            "asr": [*self.asr.parameters(), *_parameters(self.mel_decoder)],
            "layer_weights": list(self.mix.parameters()),
            **(self.quantizer.parameter_groups() if self.quantizer is not None else {}),
            "ssl": _parameters(self.ssl),
        }
        for name, parameters in groups.items():
            groups[name] = [parameter for parameter in parameters if parameter.requires_grad]
        return {name: parameters for name, parameters in groups.items() if parameters}

    def rate_shares(self, phase: Phase) -> dict[nn.Parameter, float]:
        return ssl_rate_shares(self.ssl, phase.ssl_layer_decay) if self.ssl is not None else {}

    def prepare(self, config: Config, worker: Worker) -> None:
        if self.ssl is None:
            return
        if num_blocks := _blocks_to_recompute(self.ssl, config, worker):
            self.ssl.checkpoint_gradients(num_blocks)
        if not config.training.train_front_end:
            self.ssl.freeze_front_end()
        if config.training.remember_front_end:
            self.ssl.remember_front_end(int(config.cluster.cache_gigabytes * 2**30))

    def blocks(self) -> list[nn.Module]:
        return [*super().blocks(), *(self.ssl.parts_by_length() if self.ssl is not None else ())]

    def parts(self) -> list[nn.Module]:
        parts = super().parts()
        if self.ssl is not None:
            # WavLM's first block makes the position bias of all blocks, so it gets gradients until
            # the last of them is done: it stays with the model.
            parts += [block for block in self.ssl.blocks() if not _makes_position_bias(block)]
            parts.append(self.ssl)
        return parts

    def phase_parameters(self) -> PhaseParameters:
        return PhaseParameters(trainable(self.ssl), trainable(self.quantizer), trainable(self.mix))

    def train_in(self, phase: Phase) -> None:
        self.train()
        if self.quantizer is not None and phase.quantizer == "nearest":
            self.quantizer.eval()

    def layer_weights(self) -> dict[int, float]:
        return dict(zip(self.layers, gathered(self.mix.weights_L).tolist(), strict=True))


def _parameters(module: nn.Module | None) -> list[nn.Parameter]:
    return [] if module is None else list(module.parameters())


def _blocks_to_recompute(ssl: SslModel, config: Config, worker: Worker) -> int:
    training = config.training
    if training.gradient_checkpointing == "auto":
        seconds = training.batch_seconds / (worker.world_size * training.accumulate)
        num_parts = worker.world_size if config.cluster.sharding == "fsdp" else 1
        return blocks_to_recompute(ssl, seconds, worker.memory_bytes, num_parts)
    return ssl.num_layers if training.gradient_checkpointing else 0


def _makes_position_bias(block: nn.Module) -> bool:
    return hasattr(getattr(block, "attention", None), "rel_attn_embed")
