import pytest
import torch

from pipeline.config import Vocoder
from pipeline.vocoder.generator import UnitVocoder


@pytest.fixture
def settings():
    return Vocoder(
        unit_dim=8,
        speaker_dim=4,
        upsample_rates=(20, 16),
        upsample_kernels=(20, 16),
        initial_channels=8,
        resblock_kernels=(3,),
        resblock_dilations=((1,),),
        discriminator_channels=1,
        segment_seconds=0.16,
        batch_size=2,
        steps=6,
        adversarial_from_step=3,
        checkpoint_steps=2,
        log_steps=2,
    )


@pytest.fixture
def vocoder(settings):
    torch.manual_seed(0)
    return UnitVocoder(settings, num_units=5, speakers=["ann", "bob", "cem"])
