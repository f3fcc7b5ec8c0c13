"""Schedules: learning rates and the temperature of the Gumbel-softmax."""

import math

from pipeline.config import LmTraining, Phase, Quantizer


def rate_share(phase: Phase | LmTraining, step: int, num_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 0) of a phase, or a training, of `num_steps`."""
    if phase.schedule == "noam":
        return _noam(step + 1, max(1, phase.warmup_steps))
    return _cosine(phase, step, num_steps)


def _cosine(phase: Phase | LmTraining, step: int, num_steps: int) -> float:
    """Linear warm-up, then half a cosine down to `phase.final_rate_share`."""
    warmup = min(phase.warmup_steps, num_steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return phase.final_rate_share + (1 - phase.final_rate_share) * cosine


def _noam(step: int, warmup: int) -> float:
    """Vaswani et al., 2017, equation 3: min(step^-0.5, step * warmup^-1.5), steps from 1.

    Here as a share of its peak, which it reaches at `warmup`; theirs is (dim * warmup)^-0.5.
    """
    return min(step / warmup, math.sqrt(warmup / step))


def tau(quantizer: Quantizer, step: int, num_steps: int) -> float:
    """Temperature after `step` of the `num_steps` steps in which it acts.

    Exponential decay with a floor; without a `tau_decay`, to `tau_end` at the last step.
    """
    if quantizer.tau_decay is None:
        progress = min(1.0, step / max(1, num_steps - 1))
        ratio = quantizer.tau_end / quantizer.tau_start
        return float(quantizer.tau_start * ratio**progress)
    return float(max(quantizer.tau_end, quantizer.tau_start * quantizer.tau_decay**step))
