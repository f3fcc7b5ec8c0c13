import pytest
from support import save_tiny_ssl, save_tiny_whisper, write_corpus

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.audio.utterance import Utterance
from pipeline.config import Config, ConfigError, Features, Ssl
from pipeline.features.encoders.load import load_encoder
from pipeline.features.size import (
    bytes_per_frame,
    check_num_units,
    grid_of,
    hidden_size,
    num_stored_frames,
)
from pipeline.storage.artifacts import Artifact

HUB = {"model": "m", "revision": "abc"}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("microsoft/wavlm-base-plus", 768),
        ("microsoft/wavlm-large", 1024),
        ("facebook/hubert-xlarge-ll60k", 1280),
        ("openai/whisper-base.en", 512),
        ("openai/whisper-large-v3", 1280),
    ],
)
def test_the_name_of_a_hub_model_suggests_its_size(name, size):
    assert hidden_size(Ssl(model=name, revision="a1")) == size


def test_a_frame_has_float16_values_of_each_layer(tmp_path):
    ssl = Ssl(model=str(save_tiny_ssl(tmp_path / "ssl")))
    assert bytes_per_frame(Features(layers=(0, 2)), ssl) == 2 * 16 * 2


@pytest.mark.parametrize(("per_second", "frames"), [(None, 49 + 99), (25.0, 24 + 50), (0.1, 2)])
def test_frames_are_all_or_a_sample_of_each_utterance(per_second, frames):
    features = Features(sample_frames_per_second=per_second)
    assert num_stored_frames([1.0, 2.0], features, SSL_GRID) == frames


def config(ssl, num_units=64, **features):
    return Config.model_validate(
        {
            "variant": "v",
            "corpus": {"kind": "manifest", "manifest": "m.jsonl"},
            "ssl": ssl,
            "codebook": {"num_units": num_units},
            "training": {"phases": [{"epochs": 1, "ssl": "finetuned"}]},
            "features": features,
            "vocoder": {"enabled": False},
        }
    )


def test_more_units_than_the_training_split_has_frames_are_refused(tmp_path):
    utterances = [
        Utterance("a", "train", "a.wav", 0.0, 2.0, "ann", "x"),  # 99 frames
        Utterance("b", "valid", "b.wav", 0.0, 9.0, "ann", "x"),
    ]
    corpus = write_corpus(Artifact(str(tmp_path)), utterances)

    check_num_units(config(HUB, 99), corpus)
    with pytest.raises(ConfigError, match=r"num_units 100 needs .* the training split stores 99"):
        check_num_units(config(HUB, 100), corpus)
    with pytest.raises(ConfigError, match="the training split stores 20"):
        check_num_units(config(HUB, 99, sample_frames_per_second=10), corpus)
    check_num_units(config(HUB, 24, pool=4), corpus)
    with pytest.raises(ConfigError, match=r"num_units 25 needs .* the training split stores 24"):
        check_num_units(config(HUB, 25, pool=4), corpus)


def test_a_whisper_in_a_folder_has_its_own_grid_and_size(tmp_path):
    ssl = Ssl(model=str(save_tiny_whisper(tmp_path)))
    own = grid_of(config({"model": str(tmp_path)}))
    assert own == load_encoder(tmp_path).grid == FrameGrid(320, 320, 16000, -160, 100)
    pooled = grid_of(config({"model": str(tmp_path)}, pool=4))
    assert pooled == load_encoder(tmp_path, pool=4).grid == FrameGrid(1280, 1280, 16000, -160, 25)
    assert bytes_per_frame(Features(layers=(0, 2)), ssl) == 2 * 16 * 2


def test_a_model_in_a_folder_has_its_own_grid(tmp_path):
    assert grid_of(config(HUB)) == SSL_GRID
    model = load_encoder(save_tiny_ssl(tmp_path / "ssl"))
    assert grid_of(config({"model": str(tmp_path / "ssl")})) == model.grid
