import pytest
from support import save_tiny_ssl
from transformers import BertConfig, Wav2Vec2FeatureExtractor

from pipeline.features.encoders.load import load_encoder


def test_a_model_of_another_family_is_refused_by_its_name(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ssl\.model is a 'bert' model; name one of wavlm"):
        load_encoder(tmp_path)


def test_a_model_of_another_sample_rate_is_refused(tmp_path):
    save_tiny_ssl(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs audio at 8000 Hz"):
        load_encoder(tmp_path)
