"""One phase of the joint training on one worker: what lives exactly as long as the phase."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import Config
from pipeline.features.size import grid_of
from pipeline.metrics.wer import ErrorCounts, score
from pipeline.training import schedule
from pipeline.training.batches import Batch, Share, sorted_batches
from pipeline.training.choices import ChoiceMeans
from pipeline.training.inputs import TrainingData
from pipeline.training.learner import Learner, PhaseParameters
from pipeline.training.loading import Loader, Micro, Request, loader_processes
from pipeline.training.objective import Objective, divisors_of
from pipeline.training.optimizer import make_optimizer
from pipeline.training.seeds import seed_of
from pipeline.training.sharding import exchange_gradients, is_sharded, whole
from pipeline.training.timetable import Timetable
from pipeline.training.worker import Worker


class PhaseRun:
    """An optimizer, a loader and the epochs' sizes, made afresh where phase `index` begins."""

    def __init__(
        self,
        config: Config,
        index: int,
        model: Learner,
        data: TrainingData,
        worker: Worker,
        *,
        timetable: Timetable,
        switched: PhaseParameters,
    ) -> None:
        self.index, self.phase = index, config.training.phases[index]
        self.epochs = timetable.epochs(index)
        self._training = config.training
        self._model, self._data, self._worker = model, data, worker
        self.objective = Objective.of(config)
        self._frames_per_second = grid_of(config).frames_per_second
        switched.switch(self.phase)
        # The gradients of the phase before are freed before memory is taken for this one's.
        model.zero_grad(set_to_none=True)
        self._wrapped: nn.Module = model if is_sharded(model) else worker.prepare(model)
        self.optimizer = make_optimizer(model, self.phase, config.training.weight_decay)
        self.loader = Loader(
            data.sources[self.phase.ssl],
            {"train": data.train, "valid": data.valid},
            loader_processes(config.cluster, worker.device),
            worker.device,
        )
        self._sizes = [timetable.sizes[epoch] for epoch in self.epochs]

    def read(self, epoch: int, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Micro]]]:
        """Each batch of the epoch with this worker's micro-batches of it."""
        rank, world_size = self._worker.rank, self._worker.world_size
        num_micro = self._training.accumulate
        shares = (
            tuple(batch.share(rank, world_size, micro, num_micro) for micro in range(num_micro))
            for batch in batches
        )
        requests = [Request("train", of_batch, epoch) for of_batch in shares]
        return zip(batches, self.loader.read(requests), strict=True)

    def set_rates(self, epoch: int, number: int) -> float:
        """Set the learning rates for the epoch's batch `number`; returns their share of the peaks."""
        step = sum(self._sizes[: epoch - self.epochs.start]) + number
        share = schedule.rate_share(self.phase, step, sum(self._sizes))
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["peak_rate"]
        return share

    def add_gradients(
        self, batch: Batch, micros: Sequence[Micro], tau: float, step: int
    ) -> tuple[Tensor, ChoiceMeans]:
        """Gradients of all micro-batches; this worker's parts of the losses, how units were chosen.

        Nothing is read from the device, which may be steps behind.
        """
        worker, seed = self._worker, self._training.seed
        examples = [self._data.train[index] for index in batch.indices]
        divisors = divisors_of(examples, self._frames_per_second)
        noise_seed = seed_of(seed, step)
        torch.manual_seed(seed_of(seed, step, worker.rank))
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.objective.no_parts(worker.device)
        choices = ChoiceMeans()
        for index, (inputs, counted) in enumerate(micros):
            last = index == len(micros) - 1
            with self._exchange(wanted=last), worker.autocast(self._training.precision):
                sums = self._wrapped(inputs.to(worker.device), tau, noise_seed)
                loss = self.objective.loss(sums, divisors) * float(counted)
                # Workers' gradients are averaged, the objective is a sum over workers.
                (loss * worker.world_size).backward()
            if counted:
                parts += self.objective.parts(sums, divisors)
            choices.add(sums, counted=counted)
        return parts, choices

    def descend(self) -> Tensor:
        """Clip the gradient and move the weights; returns its norm before clipping."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self._training.clip_norm)
        self.optimizer.step()
        return whole(norm)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Tensor | None]:
        """The validation scores over all workers, and how often each unit occurs.

        "loss" is the objective and "asr_loss" its part by the ASR, with hard tokens and without
        dropout; "wer" is the word error rate of greedy CTC. Every worker must call.
        """
        self._model.eval()
        worker = self._worker
        divisors = divisors_of(self._data.valid, self._frames_per_second)
        parts = self.objective.no_parts(worker.device)
        words = ErrorCounts()
        counts_K: Tensor | None = None
        for [(inputs, counted)] in self.loader.read(self._validation_requests()):
            with worker.autocast(self._training.precision):
                sums = self._model(inputs.to(worker.device), tau=1.0, seed=0)
            parts += self.objective.parts(sums, divisors) * float(counted)
            if counted:
                words += self._word_errors(sums["frame_pieces_BT"], inputs.targets)
            if "counts_K" in sums:
                counts = sums["counts_K"] * int(counted)
                counts_K = counts if counts_K is None else counts_K + counts
        scores = {**self.objective.report(parts, worker), "wer": word_error_rate(words, worker)}
        return scores, None if counts_K is None else worker.sum(counts_K)

    def _word_errors(
        self, frame_pieces_BT: Tensor, targets: Sequence[Sequence[int]]
    ) -> ErrorCounts:
        asr = self._model.asr
        return score([asr.text_of(target) for target in targets], asr.read_frames(frame_pieces_BT))

    def _validation_requests(self) -> list[Request]:
        """This worker's batches in turn; the last round is filled up, so that all have as many.

        A sharded model's forward pass needs every worker.
        """
        rank, world_size = self._worker.rank, self._worker.world_size
        seconds = [example.utterance.duration for example in self._data.valid]
        batches = sorted_batches(seconds, self._training.batch_seconds)
        own = [batch.share(0, 1, 0, 1) for batch in batches[rank::world_size]]
        if len(own) < -(-len(batches) // world_size):
            own.append(Share(batches[0].indices[:1], (0,), counted=False))
        return [Request("valid", (share,)) for share in own]

    def _exchange(self, *, wanted: bool) -> AbstractContextManager[Any]:
        """Workers exchange gradients once a step, with the last micro-batch."""
        exchange_gradients(self._model, wanted=wanted)
        if wanted or not isinstance(self._wrapped, DistributedDataParallel):
            return nullcontext()
        return self._wrapped.no_sync()


def word_error_rate(words: ErrorCounts, worker: Worker) -> float:
    """The word error rate over all workers."""
    counts = torch.tensor([words.errors, words.reference_words], device=worker.device)
    errors, references = worker.sum(counts).tolist()
    return float(errors / references)
