"""Hidden states of a corpus on disk, next to the bare model and to one utterance at a time.

Shapes: B utterances, S samples, L layers, T frames, D dimensions.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arithmetic import dense_rate, operations_by_length
from benchmarks.joint_step import SAMPLE_RATE_HZ, TINY_WAVLM
from benchmarks.measure import Cost
from benchmarks.record import Record
from benchmarks.ssl_forward import LARGE

SHARDS_IN_FLIGHT = 3  # as many threads as `pipeline.runtime.shard_pool` gives a worker
PAIRS = (("bare model", "ours"), ("one at a time", "ours"))


@dataclass(frozen=True)
class Setting:
    """How much audio, of what lengths, through what model (a WavLM; base where not given)."""

    utterances: int
    least_seconds: float
    most_seconds: float
    batch_seconds: float
    wavlm: dict[str, Any]


TINY = Setting(6, 0.5, 1.5, 2.0, TINY_WAVLM)
SIZES = {
    ("full", "cpu"): Setting(200, 1.0, 20.0, 10.0, {}),
    ("full", "cuda"): Setting(1000, 1.0, 20.0, 160.0, LARGE),
    ("small", "cpu"): TINY,
    ("small", "cuda"): TINY,
}


def run(size: str, device: torch.device, *, without_ray: bool = False) -> Record:
    setting = SIZES[size, device.type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_model(setting, folder / "ssl")
        waveforms = write_audio(setting, folder)
        seconds_of_audio = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
        stage = extract_here if without_ray else extract
        features, ours_seconds = stage(setting, folder, model)
        contenders = {
            "bare model": partial(bare_model, setting, model, waveforms, device),
            "one at a time": partial(one_at_a_time, model, folder, device),
        }
        seconds = {"ours": ours_seconds} | {name: timed(run) for name, run in contenders.items()}
        checks = {
            f"{name}: seconds of audio a second": seconds_of_audio / found
            for name, found in seconds.items()
        }
        checks |= shares(setting, device, waveforms, seconds)
        checks |= sizes(features, folder / "npy") | reads(features)
    what = {**WHAT, **(WITHOUT_RAY if without_ray else {})}
    costs = {name: Cost(what[name], 1.0, (found,), None) for name, found in seconds.items()}
    described = {**asdict(setting), "seconds_of_audio": seconds_of_audio}
    name = "extraction_without_ray" if without_ray else "extraction"
    return Record(name, device.type, size, described, costs, {}, PAIRS, checks)


WHAT = {
    "ours": "the stage: FLAC files to Parquet shards of all layers, two workers of one CPU",
    "bare model": "batches by length of audio in memory through the same model",
    "one at a time": "transformers' forward for each FLAC file, a .npy file for each utterance",
}
WITHOUT_RAY = {
    "ours": "the stage's worker, in this process: FLAC files to Parquet shards of all layers"
}


def save_model(setting: Setting, folder: Path) -> Path:
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    torch.manual_seed(0)
    WavLMModel(WavLMConfig(**setting.wavlm)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def write_audio(setting: Setting, folder: Path) -> list[np.ndarray]:
    """Noise as FLAC files with a manifest; returns the training split.

    What it sounds like costs no model any time.
    """
    import json

    import soundfile

    generator = np.random.default_rng(0)
    lengths = generator.uniform(setting.least_seconds, setting.most_seconds, setting.utterances)
    rows, waveforms = [], []
    for number, seconds in enumerate(lengths):
        samples = generator.normal(0, 0.1, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
        path = folder / f"{number:04d}.flac"
        soundfile.write(path, samples, SAMPLE_RATE_HZ)
        # The peers read what the stage is timed on: the training split.
        if split_of(number) == "train":
            waveforms.append(soundfile.read(path, dtype="float32")[0])
        row = {
            "utt_id": path.stem,
            "split": split_of(number),
            "audio": str(path),
            "speaker": "s",
            "text": "a",
        }
        rows.append(json.dumps(row))
    (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return waveforms


def split_of(number: int) -> str:
    """A corpus needs three splits; nearly everything is for training."""
    return {0: "valid", 1: "test"}.get(number, "train")


def extract(setting: Setting, folder: Path, model: Path) -> tuple[Any, float]:
    """The stage as `run` starts it, with its workers' processes warm; its output and seconds."""
    import ray

    from benchmarks.codebook import warm_up
    from pipeline.config import Config
    from pipeline.graph.stage import StageContext
    from pipeline.log.stage_log import StageLog
    from pipeline.runtime.session import ray_session
    from pipeline.storage.artifacts import Artifact
    from tasks import extract_features, prepare_corpus

    layers = range(setting.wavlm.get("num_hidden_layers", 12) + 1)
    config = Config.model_validate(
        {
            "variant": "benchmark",
            "corpus": {"kind": "manifest", "manifest": str(folder / "manifest.jsonl")},
            "ssl": {"model": str(model)},
            "features": {"layers": list(layers), "batch_seconds": setting.batch_seconds},
        }
    )
    outputs = {
        name: Artifact(str(folder / name)) for name in ("prepare_corpus", "extract_features")
    }
    split = config.corpus.splits.train
    with ray_session(config.cluster):
        output = outputs["prepare_corpus"]
        prepare_corpus.STAGE.run(StageContext(config, output, {}, StageLog(output)))
        ray.get([ray.remote(warm_up).remote() for _ in range(config.cluster.extraction_workers)])
        log = StageLog(outputs["extract_features"])
        context = StageContext(config, outputs["extract_features"], outputs, log, split=split)
        seconds = timed(partial(extract_features.STAGE.run, context))
    return outputs["extract_features"], seconds


