"""Two training workers of one thread each against one, over the same batches; where the rest goes.

They meet over gloo, without Ray, as DistributedDataParallel has them meet on CPUs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from benchmarks.joint_step import KMEANS_LOSS_WEIGHT, SAMPLE_RATE_HZ, _asr_settings
from benchmarks.joint_step import Setting as StepSetting
from benchmarks.measure import Cost
from benchmarks.record import Record

if TYPE_CHECKING:
    from pipeline.training.joint_model import JointModel
    from pipeline.training.loading import Loader, Request

PAIRS = (("one worker", "two workers"),)
# Utterances are this much shorter and longer than the mean, evenly.
SPREAD = 0.5


@dataclass(frozen=True)
class Setting:
    """So many steps over batches of `batch_seconds`, of utterances of `seconds` in the mean.

    One worker and two take turns, so that a machine that slows down slows both.
    """

    batch_seconds: float
    seconds: float
    rounds: int
    turns: int
    tiny: bool


SIZES = {
    "full": Setting(80.0, 4.0, 12, turns=3, tiny=False),
    "small": Setting(4.0, 1.0, 3, turns=1, tiny=True),
}
SMALL_WAVLM = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "conv_dim": (64,) * 7,
}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    described = {**asdict(setting), "models": "tiny" if setting.tiny else "WavLM of 2 x 128"}
    one, two = in_turn(size, setting.turns)
    costs = {
        "one worker": Cost("a step of dkm_full on one thread", 1.0, tuple(one[0]["step"]), None),
        "two workers": Cost(
            "the same step on two, of one thread each", 1.0, _slowest(two, "step"), None
        ),
    }
    return Record("workers", device.type, size, described, costs, {}, PAIRS, losses(one, two))


def losses(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> dict[str, float]:
    """Where two workers' time goes, in shares of it; what is left is the half of one's time."""
    total = sum(_slowest(two, "step"))
    alone = [sum(rank["alone"]) for rank in two]
    mean, slowest = statistics.mean(alone), sum(_slowest(two, "alone"))
    return {
        "throughput of two over one": sum(one[0]["step"]) / total,
        "gradient exchange": (total - slowest) / total,
        "imbalance": (slowest - mean) / total,
        "work that does not halve": (mean - sum(one[0]["alone"]) / 2) / total,
        "data wait": sum(_slowest(two, "waited")) / total,
    }


def _slowest(ranks: list[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(max(seconds) for seconds in zip(*(rank[name] for rank in ranks), strict=True))


def in_turn(size: str, turns: int) -> list[list[dict[str, Any]]]:
    """What each process of one worker found, and of two, over all turns."""
    found: list[list[dict[str, Any]]] = [[{}], [{}, {}]]
    for _ in range(turns):
        for ranks in found:
            for rank, more in zip(ranks, measured(len(ranks), size), strict=True):
                for name, seconds in more.items():
                    rank[name] = rank.get(name, []) + seconds
    return found


def measured(world_size: int, size: str) -> list[dict[str, Any]]:
    """What each of so many processes found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.workers", folder, size, str(world_size)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen([*command, str(rank)], env=environment) for rank in range(world_size)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"one of {world_size} workers failed: see above")
        return [
            json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8"))
            for rank in range(world_size)
        ]


def main(folder: Path, size: str, world_size: int, rank: int) -> None:
    """One worker: steps with the exchange of gradients, and as many without."""
    from pipeline.training.worker import Worker

    torch.set_num_threads(1)
    setting, worker = SIZES[size], Worker(rank, world_size)
    if world_size > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size
        )
    torch.manual_seed(0)
    model = _model(setting)
    (folder / f"audio-{rank}").mkdir()
    data = _data(setting, folder / f"audio-{rank}", worker)
    wrapped = worker.prepare(model)
    found: dict[str, list[float]] = {"waited": []}
    for name, stepped in (("step", wrapped), ("alone", model)):
        found[name] = _steps(stepped, model, data, worker, found["waited"])
    found["waited"] = found["waited"][: setting.rounds]
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    if world_size > 1:
        distributed.destroy_process_group()


