"""Stored features and those of the trained tokenizer come from the same windows."""

import numpy as np
import torch
from support import save_tiny_ssl

from pipeline.audio.decode import read_utterance, write_audio
from pipeline.audio.utterance import Utterance
from pipeline.clustering.assignment import assign
from pipeline.config import Features, Ssl
from pipeline.features.encoders.load import load_encoder
from pipeline.features.extraction import ShardWriter
from pipeline.features.stored_frames import frames_of
from pipeline.features.windows import Windowing
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer


def noise(seconds, seed):
    samples = np.random.default_rng(seed).normal(0, 0.3, round(16000 * seconds))
    return samples.astype(np.float32)


def written(folder, *seconds):
    utterances = []
    for number, each in enumerate(seconds):
        path = folder / f"{number}.flac"
        write_audio(path, noise(each, number), 16000)
        utterances.append(Utterance(path.stem, "train", str(path), 0.0, each, "s", "t", None))
    return utterances


def extracted(folder, features, utterances):
    output = Artifact(str(folder / "features"))
    ShardWriter(Ssl(model=str(folder / "ssl")), features, output)("a.parquet", utterances)
    return frames_of(output.read_table("a.parquet")["layer_02"])


def test_extraction_and_tokenization_hear_the_same(tmp_path):
    ssl = load_encoder(save_tiny_ssl(tmp_path / "ssl"))
    utterances = written(tmp_path, 0.4, 2.7)
    features = Features(layers=(2,), max_seconds=1.0, overlap_seconds=0.25)
    stored = extracted(tmp_path, features, utterances)

    alone = LayerMix(1, initial=0, initial_mass=0.5, learned=False)
    waveforms = [read_utterance(one, 16000) for one in utterances]
    encoded = FeatureMixer(ssl, (2,), alone, Windowing.of(features)).encode(waveforms)
    in_one_pass = FeatureMixer(ssl, (2,), alone, Windowing(60.0)).encode(waveforms)
    for stored_TD, encoded_TD in zip(stored, encoded, strict=True):
        np.testing.assert_allclose(stored_TD, encoded_TD, atol=2e-3)
    assert np.abs(in_one_pass[1] - encoded[1]).max() > 0.02


def test_a_narrow_tokenizer_makes_the_units_of_narrow_features_and_nearly_those_of_wide_ones(
    tmp_path,
):
    """In bfloat16, as on a GPU: shards hold every digit, so their units are the tokenizer's own."""
    save_tiny_ssl(tmp_path / "ssl")
    utterances = written(tmp_path, 0.9, 2.7, 1.3, 4.1, 3.3)
    waveforms = [read_utterance(one, 16000) for one in utterances]
    stored = extracted(tmp_path, Features(layers=(2,), precision="bfloat16"), utterances)
    mix = LayerMix(1, initial=0, initial_mass=0.5, learned=False)
    centroids_KD = torch.from_numpy(np.concatenate(stored)[::40].astype(np.float32))

    def tokenizer(precision):
        ssl = load_encoder(tmp_path / "ssl")
        return UnitTokenizer(FeatureMixer(ssl, (2,), mix, precision=precision), centroids_KD).eval()

    tokenizer("bfloat16").save_pretrained(tmp_path / "narrow")
    narrow = UnitTokenizer.from_pretrained(tmp_path / "narrow").place("cpu")
    assert narrow.mixer.ssl.dtype == torch.bfloat16
    units = narrow.encode(waveforms, batch_seconds=10.0)
    for stored_TD, units_T in zip(stored, units, strict=True):
        frames_TD = torch.from_numpy(stored_TD.astype(np.float32))
        np.testing.assert_array_equal(assign(frames_TD, centroids_KD), units_T)
    wide = tokenizer("auto").place("cpu")
    assert wide.mixer.ssl.dtype == torch.float32
    others = np.concatenate(wide.encode(waveforms)) != np.concatenate(units)
    assert 0 < others.mean() < 0.05
