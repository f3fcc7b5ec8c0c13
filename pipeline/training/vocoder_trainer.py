"""Training of the unit vocoder: spectral and duration losses first, then adversaries too.

Plain torch: the caller starts the workers and stores the checkpoints.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from pipeline.config import Vocoder
from pipeline.read_ahead import ahead
from pipeline.training.moving_average import move_towards
from pipeline.vocoder.discriminators import Discriminators
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.losses import (
    GAMES,
    SpectralLoss,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from pipeline.vocoder.segments import SegmentBatches, Segments

BETAS = (0.8, 0.99)  # of the HiFi-GAN paper
WARMUP_STEPS = 20
FINAL_RATE_SHARE = 0.1

State = dict[str, Any]
Losses = dict[str, float]
Wrap = Callable[[nn.Module], nn.Module]
Autocast = Callable[[], AbstractContextManager[Any]]


def train_vocoder(
    vocoder: UnitVocoder,
    batches: SegmentBatches,
    settings: Vocoder,
    *,
    state: State | None,
    save: Callable[[int, State], None],
    log: Callable[[int, Losses], None],
    listen: Callable[[int, UnitVocoder], None] = lambda _step, _vocoder: None,
    wrap: Wrap = lambda module: module,
    autocast: Autocast = nullcontext,
    loader_workers: int = 0,
) -> UnitVocoder:
    """Train `vocoder`, equal on all workers, on its device from `state` to `settings.steps` steps.

    Args:
        vocoder: changed in place.
        batches: this worker's share of the segments.
        settings: of the training.
        state: the last checkpoint, if there is one.
        save: stores the state, every `checkpoint_steps` steps and at the end.
        log: gets a step's losses, averaged over the last `log_steps` steps.
        listen: gets the averaged vocoder every `example_steps` steps and at the end.
        wrap: makes a module data-parallel.
        autocast: what the networks compute in.
        loader_workers: processes that read segments ahead, or 0 for a thread; `batches` must be
            picklable for processes.

    Returns:
        The moving average of the vocoder over the steps, in evaluation mode.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    trainer = VocoderTrainer(vocoder, settings, wrap, autocast)
    done = trainer.resume(state)
    recent: list[dict[str, Tensor]] = []
    read = _read(batches, range(done, settings.steps), loader_workers)
    for step, batch in enumerate(read, done + 1):
        recent.append(trainer.step(step, batch))
        last = step == settings.steps
        if step % settings.log_steps == 0 or last:
            log(step, _means(recent, step))
            recent.clear()
        if step % settings.checkpoint_steps == 0 or last:
            save(step, trainer.state(step))
        if step % settings.example_steps == 0 or last:
            listen(step, trainer.averaged)
    return trainer.averaged


def _read(batches: SegmentBatches, steps: range, num_processes: int) -> Iterable[Segments]:
    """The batches of the steps, read ahead of their use."""
    if not num_processes:
        return ahead(steps, batches.__getitem__)
    return DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=num_processes,
        # A fork would copy the locks of the storage's threads.
        multiprocessing_context="spawn",
    )


@torch.inference_mode()
def evaluate_vocoder(vocoder: UnitVocoder, batches: SegmentBatches, num_batches: int) -> Losses:
    """Means of the mel and side losses over the first `num_batches` batches, which never change."""
    device = vocoder.device
    spectral_loss = SpectralLoss(vocoder.sample_rate_hz, vocoder.band_hz).to(device)
    losses: list[dict[str, Tensor]] = []
    for index in range(num_batches):
        units_BT, real_BS, speakers_B, f0_BT = (part.to(device) for part in batches[index])
        mel, _ = spectral_loss(vocoder(units_BT, speakers_B), real_BS)
        losses.append({"mel": mel, **vocoder.side_losses(units_BT, speakers_B, f0_BT)})
    return _means(losses, num_batches)


