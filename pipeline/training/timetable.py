"""Which batches each epoch of a training has, and how many steps its phases have."""

from collections.abc import Sequence

from pipeline.config import Training
from pipeline.training.batches import Batch, epoch_batches
from pipeline.training.inputs import Example


class Timetable:
    """The batches of all epochs, over all phases and workers; they come from the seed alone.

    Attributes:
        sizes: how many batches each epoch has.
    """

    def __init__(self, training: Training, examples: Sequence[Example]) -> None:
        self._training = training
        self._seconds = [example.utterance.duration for example in examples]
        num_epochs = sum(phase.epochs for phase in training.phases)
        self.sizes = [len(self.batches(epoch)) for epoch in range(num_epochs)]

    def epochs(self, phase: int) -> range:
        """The epochs of the phase, counted over all phases."""
        phases = self._training.phases
        first = sum(one.epochs for one in phases[:phase])
        return range(first, first + phases[phase].epochs)

    def batches(self, epoch: int) -> list[Batch]:
        """The epoch's batches, over all workers."""
        training = self._training
        return epoch_batches(self._seconds, training.batch_seconds, training.seed, epoch)

    def sampled_steps(self) -> int:
        """The steps of all phases in which tau acts."""
        return sum(
            self.sizes[epoch]
            for index, phase in enumerate(self._training.phases)
            if phase.quantizer == "sampled"
            for epoch in self.epochs(index)
        )
