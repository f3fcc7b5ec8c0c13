"""What the vocoder needs of a corpus is checked on the prepared corpus alone."""

import sys
from contextlib import nullcontext
from subprocess import run

import numpy as np
import pytest
from support import write_corpus

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Utterance
from pipeline.config import Config, ConfigError
from pipeline.storage.artifacts import Artifact
from pipeline.vocoder.material import band_hz, check_material


@pytest.fixture
def corpus(tmp_path):
    utterances = [
        Utterance("a", "train", "a.wav", 0.0, 2.0, "ann", "x"),
        Utterance("b", "train", "b.wav", 0.0, 0.5, "bob", "x"),
        Utterance("c", "valid", "c.wav", 0.0, 1.0, "cem", "x"),
    ]
    return write_corpus(Artifact(str(tmp_path / "corpus")), utterances)


def config(pool=1, **vocoder):
    return Config.model_validate(
        {
            "variant": "v",
            "corpus": {"kind": "manifest", "manifest": "m.jsonl"},
            "vocoder": vocoder,
            "features": {"pool": pool},
            "ssl": {"model": "m", "revision": "abc"},
        }
    )


@pytest.mark.parametrize("workers", [2, 3])
def test_each_worker_needs_a_segment(corpus, workers):
    given = config(batch_size=2)
    cluster = given.cluster.model_copy(update={"training_workers": workers})
    message = r"batch_size 2 leaves some of .*_workers 3 without"
    refused = pytest.raises(ConfigError, match=message) if workers > 2 else nullcontext()
    with refused:
        check_material(given.model_copy(update={"cluster": cluster}), corpus)


def test_a_corpus_that_suits_passes(corpus):
    check_material(config(unseen_speaker="bob"), corpus)
    check_material(config(segment_seconds=0.98), corpus)


@pytest.mark.parametrize(
    ("vocoder", "message"),
    [
        # The speaker of the validation split is not heard in training.
        ({"unseen_speaker": "cem"}, "'cem' is not among the training speakers ann, bob: name one"),
        (
            {
                "generator": "hifigan",
                "hifigan": {"upsample_rates": [8, 8, 4], "upsample_kernels": [16, 16, 8]},
            },
            "multiply to 256, but a unit stands for 320 samples",
        ),
        ({"segment_seconds": 1.5}, r"none of 1 utterances has the 75 frames .*segment_seconds"),
        ({"segment_seconds": 3}, "none of 2 utterances has the 150 frames of a segment"),
    ],
)
def test_a_corpus_that_does_not_suit_is_refused(corpus, vocoder, message):
    with pytest.raises(ConfigError, match=message):
        check_material(config(**vocoder), corpus)


def test_units_of_pooled_frames_need_more_upsampling(corpus):
    rates = {"upsample_rates": [8, 5, 4, 4], "upsample_kernels": [16, 11, 8, 8]}
    check_material(config(pool=2, generator="hifigan", hifigan=rates), corpus)
    check_material(config(pool=2, segment_seconds=0.96), corpus)
    with pytest.raises(ConfigError, match="multiply to 320, but a unit stands for 640 samples"):
        check_material(config(pool=2, generator="hifigan"), corpus)
    with pytest.raises(ConfigError, match="none of 1 utterances has the 25 frames of a segment"):
        check_material(config(pool=2, segment_seconds=1.0), corpus)


def test_the_band_is_that_of_the_recordings_files(tmp_path):
    for name, rate_hz in (("phone", 8000), ("studio", 44100)):
        write_audio(tmp_path / f"{name}.flac", np.zeros(rate_hz), rate_hz)

    def said(name, count):
        return [
            Utterance(f"{name}-{i}", "train", str(tmp_path / f"{name}.flac"), 0.0, 1.0, "s", "x")
            for i in range(count)
        ]

    assert band_hz(said("phone", 50)) == 4000
    assert band_hz([*said("phone", 30), *said("studio", 30)]) == 22050


def test_checking_imports_no_torch():
    code = "import pipeline.vocoder.material, sys; assert 'torch' not in sys.modules"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