def extract_here(setting: Setting, folder: Path, model: Path) -> tuple[Any, float]:
    """One worker of the stage with as many shards at once as it has there; its output and seconds."""
    import soundfile

    from pipeline.audio.utterance import Utterance
    from pipeline.config import Features, Ssl
    from pipeline.corpus.shards import plan_shards
    from pipeline.features.extraction import ShardWriter
    from pipeline.storage.artifacts import Artifact

    layers = range(setting.wavlm.get("num_hidden_layers", 12) + 1)
    features = Features(layers=tuple(layers), batch_seconds=setting.batch_seconds)
    output = Artifact(str(folder / "extract_features"))
    utterances = [
        Utterance(path.stem, "train", str(path), 0.0, soundfile.info(path).duration, "s", "a", None)
        for path in sorted(folder.glob("*.flac"))
        if split_of(int(path.stem)) == "train"
    ]
    write = ShardWriter(Ssl(model=str(model)), features, output)
    shards = plan_shards(utterances, features.shard_utterances)[::-1]

    def stage() -> None:
        with ThreadPoolExecutor(SHARDS_IN_FLIGHT) as pool:
            list(pool.map(lambda shard: write(shard.name, shard.utterances), shards))

    return output, timed(stage)


def bare_model(
    setting: Setting, model: Path, waveforms: Sequence[np.ndarray], device: torch.device
) -> None:
    """What cannot be avoided: the forward passes, in the batches that the stage would make."""
    from pipeline.features.batching import length_batches
    from pipeline.features.encoders.load import load_encoder
    from pipeline.features.inference import Inference, dtype_on

    ssl = load_encoder(model)
    ssl.narrow(dtype_on(device, "auto"))
    inference, layers = Inference(ssl.to(device)), tuple(range(ssl.num_layers + 1))
    lengths = [inference.padded_samples(len(waveform)) for waveform in waveforms]
    for batch in length_batches(lengths, int(setting.batch_seconds * SAMPLE_RATE_HZ)):
        inference.start([waveforms[i] for i in batch], layers, lambda hidden: hidden[:1])
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shares(
    setting: Setting,
    device: torch.device,
    waveforms: Sequence[np.ndarray],
    seconds: dict[str, float],
) -> dict[str, float]:
    """Of the device's dense rate, in the precision of the stage, what each contender used."""
    from transformers import WavLMConfig, WavLMModel

    from pipeline.features.inference import dtype_on

    counted = operations_by_length(WavLMModel(WavLMConfig(**setting.wavlm)), SAMPLE_RATE_HZ)
    needed = sum(counted(len(waveform) / SAMPLE_RATE_HZ) for waveform in waveforms)
    rate = dense_rate(device, dtype_on(device, "auto"))
    return {
        "dense product, 10^12 operations a second": rate / 1e12,
        **{f"{name}: share of the dense rate": needed / s / rate for name, s in seconds.items()},
    }


def one_at_a_time(model: Path, folder: Path, device: torch.device) -> None:
    """How fairseq and ESPnet dump features, but for all layers at once."""
    import soundfile
    from transformers import WavLMModel

    (folder / "npy").mkdir()
    wavlm = WavLMModel.from_pretrained(model).to(device).eval()
    with torch.inference_mode():
        for path in sorted(folder.glob("*.flac")):
            samples_S, _ = soundfile.read(path, dtype="float32")
            samples_1S = torch.from_numpy(samples_S)[None].to(device)
            hidden = torch.cat(wavlm(samples_1S, output_hidden_states=True).hidden_states)
            np.save(folder / "npy" / f"{path.stem}.npy", hidden.cpu().numpy())


def timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def sizes(features: Any, npy: Path) -> dict[str, float]:
    """Bytes of the shards over bytes of the float32 .npy files."""
    shards = [n for n in features.names("shards") if n.endswith(".parquet")]
    stored = sum(features.filesystem.size(features.path(name)) for name in shards)
    return {"bytes over .npy bytes": stored / sum(path.stat().st_size for path in npy.iterdir())}


def reads(features: Any) -> dict[str, float]:
    """Seconds to read all layers over seconds to read one, best of three.

    Of the folder at once, as pandas and Polars read it, and of one shard after the other.
    """
    from pyarrow import dataset

    from pipeline.storage.table_schemas import layer_column

    shards = [n for n in features.names("shards") if n.endswith(".parquet")]
    names = features.read_table(shards[0]).column_names
    layers = [name for name in names if name.startswith(layer_column(0)[:-2])]

    def folder_at_once(columns: list[str]) -> None:
        dataset.dataset(features.path("shards"), format="parquet").to_table(columns)

    def shard_after_shard(columns: list[str]) -> None:
        for shard in shards:
            features.read_table(shard, columns)

    ratios = {}
    for way in (folder_at_once, shard_after_shard):
        every, one = (
            min(timed(partial(way, columns)) for _ in range(3)) for columns in (layers, layers[:1])
        )
        described = f"{way.__name__.replace('_', ' ')}: {len(layers)} layers over one, seconds"
        ratios[described] = every / one
    return ratios
