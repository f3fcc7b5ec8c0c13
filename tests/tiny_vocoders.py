"""Vocoders that train in seconds."""

from typing import TYPE_CHECKING

from pipeline.config import Adversaries, Hifigan, Istft, Vocoder

if TYPE_CHECKING:
    from pipeline.vocoder.generator import UnitVocoder

# Each generator, and the one that filters pulses and noise.
KINDS = ("istft", "hifigan", "pitch")


def tiny_settings(kind):
    pitch = kind == "pitch"
    return Vocoder(
        generator="istft" if pitch else kind,
        pitch="predicted" if pitch else "none",
        istft=Istft(dim=16, blocks=2, expansion=2, kernel=3),
        hifigan=Hifigan(
            upsample_rates=(20, 16),
            upsample_kernels=(20, 16),
            initial_channels=8,
            resblock_kernels=(3,),
            resblock_dilations=((1,),),
        ),
        unit_dim=8,
        speaker_dim=4,
        adversaries=Adversaries(from_step=3, channels=1, segment_seconds=0.1),
        segment_seconds=0.16,
        batch_size=2,
        steps=6,
        checkpoint_steps=2,
        log_steps=2,
    )


def tiny_vocoder(settings) -> "UnitVocoder":
    """Of five units and three speakers."""
    import torch

    from pipeline.vocoder.generator import UnitVocoder

    torch.manual_seed(0)
    return UnitVocoder(settings, num_units=5, speakers=["ann", "bob", "cem"])
