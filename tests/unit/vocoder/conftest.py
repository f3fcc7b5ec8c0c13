import pytest
import torch

from pipeline.config import Adversaries, Hifigan, Istft, Vocoder
from pipeline.vocoder.generator import UnitVocoder


@pytest.fixture(params=["istft", "hifigan", "pitch"])
def settings(request):
    """Each generator, and the one that filters pulses and noise."""
    pitch = request.param == "pitch"
    return Vocoder(
        generator="istft" if pitch else request.param,
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


@pytest.fixture
def vocoder(settings):
    torch.manual_seed(0)
    return UnitVocoder(settings, num_units=5, speakers=["ann", "bob", "cem"])
