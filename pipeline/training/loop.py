"""The joint training: phases of epochs of steps, each step a function of the state before it.

Everything random in a step (dropout, token noise) is drawn from a seed made of the run's seed,
the step and the rank, and the order of batches from the seed and the epoch. So a checkpoint needs
no random state, and a resumed run repeats the uninterrupted one.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import Config, LearningRates, Phase
from pipeline.training import schedule
from pipeline.training.batches import Batch, epoch_batches, sorted_batches
from pipeline.training.history import History
from pipeline.training.inputs import Example, Inputs, Source, ahead
from pipeline.training.joint import JointModel, parameter_groups
from pipeline.training.store import CheckpointStore
from pipeline.training.worker import Worker

LOSSES = ("ctc", "attention", "kmeans")


@dataclass(frozen=True)
class TrainingData:
    """Examples, and where the frames come from with the SSL model frozen or fine-tuned."""

    train: list[Example]
    valid: list[Example]
    frozen: Source | None
    finetuned: Source | None

    def source(self, phase: Phase) -> Source:
        found = self.finetuned if phase.ssl == "finetuned" else self.frozen
        if found is None:
            raise ValueError(f"a phase with ssl '{phase.ssl}' has nothing to read")
        return found


@dataclass
class Progress:
    """Where the training stands: `epoch` counts over all phases, `batch` within the epoch."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0


