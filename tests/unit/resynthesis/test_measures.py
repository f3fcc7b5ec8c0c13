"""The models of the extra `judges`: each of them is run where it is installed."""

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.resynthesis import measures
from pipeline.resynthesis.measures import PACKAGES, open_measures, require_packages

RATE = 16000


def voice(hz=120, seconds=1.5, rise=40):
    times = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (hz * times + rise * times**2)
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * times)
    return (loud * sum(0.25 / k * np.sin(k * phase) for k in range(1, 15))).astype(np.float32)


@pytest.fixture
def opened(request):
    """The measure of that name, where its packages are installed."""
    for package in PACKAGES[request.param]:
        pytest.importorskip(package)
    return open_measures([request.param])


@pytest.mark.parametrize("opened", ["dnsmos"], indirect=True)
def test_dnsmos_is_a_grade_of_the_speech_alone(opened):
    noise = np.random.default_rng(0).normal(0, 0.3, 2 * RATE)
    found = opened(noise, 4 * voice())  # beyond [-1, 1]
    assert found == opened(voice(), 4 * voice())
    assert 1 <= opened(noise, noise)["dnsmos"].value < found["dnsmos"].value <= 5


@pytest.mark.parametrize("opened", ["similarity"], indirect=True)
def test_a_speaker_is_most_similar_to_himself(opened):
    same, other = opened(voice(), voice()), opened(voice(), voice(320, rise=10))
    assert same["speaker_similarity"].value == pytest.approx(1, abs=1e-4)
    assert 0 <= other["speaker_similarity"].value < 0.99
    assert np.isnan(opened(voice(), np.zeros(RATE, np.float32))["speaker_similarity"].value)


@pytest.mark.parametrize("opened", ["crepe"], indirect=True)
def test_crepe_hears_f0_and_voicing(opened):
    semitone = 2 ** (1 / 12)
    steady = opened(voice(150, 0.5, rise=0), voice(150 * semitone, 0.5, rise=0))
    assert steady["crepe_f0_rmse_cents"].value == pytest.approx(100, abs=15)
    assert steady["crepe_f0_voicing_error"].value < 0.2
    same = opened(voice(seconds=0.5), voice(seconds=0.5))
    assert same["crepe_f0_correlation"].value == pytest.approx(1)


def test_no_measure_says_nothing():
    assert open_measures(())(voice(), voice()) == {}


def test_missing_packages_are_named_with_what_installs_them(monkeypatch):
    absent = {"onnxruntime", "torchcrepe"}
    monkeypatch.setattr(measures, "find_spec", lambda name: None if name in absent else name)
    expected = (
        r"\['dnsmos', 'crepe'\] needs the packages onnxruntime, torchcrepe: pip install 'dkm-"
    )
    with pytest.raises(ConfigError, match=expected):
        require_packages(("dnsmos", "crepe"))
    require_packages(("similarity",))
