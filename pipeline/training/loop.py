"""The joint training: phases of epochs of steps, each step a function of the state before it.

Everything random in a step is drawn from a seed made of the run's seed and the step: the noise of
tokens with each utterance's place in the batch, so that any number of workers draws the same, and
dropout and time masks with the rank. The order of batches comes from the seed and the epoch. So a checkpoint needs
no random state, and a resumed run repeats the uninterrupted one.
"""

import hashlib
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.config import Config, LearningRates, Phase
from pipeline.training import schedule
from pipeline.training.batches import Batch, Share, epoch_batches, sorted_batches
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.inputs import Example, Source
from pipeline.training.joint_model import JointModel, parameter_groups
from pipeline.training.loading import Loader, Micro, Request, loader_processes
from pipeline.training.sharding import (
    exchange_gradients,
    gathered,
    is_sharded,
    load_optimizer,
    load_weights,
    shard,
)
from pipeline.training.step_costs import StepCosts
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
    """One run of joint training on one worker among several.

    `model` is taken over: it moves to the worker's device, or the worker's part of it does.
    """

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
        self.model = model
        self.data = data
        self.worker = worker
        self.store = store
        self.history = history
        self.costs = StepCosts()
        self.progress = Progress()
        self.best: list[tuple[float, int, int]] = []
        self._saved_optimizer: dict[str, Any] | None = None
        self._resume()
        if model.ssl is not None and config.training.gradient_checkpointing:
            model.ssl.checkpoint_gradients()
        if worker.world_size > 1 and config.cluster.sharding == "fsdp":
            shard(model, worker)
        model.to(worker.device)
        self._ssl_parameters = _trainable_ssl(model, config)

    def run(self) -> dict[str, float]:
        """Train what is left; afterwards `model` holds the chosen weights. Returns scores."""
        phases = self.config.training.phases
        while self.progress.phase < len(phases):
            self._start_phase(self.progress.phase)
            last_epoch = sum(phase.epochs for phase in phases[: self.progress.phase + 1])
            while self.progress.epoch < last_epoch:
                self._train_epoch()
                self._finish_epoch()
            self.progress.phase += 1
        return self._choose_weights()

    def weights(self) -> dict[str, torch.Tensor]:
        """The model's tensors, whole, for the leading worker; all workers must call."""
        weights: dict[str, torch.Tensor] = gathered(self.model.state_dict(), kept=self.worker.leads)
        return weights

    def _start_phase(self, index: int) -> None:
        """A fresh optimizer for what this phase trains."""
        phases = self.config.training.phases
        self.phase_index, self.phase = index, phases[index]
        for parameter in self._ssl_parameters:
            parameter.requires_grad_(self.phase.ssl == "finetuned")
        # What the phase before kept for its gradients goes before the same is taken for this one.
        self.model.zero_grad(set_to_none=True)
        self.wrapped: torch.nn.Module = self.model
        if not is_sharded(self.model):
            self.wrapped = self.worker.prepare(self.model)
        self.optimizer = _optimizer(self.model, self.phase, self.config.training.weight_decay)
        if self._saved_optimizer is not None:
            load_optimizer(self.optimizer, self._saved_optimizer)
            self._saved_optimizer = None
        self.loader = self._new_loader()
        self._first_epoch = sum(phase.epochs for phase in phases[:index])
        self._epoch_sizes = [
            len(self._batches(self._first_epoch + epoch)) for epoch in range(self.phase.epochs)
        ]

    def _new_loader(self) -> Loader:
        """It lives as long as the phase, since a phase has its source."""
        device = self.worker.device
        return Loader(
            self.data.source(self.phase),
            {"train": self.data.train, "valid": self.data.valid},
            loader_processes(self.config.cluster, device),
            device,
        )

    def _train_epoch(self) -> None:
        """Steps until the epoch's batches are used up, from wherever the progress stands."""
        self.wrapped.train()
        batches = self._batches(self.progress.epoch)[self.progress.batch :]
        started = time.perf_counter()
        requests = [self._request(batch) for batch in batches]
        for batch, micros in zip(batches, self.loader.read(requests), strict=True):
            waited = time.perf_counter() - started
            self._step(batch, micros)
            seconds = time.perf_counter() - started
            self.progress.seconds += seconds
            audio_seconds = sum(self.data.train[i].utterance.duration for i in batch.indices)
            self.costs.step(audio_seconds, seconds, waited)
            self._log_and_save()
            started = time.perf_counter()

    def _step(self, batch: Batch, micros: list[Micro]) -> None:
        """One update from all workers' shares of `batch`."""
        norms = self._normalisers(batch)
        noise_seed = _seed(self.config.training.seed, self.progress.step)
        torch.manual_seed(_seed(self.config.training.seed, self.progress.step, self.worker.rank))
        tau = schedule.tau(self.config.quantizer, self.progress.step)
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(len(LOSSES), dtype=torch.float64, device=self.worker.device)
        for index, (inputs, counted) in enumerate(micros):
            with self._sync(last=index == len(micros) - 1), self._autocast():
                sums = self.wrapped(inputs.to(self.worker.device), tau, noise_seed)
                loss = self._objective(sums, norms) * float(counted)
                # Workers' gradients are averaged, the objective is a sum over workers.
                (loss * self.worker.world_size).backward()
            if counted:
                losses += self._parts(sums, norms)
        norm = gathered(
            torch.nn.utils.clip_grad_norm_(
                [p for group in self.optimizer.param_groups for p in group["params"]],
                self.config.training.clip_norm,
                error_if_nonfinite=False,
            )
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
        """Validate, remember the epoch if it is among the best, save.

        Weights of epochs go when a checkpoint no longer names them, not before.
        """
        losses, counts_K = self.validate()
        mixed = gathered(self.model.mix.weights_L).tolist()
        layer_weights = dict(zip(self.model.layers, mixed, strict=True))
        self.history.epoch(self.progress.step, self.progress.epoch, losses, layer_weights, counts_K)
        loss, epoch = losses["loss"], self.progress.epoch
        self.best.append((loss, epoch, self.progress.phase))
        self.best = sorted(self.best)[: self.config.training.average_best]
        kept = {epoch for _, epoch, _ in self.best}
        if epoch in kept:
            weights = self.weights()
            if self.worker.leads:
                self.store.save_epoch(epoch, weights)
        self.progress.epoch += 1
        self.progress.batch = 0
        self._checkpoint()
        if self.worker.leads:
            self.store.forget_epochs(kept)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], torch.Tensor | None]:
        """Losses per piece of text with hard tokens and without dropout, and the units' counts."""
        self.model.eval()
        norms = self._normalisers(Batch(tuple(range(len(self.data.valid)))), self.data.valid)
        losses = torch.zeros(len(LOSSES), dtype=torch.float64, device=self.worker.device)
        counts_K: torch.Tensor | None = None
        for [(inputs, counted)] in self.loader.read(self._validation_requests()):
            with self._autocast():
                sums = self.model(inputs.to(self.worker.device), tau=1.0, seed=0)
            losses += self._parts(sums, norms) * float(counted)
            if "counts_K" in sums:
                counts = sums["counts_K"] * int(counted)
                counts_K = counts if counts_K is None else counts_K + counts
        values = dict(zip(LOSSES, self.worker.sum(losses).tolist(), strict=True))
        values["loss"] = self._weighted(values)
        return values, None if counts_K is None else self.worker.sum(counts_K)

    def _validation_requests(self) -> list[Request]:
        """This worker's batches in turn; the last round is filled up, so that all do as many.

        A sharded model's forward pass needs every worker.
        """
        batches = sorted_batches(_durations(self.data.valid), self.config.training.batch_seconds)
        rank, world_size = self.worker.rank, self.worker.world_size
        mine = [batch.share(0, 1, 0, 1) for batch in batches[rank::world_size]]
        filling = Share(batches[0].indices[:1], (0,), counted=False)
        rounds = -(-len(batches) // world_size)
        mine += [filling] * (rounds - len(mine))
        return [Request("valid", (share,)) for share in mine]

    def _choose_weights(self) -> dict[str, float]:
        """The average of the best epochs, or the best alone where that validates better."""
        _, best_epoch, best_phase = self.best[0]
        if best_phase != self.phase_index:
            self._start_phase(best_phase)
        epochs = [epoch for _, epoch, phase in self.best if phase == best_phase]
        averaged = _average([self.store.load_epoch(epoch) for epoch in epochs])
        load_weights(self.model, averaged)
        averaged_loss = self.validate()[0]["loss"]
        if averaged_loss > self.best[0][0]:
            load_weights(self.model, self.store.load_epoch(best_epoch))
        self.worker.barrier()
        return {
            "training_seconds": self.progress.seconds,
            "steps": float(self.progress.step),
            "best_epoch": float(best_epoch),
            "valid.loss": min(averaged_loss, self.best[0][0]),
        }

    def _request(self, batch: Batch) -> Request:
        """This worker's micro-batches."""
        rank, world_size = self.worker.rank, self.worker.world_size
        num_micro = self.config.training.accumulate
        shares = [batch.share(rank, world_size, micro, num_micro) for micro in range(num_micro)]
        return Request("train", tuple(shares))

    def _batches(self, epoch: int) -> list[Batch]:
        training = self.config.training
        return epoch_batches(
            _durations(self.data.train), training.batch_seconds, training.seed, epoch
        )

    def _normalisers(self, batch: Batch, examples: list[Example] | None = None) -> dict[str, float]:
        """What each summed loss is divided by: pieces of text (with the end), or nominal frames.

        They depend on the whole batch alone, so every worker knows them without asking.
        """
        chosen = [(examples or self.data.train)[index] for index in batch.indices]
        units = float(sum(len(example.target) + 1 for example in chosen))
        seconds = sum(example.utterance.duration for example in chosen)
        frames = seconds * SSL_GRID.frames_per_second
        return {"ctc": units, "attention": units, "kmeans": max(1.0, frames)}

    def _objective(self, sums: dict[str, torch.Tensor], norms: dict[str, float]) -> torch.Tensor:
        losses = {name: sums[name] / norms[name] for name in LOSSES if name in sums}
        objective: torch.Tensor = self._weighted(losses)
        return objective

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
            costs = self.costs.report(self.worker)
            self.history.steps(self.progress.step, self.progress.epoch, costs)
        # The end of an epoch saves by itself: a step is saved once, so that nothing ever stands in
        # for a checkpoint that is being written over.
        num_batches = self._epoch_sizes[self.progress.epoch - self._first_epoch]
        self.history.reached(self.progress.epoch + self.progress.batch / num_batches)
        inside = self.progress.batch < num_batches
        if inside and self.progress.step % training.checkpoint_steps == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        state = self._state()
        if self.worker.leads:
            self.store.save(self.progress.step, state)
        self.worker.barrier()

    def _state(self) -> dict[str, Any]:
        return {
            "progress": asdict(self.progress),
            "model": self.weights(),
            "optimizer": gathered(self.optimizer.state_dict(), kept=self.worker.leads),
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
        self.history.resumed(self.progress.epoch)
        phases = self.config.training.phases
        started = self.progress.epoch > sum(p.epochs for p in phases[: self.progress.phase])
        if started or self.progress.batch:
            self._saved_optimizer = state["optimizer"]

    def _sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged once a step, with the last micro-batch."""
        exchange_gradients(self.model, wanted=last)
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
