import pytest
from tiny_vocoders import KINDS, tiny_settings, tiny_vocoder


@pytest.fixture(params=KINDS)
def settings(request):
    return tiny_settings(request.param)


@pytest.fixture
def vocoder(settings):
    return tiny_vocoder(settings)
