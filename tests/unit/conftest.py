"""Vocoders that a network and its training are tested with, of every kind."""

import pytest
from tiny_vocoders import KINDS, tiny_settings, tiny_vocoder


@pytest.fixture(params=KINDS)
def vocoder_settings(request):
    return tiny_settings(request.param)


@pytest.fixture
def vocoder(vocoder_settings):
    return tiny_vocoder(vocoder_settings)
