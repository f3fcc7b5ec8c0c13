"""Training of the unit vocoder: mel and duration losses first, adversaries later.

Plain torch: the caller starts the workers and stores the checkpoints.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader

from pipeline.config import Vocoder
from pipeline.vocoder.discriminators import Discriminators, Judgement
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.losses import (
    LogMelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from pipeline.vocoder.segments import SegmentBatches, Segments

BETAS = (0.8, 0.99)  # of the HiFi-GAN paper
WARMUP_STEPS = 20
FINAL_RATE_SHARE = 0.1

State = dict[str, Any]
Losses = dict[str, Tensor]
Wrap = Callable[[nn.Module], nn.Module]


def train_vocoder(
    vocoder: UnitVocoder,
    batches: SegmentBatches,
    settings: Vocoder,
    *,
    state: State | None,
    save: Callable[[int, State], None],
    log: Callable[[int, dict[str, float]], None],
    wrap: Wrap = lambda module: module,
    loader_workers: int = 0,
) -> None:
    """Train `vocoder`, equal on all workers, on its device from `state` to `settings.steps` steps.

    Args:
        vocoder: changed in place.
        batches: this worker's share of the segments.
        settings: of the training.
        state: the last checkpoint, if there is one.
        save: stores the state, every `checkpoint_steps` steps and at the end.
        log: gets a step's losses, averaged over the last `log_steps` steps.
        wrap: makes a module data-parallel.
        loader_workers: processes that read segments ahead; `batches` must be picklable for them.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    trainer = VocoderTrainer(vocoder, settings, wrap)
    done = trainer.resume(state)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(done, settings.steps),
        num_workers=loader_workers,
        # A fork would copy the locks of the storage's threads.
        multiprocessing_context="spawn" if loader_workers else None,
    )
    recent: list[Losses] = []
    for step, batch in enumerate(loader, done + 1):
        recent.append(trainer.step(step, batch))
        if step % settings.log_steps == 0 or step == settings.steps:
            log(step, _means(recent, step))
            recent.clear()
        if step % settings.checkpoint_steps == 0 or step == settings.steps:
            save(step, trainer.state(step))


@torch.inference_mode()
def evaluate_vocoder(
    vocoder: UnitVocoder, batches: SegmentBatches, num_batches: int
) -> dict[str, float]:
    """Mean mel and duration losses over the first `num_batches` batches, which never change."""
    device = vocoder.device
    mel_loss = LogMelLoss(vocoder.sample_rate_hz).to(device)
    losses: list[Losses] = []
    for index in range(num_batches):
        units_BT, real_BS, speakers_B = (part.to(device) for part in batches[index])
        mel = mel_loss(vocoder(units_BT, speakers_B), real_BS)
        losses.append({"mel": mel, "duration": vocoder.durations.loss(units_BT)})
    return _means(losses, num_batches)


class VocoderTrainer:
    """Models and optimizers, one step of training, and the state to resume from."""

    def __init__(self, vocoder: UnitVocoder, settings: Vocoder, wrap: Wrap) -> None:
        self.settings = settings
        self.device = device = vocoder.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.discriminators = Discriminators(settings.discriminator_channels).to(device)
        self.models = {"vocoder": vocoder, "discriminators": self.discriminators}
        self.optimizers = {
            name: AdamW(model.parameters(), settings.learning_rate, BETAS)
            for name, model in self.models.items()
        }
        self.speak = wrap(_Speech(vocoder))
        self.judge = wrap(self.discriminators)
        self.mel_loss = LogMelLoss(vocoder.sample_rate_hz).to(device)

    def step(self, step: int, batch: Segments) -> Losses:
        """Update the discriminators, from step `adversarial_from_step` on, and then the vocoder.

        Steps count from 1. Returns the losses by name, without their weights.
        """
        units_BT, real_BS, speakers_B = (part.to(self.device) for part in batch)
        made_BS, duration = self.speak(units_BT, speakers_B)
        losses = {"mel": self.mel_loss(made_BS, real_BS), "duration": duration}
        if step >= self.settings.adversarial_from_step:
            losses |= self._judge(step, real_BS, made_BS)
        self._update("vocoder", self._weighted(losses), step)
        return {name: loss.detach() for name, loss in losses.items()}

    def _judge(self, step: int, real_BS: Tensor, made_BS: Tensor) -> Losses:
        """Train the discriminators, then return the losses that they give the vocoder."""
        judged = _halves(self.judge(torch.cat([real_BS, made_BS.detach()])))
        loss = discriminator_loss(*judged)
        self._update("discriminators", loss, step)
        # Frozen and not wrapped: the vocoder's update needs none of their gradients, and must not
        # start an exchange of them between workers.
        self.discriminators.requires_grad_(requires_grad=False)
        real, made = _halves(self.discriminators(torch.cat([real_BS, made_BS])))
        self.discriminators.requires_grad_(requires_grad=True)
        return {
            "discriminator": loss,
            "adversarial": adversarial_loss(made),
            "feature_matching": feature_matching_loss(real, made),
        }

    def _weighted(self, losses: Losses) -> Tensor:
        total = self.settings.mel_weight * losses["mel"] + losses["duration"]
        if "adversarial" in losses:
            matching = self.settings.feature_matching_weight * losses["feature_matching"]
            total = total + losses["adversarial"] + matching
        return total

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
    """Waveform and duration loss in one forward pass, which data-parallel training needs."""

    def __init__(self, vocoder: UnitVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, units_BT: Tensor, speakers_B: Tensor) -> tuple[Tensor, Tensor]:
        return self.vocoder(units_BT, speakers_B), self.vocoder.durations.loss(units_BT)


def rate_share(step: int, num_steps: int) -> float:
    """Share of the learning rate at `step` (from 1): linear warm-up, then half a cosine."""
    warmup = min(1.0, step / WARMUP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * step / num_steps))
    return warmup * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


def _halves(judgements: list[Judgement]) -> tuple[list[Judgement], list[Judgement]]:
    return [judgement.half(0) for judgement in judgements], [
        judgement.half(1) for judgement in judgements
    ]


def _means(losses: list[Losses], step: int) -> dict[str, float]:
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
