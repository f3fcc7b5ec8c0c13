"""The joint training: phases of epochs of steps, each step a function of the state before it.

Everything random in a step is drawn from a seed made of the run's seed and the step: the noise of
tokens with each utterance's position in the batch, so that any number of workers draws the same,
and dropout and time masks with the rank. The order of batches comes from the seed and the epoch.
So a checkpoint needs no random state, and a resumed run repeats the uninterrupted one.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from pipeline.config import Config
from pipeline.features.compiled import compile_blocks
from pipeline.training import schedule
from pipeline.training.batches import Batch
from pipeline.training.checkpoint_store import BestEpochs, CheckpointStore
from pipeline.training.choices import MEASURES
from pipeline.training.compilation import compiles
from pipeline.training.early_stop import EarlyStop
from pipeline.training.history import History
from pipeline.training.inputs import TrainingData
from pipeline.training.learner import Learner
from pipeline.training.loading import Micro
from pipeline.training.measures import Measured, StepMeasures
from pipeline.training.moving_average import MovingAverage
from pipeline.training.phase_run import PhaseRun
from pipeline.training.sharding import gathered, load_optimizer, load_weights, shard
from pipeline.training.step_costs import StepCosts
from pipeline.training.timetable import Timetable
from pipeline.training.worker import Worker

# What epochs are compared by, among the values of `PhaseRun.validate`, by `training.select`: where
# the first is equal, the second. The k-means term is no part of it: it may rise while the ASR gets
# better.
SELECTED_BY = {"loss": ("asr_loss", "wer"), "wer": ("wer", "asr_loss")}


@dataclass
class Position:
    """How far the training is: `epoch` counts over all phases, `batch` within the epoch.

    `sampled_steps` are the steps of phases in which tau acts.
    """

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sampled_steps: int = 0
    seconds: float = 0.0


class JointTraining:
    """One run of joint training on one worker among several.

    `model` is taken over: it moves to the worker's device, or the worker's part of it does.
    """

    def __init__(
        self,
        config: Config,
        model: Learner,
        data: TrainingData,
        worker: Worker,
        *,
        store: CheckpointStore,
        history: History,
    ) -> None:
        self.config = config
        self.model = model
        self.data = data
        self.worker = worker
        self.store = store
        self.history = history
        self._timetable = Timetable(config.training, data.train)
        self._sampled_steps = self._timetable.sampled_steps()
        self.costs = StepCosts()
        self.position = Position()
        self._measures = StepMeasures(worker, history)
        self.best = BestEpochs(config.training.average_best)
        self._early_stop = EarlyStop(config.training.patience)
        self._saved_optimizer: dict[str, Any] | None = None
        saved_average = self._resume()
        model.prepare(config, worker)
        if compiles(config, data.train, worker):
            compile_blocks(model.blocks(), fixed_lengths=False)
        if worker.world_size > 1 and config.cluster.sharding == "fsdp":
            shard(model, worker)
        model.to(worker.device)
        self._of_phases = model.phase_parameters()
        self._average = MovingAverage(model, config.training.ema_decay)
        self._average.load(saved_average)

    def run(self) -> dict[str, float]:
        """Train what is left; afterwards `model` holds the chosen weights. Returns scores."""
        while self.position.phase < len(self.config.training.phases):
            self._start_phase(self.position.phase)
            while self.position.epoch < self.phase.epochs.stop:
                self._train_epoch()
                self._finish_epoch()
            self.position.phase += 1
            self._early_stop.begin_phase()
        return self._choose_weights()

    def weights(self) -> dict[str, Tensor]:
        """The model's complete tensors, for the leading worker; all workers must call."""
        weights: dict[str, Tensor] = gathered(self.model.state_dict(), kept=self.worker.leads)
        return weights

    def _start_phase(self, index: int) -> None:
        self.phase = PhaseRun(
            self.config,
            index,
            self.model,
            self.data,
            self.worker,
            timetable=self._timetable,
            switched=self._of_phases,
        )
        if self._saved_optimizer is not None:
            load_optimizer(self.phase.optimizer, self._saved_optimizer)
            self._saved_optimizer = None

    def _train_epoch(self) -> None:
        """Steps until the epoch's batches are used up, from the current position."""
        self.model.train_in(self.phase.phase)
        epoch = self.position.epoch
        batches = self._timetable.batches(epoch)[self.position.batch :]
        started = time.perf_counter()
        for batch, micros in self.phase.read(epoch, batches):
            waited = time.perf_counter() - started
            self._step(batch, micros)
            if self._logs or self._saves or self._ends_epoch:
                self._measures.read(self.phase.objective)
            seconds = time.perf_counter() - started
            self.position.seconds += seconds
            audio_seconds = sum(self.data.train[i].utterance.duration for i in batch.indices)
            self.costs.step(audio_seconds, seconds, waited)
            self._log_and_save()
            started = time.perf_counter()

    def _step(self, batch: Batch, micros: list[Micro]) -> None:
        """One update from all workers' shares of `batch`. Nothing waits for the device."""
        position, phase = self.position, self.phase
        tau = schedule.tau(self.config.quantizer, position.sampled_steps, self._sampled_steps)
        rate_share = phase.set_rates(position.epoch, position.batch)
        losses, choices = phase.add_gradients(batch, micros, tau, position.step)
        norm = phase.descend()
        self._average.update(position.step)
        values = {"tau": tau, "rate_share": rate_share}
        self._measures.add(Measured(position.step, losses, choices, norm, values))
        position.step += 1
        position.sampled_steps += phase.phase.quantizer == "sampled"
        position.batch += 1

    @property
    def _ends_epoch(self) -> bool:
        return self.position.batch == self._timetable.sizes[self.position.epoch]

    @property
    def _logs(self) -> bool:
        return self.position.step % self.config.training.log_steps == 0

    @property
    def _saves(self) -> bool:
        """Whether a checkpoint within the epoch is due.

        The end of an epoch saves by itself: a step is saved once, so that nothing ever stands in
        for a checkpoint that is being written over.
        """
        due = self.position.step % self.config.training.checkpoint_steps == 0
        return due and not self._ends_epoch

    def _log_and_save(self) -> None:
        position = self.position
        if self._logs:
            self.history.steps(position.step, position.epoch, self.costs.report(self.worker))
        num_batches = self._timetable.sizes[position.epoch]
        self.history.reached(position.epoch + position.batch / num_batches)
        if self._saves:
            self._checkpoint()

    def _finish_epoch(self) -> None:
        """Validate, keep the epoch's weights if it is among the best, save.

        Weights of earlier epochs are deleted once no checkpoint names them any more.
        """
        position = self.position
        with self._average.applied():
            rank = self._validate()
            if self.best.add(rank, position.epoch, position.phase):
                weights = self.weights()
                if self.worker.leads:
                    self.store.save_epoch(position.epoch, weights)
        position.epoch += 1
        position.batch = 0
        if self._early_stop.after(rank) and position.epoch < self.phase.epochs.stop:
            self.history.stopped(position.epoch, self.phase.epochs.stop)
            position.epoch = self.phase.epochs.stop
        self._checkpoint()
        if self.worker.leads:
            self.store.forget_epochs(self.best.epochs)

    def _validate(self) -> tuple[float, ...]:
        """The epoch's rank; its scores and the state of the model go into the history."""
        self.history.flush()
        scores, counts_K = self.phase.validate()
        layer_weights = self.model.layer_weights()
        self.history.epoch(self.position.step, self.position.epoch, scores, layer_weights, counts_K)
        return self._rank(scores)

    def _choose_weights(self) -> dict[str, float]:
        """The average of the best epochs, or the best alone where that validates better."""
        best, best_epoch, best_phase = self.best.entries[0]
        if best_phase != self.phase.index:
            self._start_phase(best_phase)
        load_weights(self.model, self.best.average(self.store))
        averaged = self._rank(self.phase.validate()[0])
        if averaged > best:
            load_weights(self.model, self.store.load_epoch(best_epoch))
        self.worker.barrier()
        chosen = zip(SELECTED_BY[self.config.training.select], min(averaged, best), strict=True)
        return {
            "training_seconds": self.position.seconds,
            "steps": float(self.position.step),
            "best_epoch": float(best_epoch),
            **{f"valid.{name}": score for name, score in chosen},
            **self._choices(),
        }

    def _choices(self) -> dict[str, float]:
        """How units were chosen in the last epoch's steps."""
        of_epoch, names = self.history.of_epoch, [f"train.{measure}" for measure in MEASURES]
        return {name: of_epoch[name] for name in names if name in of_epoch}

    def _rank(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """What says which of two epochs, or averages of epochs, is better: the lower one."""
        return tuple(scores[name] for name in SELECTED_BY[self.config.training.select])

    def _checkpoint(self) -> None:
        self.history.flush()
        state = {
            "progress": asdict(self.position),
            "model": self.weights(),
            "optimizer": gathered(self.phase.optimizer.state_dict(), kept=self.worker.leads),
            "best": [list(entry) for entry in self.best.entries],
            "history": self.history.state(),
            "early_stop": self._early_stop.state(),
            "moving_average": gathered(self._average.weights, kept=self.worker.leads),
        }
        if self.worker.leads:
            self.store.save(self.position.step, state)
        self.worker.barrier()

    def _resume(self) -> Mapping[str, Tensor]:
        """Go on from the last checkpoint, if there is one; returns its moving average."""
        state = self.store.latest()
        if state is None:
            return {}
        self.position = Position(**state["progress"])
        self.model.load_state_dict(state["model"])
        self.best.entries = [(tuple(rank), epoch, phase) for rank, epoch, phase in state["best"]]
        self.history.restore(state["history"])
        self.history.resumed(self.position.epoch)
        phases = self.config.training.phases
        started = self.position.epoch > sum(p.epochs for p in phases[: self.position.phase])
        if started or self.position.batch:
            self._saved_optimizer = state["optimizer"]
        self._early_stop.restore(state.get("early_stop", {}))
        average: dict[str, Tensor] = state.get("moving_average", {})
        return average
