"""The training of a causal language model on one worker among several.

As in the joint training, all that is random in a step comes from the seed, the step and the rank,
and the order of batches from the seed and the epoch: a resumed run repeats the uninterrupted one.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config import LmTraining
from pipeline.lm.causal_lm import CausalLm
from pipeline.training import schedule
from pipeline.training.batches import Batch, epoch_batches, sorted_batches
from pipeline.training.checkpoint_store import BestEpochs, CheckpointStore
from pipeline.training.history import History
from pipeline.training.seeds import seed_of
from pipeline.training.worker import Worker

BETAS = (0.9, 0.98)


@dataclass
class Position:
    """How far the training is: `batch` counts within the epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0


class CausalLmTraining:
    """One training, of `model`, which moves to the worker's device.

    `train` and `valid` are sequences of symbols, without edges; the loss is the mean of -log p in
    nats over symbols and ends.
    """

    def __init__(
        self,
        settings: LmTraining,
        model: CausalLm,
        train: Sequence[np.ndarray],
        valid: Sequence[np.ndarray],
        worker: Worker,
        *,
        store: CheckpointStore,
        history: History,
    ) -> None:
        self.settings, self.model, self.worker = settings, model, worker
        self.store, self.history = store, history
        self.position, self.best = Position(), BestEpochs(1)
        self._train, self._valid = train, valid
        self._wrapped = worker.prepare(model)
        groups = _groups(model, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        self._sizes = [len(self._batches(epoch)) for epoch in range(settings.epochs)]
        self._resume()

    def run(self) -> dict[str, float]:
        """Train what is left; afterwards `model` is that of the best epoch. Returns scores."""
        while self.position.epoch < self.settings.epochs:
            self._train_epoch()
            self._finish_epoch()
        (loss,), best_epoch, _ = self.best.entries[0]
        self.model.load_state_dict(self.store.load_epoch(best_epoch))
        return {
            "training_seconds": self.position.seconds,
            "steps": float(self.position.step),
            "best_epoch": float(best_epoch),
            "valid.loss": loss,
        }

    def _train_epoch(self) -> None:
        """Steps until the epoch's batches are used up, from the current position."""
        self.model.train()
        for batch in self._batches(self.position.epoch)[self.position.batch :]:
            started = time.perf_counter()
            self._step(batch)
            self.position.seconds += time.perf_counter() - started
            self._log_and_save()

    def _step(self, batch: Batch) -> None:
        """One update from all workers' shares of `batch`."""
        worker, settings, step = self.worker, self.settings, self.position.step
        share = schedule.rate_share(settings, step, sum(self._sizes))
        for group in self.optimizer.param_groups:
            group["lr"] = share * settings.learning_rate
        torch.manual_seed(seed_of(settings.seed, step, worker.rank))
        self.optimizer.zero_grad(set_to_none=True)
        own = batch.share(worker.rank, worker.world_size, 0, 1)
        num_symbols = sum(_lengths([self._train[index] for index in batch.indices]))
        with worker.autocast(settings.precision):
            log_probs_BN = self._wrapped([self._train[index] for index in own.indices])
        loss = -log_probs_BN.sum() / num_symbols * float(own.counted)
        # Workers' gradients are averaged, the loss is a sum over workers.
        (loss * worker.world_size).backward()
        norm = self._descend()
        total = worker.sum(loss.detach().double())
        self.history.update({"loss": float(total)}, norm, {"rate_share": share})
        self.position.step += 1
        self.position.batch += 1

    def _descend(self) -> float:
        """Clip the gradient and move the weights; returns its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient is not finite at step {self.position.step}: lower learning_rate or "
                "lengthen warmup_steps of the language model's training"
            )
        self.optimizer.step()
        return float(norm)

    def _log_and_save(self) -> None:
        position, num_batches = self.position, self._sizes[self.position.epoch]
        if position.step % self.settings.log_steps == 0:
            self.history.steps(position.step, position.epoch, {})
        self.history.reached(position.epoch + position.batch / num_batches)
        # The end of an epoch saves by itself.
        if position.batch < num_batches and position.step % self.settings.checkpoint_steps == 0:
            self._checkpoint()

    def _finish_epoch(self) -> None:
        """Validate, keep the epoch's weights if it is the best, save."""
        position, loss = self.position, self._validate()
        self.history.epoch(position.step, position.epoch, {"loss": loss}, {}, None)
        if self.best.add((loss,), position.epoch, 0) and self.worker.leads:
            self.store.save_epoch(position.epoch, self.model.state_dict())
        position.epoch += 1
        position.batch = 0
        self._checkpoint()
        if self.worker.leads:
            self.store.forget_epochs(self.best.epochs)

    @torch.no_grad()
    def _validate(self) -> float:
        """The loss over the validation split; every worker must call."""
        self.history.flush()
        self.model.eval()
        worker, lengths = self.worker, _lengths(self._valid)
        total = torch.zeros((), dtype=torch.float64, device=worker.device)
        batches = sorted_batches(lengths, self.settings.batch_symbols)
        for batch in batches[worker.rank :: worker.world_size]:
            with worker.autocast(self.settings.precision):
                log_probs_BN = self.model([self._valid[index] for index in batch.indices])
            total -= log_probs_BN.double().sum()
        return float(worker.sum(total)) / sum(lengths)

    def _batches(self, epoch: int) -> list[Batch]:
        """The epoch's batches, over all workers."""
        settings = self.settings
        lengths = _lengths(self._train)
        return epoch_batches(lengths, settings.batch_symbols, settings.seed, epoch)

    def _checkpoint(self) -> None:
        self.history.flush()
        if self.worker.leads:
            state = {
                "position": asdict(self.position),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": [list(entry) for entry in self.best.entries],
                "history": self.history.state(),
            }
            self.store.save(self.position.step, state)
        self.worker.barrier()

    def _resume(self) -> None:
        state = self.store.latest()
        if state is None:
            return
        self.position = Position(**state["position"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best.entries = [(tuple(rank), epoch, phase) for rank, epoch, phase in state["best"]]
        self.history.restore(state["history"])
        self.history.resumed(self.position.epoch)


def _lengths(sequences: Sequence[np.ndarray]) -> list[int]:
    """Symbols of each sequence, its end included."""
    return [len(sequence) + 1 for sequence in sequences]


def _groups(model: nn.Module, weight_decay: float) -> Iterator[dict[str, object]]:
    """Matrices decay; biases and what scales a norm do not."""
    parameters = list(model.parameters())
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
