"""Stored features and those of the trained tokenizer come from the same windows."""

import numpy as np
from support import save_tiny_ssl

from pipeline.audio.decode import read_utterance, write_audio
from pipeline.audio.utterance import Utterance
from pipeline.config import Features, Ssl
from pipeline.features.encoders.load import load_encoder
from pipeline.features.extraction import ShardWriter
from pipeline.features.stored_frames import frames_of
from pipeline.features.windows import Windowing
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer


def noise(seconds, seed):
    samples = np.random.default_rng(seed).normal(0, 0.3, round(16000 * seconds))
    return samples.astype(np.float32)


def test_extraction_and_tokenization_hear_the_same(tmp_path):
    ssl = load_encoder(save_tiny_ssl(tmp_path / "ssl"))
    utterances = []
    for number, seconds in enumerate([0.4, 2.7]):
        path = tmp_path / f"{number}.flac"
        write_audio(path, noise(seconds, number), 16000)
        utterances.append(Utterance(path.stem, "train", str(path), 0.0, seconds, "s", "t", None))
    features = Features(layers=(2,), max_seconds=1.0, overlap_seconds=0.25)
    output = Artifact(str(tmp_path / "features"))
    ShardWriter(Ssl(model=str(tmp_path / "ssl")), features, output)("a.parquet", utterances)
    stored = frames_of(output.read_table("a.parquet")["layer_02"])

    alone = LayerMix(1, initial=0, initial_mass=0.5, learned=False)
    waveforms = [read_utterance(one, 16000) for one in utterances]
    encoded = FeatureMixer(ssl, (2,), alone, Windowing.of(features)).encode(waveforms)
    in_one_pass = FeatureMixer(ssl, (2,), alone, Windowing(60.0)).encode(waveforms)
    for stored_TD, encoded_TD in zip(stored, encoded, strict=True):
        np.testing.assert_allclose(stored_TD, encoded_TD, atol=2e-3)
    assert np.abs(in_one_pass[1] - encoded[1]).max() > 0.02
