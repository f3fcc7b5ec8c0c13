"""Small things that several tests make: an SSL model on disk, a corpus, its features."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
import torch
from safetensors.torch import save
from transformers import (
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Segment, Utterance, to_table
from pipeline.config import Config
from pipeline.corpus.parts import part_digests
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import SslModel, pad_waveforms
from pipeline.features.windows import encode_in_windows
from pipeline.graph.graph import PARTS
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import METRICS, Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

SAMPLE_RATE_HZ = 16000
LETTERS = "ab"
SMALL_ASR = {
    "embedding_dim": 16,
    "dim": 16,
    "heads": 2,
    "feedforward_dim": 32,
    "encoder_layers": 1,
    "conv_kernel": 3,
}


def save_tiny_ssl(folder: Path) -> Path:
    """A WavLM of 2 layers and 16 dimensions with random weights, as transformers saves it."""
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def save_tiny_whisper(folder: Path, seconds: int = 2, layers: int = 2, **settings: float) -> Path:
    """A whole Whisper of 16 dimensions and positions for `seconds`, as transformers saves it."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16,
        encoder_layers=layers,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=50,
        max_source_positions=50 * seconds,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        **settings,
    )
    model = WhisperForConditionalGeneration(config)
    # transformers' small random weights would hide what a layer does.
    encoder = model.model.encoder
    for part, spread in ((encoder.conv1, 0.1), (encoder.conv2, 0.3), (encoder.layers, 0.3)):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=seconds).save_pretrained(folder)
    return folder


def save_tiny_tokenizer(folder: Path, seed: int = 0) -> Path:
    """`folder/tokenizer` over `save_tiny_ssl`: 8 units, which differ between tones and noise."""
    ssl = load_encoder(save_tiny_ssl(folder / "ssl"))
    mixer = FeatureMixer(ssl, (0, 2), LayerMix(2, 1, 0.8, learned=False)).eval()
    (folder / "tones").mkdir(parents=True)
    audio = [one.audio for one in tone_utterances(folder / "tones", f"tokenizer-{seed}", 8)]
    frames_TD = np.concatenate(
        mixer.encode([soundfile.read(path, dtype="float32")[0] for path in audio])
    )
    chosen = np.random.default_rng(seed).choice(len(frames_TD), 8, replace=False)
    UnitTokenizer(mixer, torch.from_numpy(frames_TD[chosen])).save_pretrained(folder / "tokenizer")
    return folder


def tone_utterances(folder: Path, split: str, number: int) -> list[Utterance]:
    """FLAC files of random strings of two letters; each letter is 0.25 s of its own tone."""
    generator = np.random.default_rng(sum(map(ord, split)))
    utterances = []
    for index in range(number):
        text = "".join(generator.choice(list(LETTERS), generator.integers(2, 5)))
        times = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
        tones = [np.sin(2 * np.pi * (300 + 700 * LETTERS.index(letter)) * times) for letter in text]
        samples = 0.3 * np.concatenate(tones) + 0.01 * generator.normal(size=len(times) * len(text))
        path = folder / f"{split}-{index:03d}.flac"
        write_audio(str(path), samples.astype(np.float32), SAMPLE_RATE_HZ)
        segments = tuple(Segment(i / 4, (i + 1) / 4, letter) for i, letter in enumerate(text))
        utterances.append(
            Utterance(path.stem, split, str(path), 0.0, len(text) / 4, "speaker", text, segments)
        )
    return utterances


def write_tone_manifest(folder: Path, numbers: dict[str, int]) -> Path:
    """A new folder with this number of tones for each split, and a manifest of their files.

    Returns:
        the manifest, a JSON Lines file in `folder`.
    """
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "utt_id": one.utt_id,
                "split": one.split,
                "speaker": one.speaker,
                "audio": Path(one.audio).name,
                "text": one.text,
                "alignment": [asdict(segment) for segment in one.alignment],
            }
        )
        for split, number in numbers.items()
        for one in tone_utterances(folder, split, number)
    ]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_corpus(output: Artifact, utterances: list[Utterance]) -> Artifact:
    output.write_table("corpus.parquet", to_table(utterances))
    output.write_json(PARTS, part_digests(sorted(utterances, key=lambda each: each.split)))
    return output