class VocoderTrainer:
    """Models and optimizers, one step of training, and the state to resume from."""

    def __init__(
        self, vocoder: UnitVocoder, settings: Vocoder, wrap: Wrap, autocast: Autocast
    ) -> None:
        self.settings = settings
        self.device = device = vocoder.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.discriminators = Discriminators(settings.adversaries.channels).to(device)
        models = {"vocoder": vocoder, "discriminators": self.discriminators}
        self.optimizers = {
            name: AdamW(model.parameters(), settings.learning_rate, BETAS, fused=True)
            for name, model in models.items()
        }
        # The average begins as the weights after the first step, and is moved from the second on.
        self.average = AveragedModel(
            vocoder,
            multi_avg_fn=lambda averages, weights, done: move_towards(
                weights, averages, settings.ema_decay, int(done)
            ),
        )
        self.models: dict[str, nn.Module] = {**models, "average": self.average}
        self.vocoder = vocoder
        self.speak = wrap(_Speech(vocoder))
        self.judge = wrap(self.discriminators)
        self.autocast = autocast
        self.spectral_loss = SpectralLoss(vocoder.sample_rate_hz, vocoder.band_hz).to(device)

    @property
    def averaged(self) -> UnitVocoder:
        """The moving average, in evaluation mode."""
        return cast("UnitVocoder", self.average.module).eval()

    def step(self, step: int, batch: Segments) -> dict[str, Tensor]:
        """Update the discriminators, from `adversaries.from_step` on, and then the vocoder.

        Steps count from 1. Returns the losses by name, without their weights.
        """
        units_BT, real_BS, speakers_B, f0_BT = (part.to(self.device) for part in batch)
        with self.autocast():
            made_BS, side_losses = self.speak(units_BT, speakers_B, f0_BT)
        mel, stft = self.spectral_loss(made_BS, real_BS)
        losses = {"mel": mel, "stft": stft, **side_losses}
        if step >= self.settings.adversaries.from_step:
            losses |= self._judge(step, real_BS, made_BS)
        self._update("vocoder", self._weighted(losses), step)
        self.average.update_parameters(self.vocoder)
        return {name: loss.detach() for name, loss in losses.items()}

    def _judge(self, step: int, real_BS: Tensor, made_BS: Tensor) -> dict[str, Tensor]:
        """Train the discriminators, then return the losses that they give the vocoder."""
        adversaries = self.settings.adversaries
        game, heard = GAMES[adversaries.loss], self._heard(step, real_BS.shape[1])
        real_BS, made_BS = real_BS[:, heard], made_BS[:, heard]
        with self.autocast():
            both = self.judge(torch.cat([real_BS, made_BS.detach()]))
        loss = discriminator_loss(game, [j.half(0) for j in both], [j.half(1) for j in both])
        self._update("discriminators", loss, step)
        # Frozen and not wrapped: the vocoder's update needs none of their gradients, and must not
        # start an exchange of them between workers.
        self.discriminators.requires_grad_(requires_grad=False)
        with self.autocast():
            with torch.no_grad():
                real = self.discriminators(real_BS)
            made = self.discriminators(made_BS)
        self.discriminators.requires_grad_(requires_grad=True)
        return {
            "discriminator": loss,
            "adversarial": adversarial_loss(game, made),
            "feature_matching": feature_matching_loss(real, made),
        }

    def _heard(self, step: int, num_samples: int) -> slice:
        """What the discriminators hear of segments, at a place drawn from the step."""
        wanted = round(self.settings.adversaries.segment_seconds * self.vocoder.sample_rate_hz)
        length = min(wanted, num_samples)
        random = np.random.default_rng((self.settings.seed, step))
        first = int(random.integers(num_samples - length + 1))
        return slice(first, first + length)

    def _weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """The sum of what trains the vocoder."""
        settings = self.settings
        weights = {
            "mel": settings.mel_weight,
            "stft": settings.stft_weight,
            "duration": 1.0,
            "pitch": 1.0,
            "adversarial": 1.0,
            "feature_matching": settings.adversaries.feature_matching_weight,
        }
        terms = [weight * losses[name] for name, weight in weights.items() if name in losses]
        return torch.stack(terms).sum()

    def _update(self, name: str, loss: Tensor, step: int) -> None:
        optimizer = self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate_share(step, self.settings.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def state(self, step: int) -> State:
        """Everything that the step after `step` depends on."""
        return {
            "step": step,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "optimizers": {name: item.state_dict() for name, item in self.optimizers.items()},
        }

    def resume(self, state: State | None) -> int:
        """Restore a state; return the number of completed steps, 0 without a state."""
        if state is None:
            return 0
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        return int(state["step"])


class _Speech(nn.Module):
    """Waveform and side losses in one forward pass, which data-parallel training needs."""

    def __init__(self, vocoder: UnitVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(
        self, units_BT: Tensor, speakers_B: Tensor, f0_BT: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        made_BS = self.vocoder(units_BT, speakers_B, f0_BT=f0_BT)
        return made_BS, self.vocoder.side_losses(units_BT, speakers_B, f0_BT)


def rate_share(step: int, num_steps: int) -> float:
    """Share of the learning rate at `step` (from 1): linear warm-up, then half a cosine."""
    warmup = min(1.0, step / WARMUP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
    return warmup * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


def _means(losses: list[dict[str, Tensor]], step: int) -> Losses:
    """The mean of each loss over the steps that have it."""
    means = {
        name: float(torch.stack([each[name] for each in losses if name in each]).mean())
        for name in losses[-1]
    }
    if not all(map(math.isfinite, means.values())):
        raise FloatingPointError(
            f"the vocoder's losses at step {step} are {means}: lower vocoder.learning_rate"
        )
    return means