def _steps(
    stepped: torch.nn.Module,
    model: "JointModel",
    data: "tuple[Loader, list[Request]]",
    worker: Any,
    waits: list[float],
) -> list[float]:
    """Seconds of each step, the second time round; all workers begin each together."""
    groups = [{"params": parameters} for parameters in model.parameter_groups().values()]
    optimizer = torch.optim.AdamW(groups, lr=1e-5)
    loader, requests = data
    batches = loader.read([*requests, *requests])
    taken, waited = [], []
    for _ in range(2 * len(requests)):
        worker.barrier()
        started = time.perf_counter()
        [(inputs, _)] = next(batches)
        waited.append(time.perf_counter() - started)
        sums = stepped(inputs, 1.0, 1)
        loss = sums["ctc"] + sums["attention"] + KMEANS_LOSS_WEIGHT * sums["kmeans"] / 50
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - started)
    waits.extend(waited[len(requests) :])
    return taken[len(requests) :]


def _model(setting: Setting) -> "JointModel":
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    from benchmarks.joint_step import TINY_WAVLM
    from pipeline.asr.model import AsrModel
    from pipeline.asr.text_pieces import Characters
    from pipeline.config import Asr
    from pipeline.features.encoders.convolutional import ConvolutionalEncoder
    from pipeline.quantizer.dkm import DifferentiableKMeans
    from pipeline.quantizer.layer_mix import LayerMix
    from pipeline.training.joint_model import JointModel

    backbone = WavLMModel(WavLMConfig(**(TINY_WAVLM if setting.tiny else SMALL_WAVLM)))
    ssl = ConvolutionalEncoder(backbone, Wav2Vec2FeatureExtractor(do_normalize=False))
    ssl.freeze_front_end()
    mix = LayerMix(ssl.num_layers + 1, ssl.num_layers, 0.8, learned=True)
    tiny = _asr_settings(StepSetting(1, 1.0, 8, 1, tiny=True))
    asr = AsrModel(tiny if setting.tiny else Asr(), 64, None, Characters("abcdefgh "))
    quantizer = DifferentiableKMeans(
        torch.randn(64, ssl.hidden_size), 0.1, sigma_learned=False, mean_squared_distance=1.0
    )
    return JointModel(ssl, tuple(range(ssl.num_layers + 1)), mix, quantizer, asr).train()


def _data(setting: Setting, folder: Path, worker: Any) -> "tuple[Loader, list[Request]]":
    """FLAC files of noise, which every worker has for itself, and its shares of the batches."""
    import soundfile

    from pipeline.audio.utterance import Utterance
    from pipeline.training.batches import epoch_batches
    from pipeline.training.inputs import AudioSource, Example
    from pipeline.training.loading import Loader, Request

    number = round(setting.rounds * setting.batch_seconds / setting.seconds)
    examples = []
    for index in range(number):
        seconds = setting.seconds * (1 - SPREAD + 2 * SPREAD * index / number)
        path = str(folder / f"{index}.flac")
        noise = 0.1 * torch.randn(int(seconds * SAMPLE_RATE_HZ)).clamp(-3, 3)
        soundfile.write(path, noise.numpy(), SAMPLE_RATE_HZ)
        utterance = Utterance(str(index), "train", path, 0.0, seconds, "s", "a", ())
        examples.append(Example(utterance, (1, 2, 3)))
    durations = [example.utterance.duration for example in examples]
    batches = epoch_batches(durations, setting.batch_seconds, seed=0, epoch=0)[: setting.rounds]
    shares = [batch.share(worker.rank, worker.world_size, 0, 1) for batch in batches]
    source = AudioSource(SAMPLE_RATE_HZ, cache_bytes=1)
    requests = [Request("train", (replace(share, counted=True),)) for share in shares]
    return Loader(source, {"train": examples}, 0, worker.device), requests


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