class JointTraining:
    """One run of joint training on one worker among several."""

    def __init__(
        self,
        config: Config,
        model: JointModel,
        data: TrainingData,
        worker: Worker,
        *,
        store: CheckpointStore,
        history: History,
    ) -> None:
        self.config = config
        self.model = model.to(worker.device)
        self.data = data
        self.worker = worker
        self.store = store
        self.history = history
        self.progress = Progress()
        self.best: list[tuple[float, int, int]] = []
        self._ssl_parameters = _trainable_ssl(self.model, config)
        self._saved_optimizer: dict[str, Any] | None = None
        self._resume()

    def run(self) -> dict[str, float]:
        """Train what is left; afterwards `model` holds the chosen weights. Returns scores."""
        phases = self.config.training.phases
        while self.progress.phase < len(phases):
            self._start_phase(phases[self.progress.phase])
            last_epoch = sum(phase.epochs for phase in phases[: self.progress.phase + 1])
            while self.progress.epoch < last_epoch:
                self._train_epoch()
                self._finish_epoch()
            self.progress.phase += 1
            self._checkpoint()
        return self._choose_weights()

    def _start_phase(self, phase: Phase) -> None:
        """A fresh optimizer for what this phase trains."""
        self.phase = phase
        for parameter in self._ssl_parameters:
            parameter.requires_grad_(phase.ssl == "finetuned")
        self.wrapped = self.worker.prepare(self.model)
        self.optimizer = _optimizer(self.model, phase, self.config.training.weight_decay)
        if self._saved_optimizer is not None:
            self.optimizer.load_state_dict(self._saved_optimizer)
            self._saved_optimizer = None
        self._first_epoch = sum(
            p.epochs for p in self.config.training.phases[: self.progress.phase]
        )
        self._epoch_sizes = [
            len(self._batches(self._first_epoch + epoch)) for epoch in range(phase.epochs)
        ]

    def _train_epoch(self) -> None:
        """Steps until the epoch's batches are used up, from wherever the progress stands."""
        self.wrapped.train()
        batches = self._batches(self.progress.epoch)[self.progress.batch :]
        started = time.perf_counter()
        for batch, micros in self._loaded(batches):
            waited = time.perf_counter() - started
            self._step(batch, micros)
            self.progress.seconds += time.perf_counter() - started
            self.history.count("data_wait_seconds", waited)
            self.history.count("step_seconds", time.perf_counter() - started)
            self._log_and_save()
            started = time.perf_counter()

    def _step(self, batch: Batch, micros: list[tuple[Inputs, bool]]) -> None:
        """One update from all workers' shares of `batch`."""
        norms = self._normalisers(batch)
        seed = _seed(self.config.training.seed, self.progress.step, self.worker.rank)
        torch.manual_seed(seed)
        tau = schedule.tau(self.config.quantizer, self.progress.step)
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(len(LOSSES), dtype=torch.float64, device=self.worker.device)
        for index, (inputs, counted) in enumerate(micros):
            with self._sync(last=index == len(micros) - 1), self._autocast():
                sums = self.wrapped(inputs.to(self.worker.device), tau, seed + index)
                loss = self._objective(sums, norms) * float(counted)
                # Workers' gradients are averaged, the objective is a sum over workers.
                (loss * self.worker.world_size).backward()
            if counted:
                losses += self._parts(sums, norms)
        norm = torch.nn.utils.clip_grad_norm_(
            [p for group in self.optimizer.param_groups for p in group["params"]],
            self.config.training.clip_norm,
            error_if_nonfinite=False,
        )
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient is not finite at step {self.progress.step}: lower the learning "
                "rates of the phase or lengthen its warmup_steps"
            )
        self.optimizer.step()
        self._count(losses, sums)
        self.history.count("gradient_norm", float(norm))
        self.history.set("tau", tau)
        self.progress.step += 1
        self.progress.batch += 1

    def _finish_epoch(self) -> None:
        """Validate, remember the epoch if it is among the best, save."""
        losses, counts_K = self.validate()
        self.history.epoch(self.progress.step, self.progress.epoch, losses, self.model, counts_K)
        loss, epoch = losses["loss"], self.progress.epoch
        self.best.append((loss, epoch, self.progress.phase))
        self.best = sorted(self.best)[: self.config.training.average_best]
        kept = {epoch for _, epoch, _ in self.best}
        if self.worker.leads and epoch in kept:
            self.store.save_epoch(epoch, self.model.state_dict())
            self.store.forget_epochs(kept)
        self.progress.epoch += 1
        self.progress.batch = 0
        self._checkpoint()

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], torch.Tensor | None]:
        """Losses per text unit with hard tokens and without dropout, and the units' counts."""
        self.model.eval()
        batches = sorted_batches(_durations(self.data.valid), self.config.training.batch_seconds)
        norms = self._normalisers(Batch(tuple(range(len(self.data.valid)))), self.data.valid)
        losses = torch.zeros(len(LOSSES), dtype=torch.float64, device=self.worker.device)
        counts_K: torch.Tensor | None = None
        source = self.data.source(self.phase)
        for batch in batches[self.worker.rank :: self.worker.world_size]:
            inputs = source.load([self.data.valid[index] for index in batch.indices])
            with self._autocast():
                sums = self.model(inputs.to(self.worker.device), tau=1.0, seed=0)
            losses += self._parts(sums, norms)
            if "counts_K" in sums:
                counts_K = sums["counts_K"] if counts_K is None else counts_K + sums["counts_K"]
        values = dict(zip(LOSSES, self.worker.sum(losses).tolist(), strict=True))
        values["loss"] = self._weighted(values)
        return values, counts_K

    def _choose_weights(self) -> dict[str, float]:
        """The average of the best epochs, or the best alone where that validates better."""
        _, best_epoch, best_phase = self.best[0]
        self._start_phase(self.config.training.phases[best_phase])
        epochs = [epoch for _, epoch, phase in self.best if phase == best_phase]
        averaged = _average([self.store.load_epoch(epoch) for epoch in epochs])
        self.model.load_state_dict(averaged)
        averaged_loss = self.validate()[0]["loss"]
        if averaged_loss > self.best[0][0]:
            self.model.load_state_dict(self.store.load_epoch(best_epoch))
        self.worker.barrier()
        return {
            "training_seconds": self.progress.seconds,
            "steps": float(self.progress.step),
            "best_epoch": float(best_epoch),
            "valid.loss": min(averaged_loss, self.best[0][0]),
        }

    def _loaded(self, batches: list[Batch]) -> Iterator[tuple[Batch, list[tuple[Inputs, bool]]]]:
        """Batches with this worker's micro-batches, read ahead of their use."""
        source = self.data.source(self.phase)
        num_micro = self.config.training.accumulate

        def load(batch: Batch) -> tuple[Batch, list[tuple[Inputs, bool]]]:
            shares = [
                batch.share(self.worker.rank, self.worker.world_size, micro, num_micro)
                for micro in range(num_micro)
            ]
            return batch, [
                (source.load([self.data.train[index] for index in share.indices]), share.counted)
                for share in shares
            ]

        return ahead(batches, load)

    def _batches(self, epoch: int) -> list[Batch]:
        training = self.config.training
        return epoch_batches(
            _durations(self.data.train), training.batch_seconds, training.seed, epoch
        )

    def _normalisers(self, batch: Batch, examples: list[Example] | None = None) -> dict[str, float]:
        """What each summed loss is divided by: text units (with the end), or nominal frames.

        They depend on the whole batch alone, so every worker knows them without asking.
        """
        chosen = [(examples or self.data.train)[index] for index in batch.indices]
        units = float(sum(len(example.target) + 1 for example in chosen))
        frames = sum(example.utterance.duration for example in chosen) * 50.0
        return {"ctc": units, "attention": units, "kmeans": max(1.0, frames)}

    def _objective(self, sums: dict[str, torch.Tensor], norms: dict[str, float]) -> torch.Tensor:
        return self._weighted({name: sums[name] / norms[name] for name in LOSSES if name in sums})

    def _weighted(self, losses: dict[str, Any]) -> Any:
        weight = self.config.asr.ctc_weight
        total = weight * losses["ctc"] + (1 - weight) * losses["attention"]
        return total + self.config.quantizer.kmeans_loss_weight * losses.get("kmeans", 0.0)

    def _parts(self, sums: dict[str, torch.Tensor], norms: dict[str, float]) -> torch.Tensor:
        """This worker's part of each normalised loss, detached, in the order of `LOSSES`."""
        absent = torch.zeros((), device=self.worker.device)
        parts = [sums.get(name, absent).detach().double() / norms[name] for name in LOSSES]
        return torch.stack(parts)

    def _count(self, losses: torch.Tensor, stats: dict[str, torch.Tensor]) -> None:
        """Log a step's losses over all workers, and how sharp the last assignment was."""
        values = dict(zip(LOSSES, self.worker.sum(losses).tolist(), strict=True))
        self.history.count("train.loss", float(self._weighted(values)))
        for name, value in values.items():
            self.history.count(f"train.{name}", value)
        for name in ("entropy", "agreement"):
            if name in stats:
                self.history.set(name, float(stats[name]))

    def _set_rates(self) -> None:
        epoch = self.progress.epoch - self._first_epoch
        step = sum(self._epoch_sizes[:epoch]) + self.progress.batch
        share = schedule.rate_share(self.phase, step, sum(self._epoch_sizes))
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["peak_rate"]
        self.history.set("rate_share", share)

    def _log_and_save(self) -> None:
        training = self.config.training
        if self.progress.step % training.log_steps == 0:
            self.history.steps(self.progress.step, self.progress.epoch)
        if self.progress.step % training.checkpoint_steps == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.worker.leads:
            self.store.save(self.progress.step, self._state())
        self.worker.barrier()

    def _state(self) -> dict[str, Any]:
        return {
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": [list(entry) for entry in self.best],
            "history": self.history.state(),
        }

    def _resume(self) -> None:
        state = self.store.latest()
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        self.model.load_state_dict(state["model"])
        self.best = [(loss, epoch, phase) for loss, epoch, phase in state["best"]]
        self.history.restore(state["history"])
        phases = self.config.training.phases
        started = self.progress.epoch > sum(p.epochs for p in phases[: self.progress.phase])
        if started or self.progress.batch:
            self._saved_optimizer = state["optimizer"]

    def _sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged once a step, with the last micro-batch."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()

    def _autocast(self) -> AbstractContextManager[Any]:
        precision = self.config.training.precision
        wanted = precision == "bfloat16" or (
            precision == "auto" and self.worker.device.type == "cuda"
        )
        return torch.autocast(self.worker.device.type, dtype=torch.bfloat16, enabled=wanted)


def _optimizer(model: JointModel, phase: Phase, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with a group for each learning rate; only networks decay, not codebook or weights."""
    rates: LearningRates = phase.learning_rates
    groups = [
        {
            "params": parameters,
            "peak_rate": getattr(rates, name),
            "weight_decay": weight_decay if name in ("asr", "ssl") else 0.0,
        }
        for name, parameters in parameter_groups(model).items()
    ]
    return torch.optim.AdamW(groups, lr=rates.asr, betas=(0.9, 0.98))


def _trainable_ssl(model: JointModel, config: Config) -> list[torch.nn.Parameter]:
    """What a fine-tuned phase trains of the SSL model; frozen phases switch just these off."""
    if model.ssl is None:
        return []
    if not config.training.train_front_end:
        model.ssl.freeze_front_end()
    return [parameter for parameter in model.ssl.parameters() if parameter.requires_grad]


def _average(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each floating-point tensor, summed in float64; others as in the first state."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


def _durations(examples: list[Example]) -> list[float]:
    return [example.utterance.duration for example in examples]


def _seed(*parts: int) -> int:
    """62 bits that depend on all parts, so that neighbouring steps share no noise."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2