def features_of_splits(output: Artifact) -> dict[str, Artifact]:
    """An output of `write_features` as a training reads it."""
    return {f"extract_features/{split}": output for split in ("train", "valid")}


def write_features(
    output: Artifact, ssl_folder: Path, utterances: list[Utterance], pool: int = 1
) -> Artifact:
    """Features of all layers, directly from the model, in the layout of the extraction stage."""
    ssl = load_encoder(ssl_folder, pool=pool)
    layers = tuple(range(ssl.num_layers + 1))
    for split in sorted({utterance.split for utterance in utterances}):
        rows = []
        for utterance in (u for u in utterances if u.split == split):
            hidden_LTD = hidden_states(ssl, utterance, layers)
            columns = {
                table_schemas.layer_column(layer): list(hidden_LTD[layer].astype(np.float16))
                for layer in layers
            }
            rows.append(
                {
                    "utt_id": utterance.utt_id,
                    "split": split,
                    "num_frames": hidden_LTD.shape[1],
                    **{name: [list(frame) for frame in frames] for name, frames in columns.items()},
                }
            )
        table = pa.Table.from_pylist(rows, schema=table_schemas.features(layers))
        output.write_table(f"shards/{split}-00000.parquet", table, row_group_size=4)
    return output


def hidden_states(ssl: SslModel, utterance: Utterance, layers: tuple[int, ...]) -> np.ndarray:
    samples, _ = soundfile.read(utterance.audio, dtype="float32")
    with torch.inference_mode():
        return ssl(*pad_waveforms([samples]), layers).hidden_LBTD[:, 0].numpy()


def encode_at_once(encode, *arguments, **options) -> list[np.ndarray]:
    """`encode_in_windows` with what makes frames of a batch without waiting."""
    parts = encode_in_windows(
        lambda batch: [partial(np.asarray, frames) for frames in encode(batch)],
        *arguments,
        **options,
    )
    return [part() for part in parts]


def write_codebook(output: Artifact, features: Artifact, layer: int, num_units: int) -> Artifact:
    """Evenly picked frames as centroids: good enough to train from."""
    column = table_schemas.layer_column(layer)
    rows = features.read_table("shards/train-00000.parquet", columns=[column])[column].to_pylist()
    frames_ND = torch.tensor([frame for row in rows for frame in row], dtype=torch.float32)
    centroids_KD = frames_ND[:: len(frames_ND) // num_units][:num_units].clone()
    distances = torch.cdist(frames_ND, centroids_KD).min(dim=1).values.square()
    tensors = {"centroids": centroids_KD, "calibration_frames": frames_ND[:100].clone()}
    with output.write("codebook.safetensors") as file:
        file.write(save(tensors))
    output.write_json(METRICS, {"mean_squared_distance": float(distances.mean())})
    return output


def tiny_config(ssl_folder: Path, **sections) -> Config:
    """All five variants start from this; `sections` are merged over it."""
    values = {
        "variant": "tiny",
        "corpus": {"kind": "manifest", "manifest": "unused.jsonl"},
        "ssl": {"model": str(ssl_folder)},
        "codebook": {"num_units": 8, "layer": 2},
        "quantizer": {"tau_start": 1.0},
        "asr": SMALL_ASR,
        "training": {
            "phases": [{"epochs": 2, "warmup_steps": 2}],
            "batch_seconds": 2.5,
            "checkpoint_steps": 2,
            "log_steps": 1,
        },
        "cluster": {"extraction_workers": 1, "codebook_workers": 1},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return Config.model_validate(values)


def run_shards_here(worker_class, arguments, shards, *_more):
    """What `run_shards` does, without Ray: one worker, in this process."""
    worker = worker_class(**arguments)
    return [worker(shard.name, list(shard.utterances)) for shard in shards]
