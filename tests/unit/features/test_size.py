import pytest
from support import save_tiny_ssl

from pipeline.config import Features, Ssl
from pipeline.features.size import bytes_per_frame, hidden_size, num_stored_frames


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("microsoft/wavlm-base-plus", 768),
        ("microsoft/wavlm-large", 1024),
        ("facebook/hubert-xlarge-ll60k", 1280),
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
    assert num_stored_frames([1.0, 2.0], features) == frames
