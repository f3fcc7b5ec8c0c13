"""What the training loop trains: an ASR model, with or without what it reads from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.asr.model import AsrModel
from pipeline.config import Config, Phase
from pipeline.training.inputs import Inputs
from pipeline.training.worker import Worker


class PhaseParameters(NamedTuple):
    """What a phase trains if it fine-tunes the SSL model, its codebook learns, a gradient passes."""

    ssl: Sequence[nn.Parameter] = ()
    codebook: Sequence[nn.Parameter] = ()
    layer_weights: Sequence[nn.Parameter] = ()

    def switch(self, phase: Phase) -> None:
        """Let those learn that `phase` trains."""
        for parameter in self.ssl:
            parameter.requires_grad_(phase.ssl == "finetuned")
        passes = phase.quantizer == "sampled"
        for parameter in self.codebook:
            parameter.requires_grad_(passes and phase.codebook == "learned")
        for parameter in self.layer_weights:
            parameter.requires_grad_(passes)


class Learner(nn.Module, ABC):
    """A model that returns the losses of a batch; `asr` writes the texts.

    What is not abstract here suits one that is the ASR model alone.
    """

    asr: AsrModel

    @abstractmethod
    def forward(self, inputs: Inputs, tau: float, seed: int) -> dict[str, Tensor]:
        """Losses as sums over the batch ("ctc", "attention", perhaps others of `Objective.names`).

        In evaluation mode also "frame_pieces_BT" (see `AsrModel.losses`), and "counts_K", how often
        each unit occurs, where units are chosen. `tau` and `seed` are for models that sample.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by the name of their learning rate."""
        return {"asr": [p for p in self.asr.parameters() if p.requires_grad]}

    def rate_shares(self, phase: Phase) -> dict[nn.Parameter, float]:  # noqa: ARG002
        """Of parameters that learn at a share of their group's rate, that share."""
        return {}

    def prepare(self, config: Config, worker: Worker) -> None:
        """Arrange for training, before the model is moved to the worker or cut into parts."""

    def blocks(self) -> list[nn.Module]:
        """The modules that are worth compiling."""
        return self._asr_layers()

    def parts(self) -> list[nn.Module]:
        """The modules that a sharded model gathers separately, inner ones first."""
        return self._asr_layers()

    def _asr_layers(self) -> list[nn.Module]:
        return [*self.asr.encoder.layers, *self.asr.decoder.stack.layers]

    def phase_parameters(self) -> PhaseParameters:
        """What phases switch on and off, of the model as it is prepared."""
        return PhaseParameters()

    def train_in(self, phase: Phase) -> None:  # noqa: ARG002
        """Training mode, as `phase` wants it."""
        self.train()

    def layer_weights(self) -> dict[int, float]:
        """The weight of each SSL layer; all workers must call."""
        return {}


def trainable(module: nn.Module | None) -> list[nn.Parameter]:
    """The parameters of `module` that learn; none if there is no module."""
    parameters = module.parameters() if module is not None else ()
    return [parameter for parameter in parameters if parameter.requires_grad]
