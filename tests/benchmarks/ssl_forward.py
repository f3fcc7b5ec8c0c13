"""Hidden states of audio in memory, next to transformers' own batches and to the bare arithmetic.

Shapes: B utterances, S samples, L layers, T frames, D dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.arithmetic import dense_rate, operations_by_length
from benchmarks.joint_step import SAMPLE_RATE_HZ, TINY_WAVLM
from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record
from pipeline.features.batching import length_batches
from pipeline.features.compiled import compile_blocks
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.inference import Inference, dtype_on
from pipeline.features.ssl import pad_waveforms

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
WORK = ("equal lengths", "mixed lengths")
PAIRS = tuple(
    (f"{work}, {left}", f"{work}, ours")
    for work in WORK
    for left in ("ours uncompiled", "transformers")
)


@dataclass(frozen=True)
class Setting:
    """A batch of equal utterances of which two layers are wanted; mixed ones, of which all are."""

    equal: int
    equal_seconds: float
    mixed: int
    mixed_seconds: tuple[float, float]
    batch_seconds: float
    rounds: int
    wavlm: dict[str, Any]


TINY = Setting(2, 0.5, 4, (0.3, 1.0), 2.0, 2, TINY_WAVLM)
SIZES = {
    ("full", "cpu"): Setting(2, 5.0, 20, (1.0, 10.0), 10.0, 3, {}),
    ("full", "cuda"): Setting(16, 10.0, 400, (1.0, 20.0), 160.0, 5, LARGE),
    ("small", "cpu"): TINY,
    ("small", "cuda"): TINY,
}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size, device.type]
    dtype = dtype_on(device, "auto")
    work = made_work(setting)
    contenders, left_out = gather(
        {
            f"{name}, {who}": partial(build, setting, device, *part)
            for name, part in work.items()
            for who, build in builders(device).items()
        }
    )
    found = costs(contenders, device, setting.rounds)
    counted = operations_by_length(wavlm(setting), SAMPLE_RATE_HZ)
    rate = dense_rate(device, dtype)
    checks = {"dense product, 10^12 operations a second": rate / 1e12}
    for name, cost in found.items():
        waveforms, _ = work[name.rpartition(", ")[0]]
        seconds = [len(waveform) / SAMPLE_RATE_HZ for waveform in waveforms]
        best = min(cost.seconds)
        checks[f"{name}: seconds of audio a second"] = sum(seconds) / best
        checks[f"{name}: share of the dense rate"] = sum(map(counted, seconds)) / best / rate
    described = {**asdict(setting), "precision": str(dtype).removeprefix("torch.")}
    return Record("ssl_forward", device.type, size, described, found, left_out, PAIRS, checks)


def made_work(setting: Setting) -> dict[str, tuple[list[np.ndarray], tuple[int, ...]]]:
    """Noise, and the layers that are wanted of it."""
    generator = np.random.default_rng(0)
    highest = setting.wavlm.get("num_hidden_layers", 12)
    mixed = generator.uniform(*setting.mixed_seconds, setting.mixed)
    waveforms = [
        [generator.normal(0, 0.1, int(s * SAMPLE_RATE_HZ)).astype(np.float32) for s in lengths]
        for lengths in ([setting.equal_seconds] * setting.equal, mixed)
    ]
    layers = ((highest // 2, highest), tuple(range(highest + 1)))
    return dict(zip(WORK, zip(waveforms, layers, strict=True), strict=True))


def wavlm(setting: Setting) -> nn.Module:
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    return WavLMModel(WavLMConfig(**setting.wavlm)).eval()


def ours(
    setting: Setting,
    device: torch.device,
    waveforms: list[np.ndarray],
    layers: tuple[int, ...],
    *,
    compiled: bool,
) -> Contender:
    """As extraction and tokenizers do it, to float16 on the host."""
    from transformers import Wav2Vec2FeatureExtractor

    ssl = ConvolutionalEncoder(wavlm(setting), Wav2Vec2FeatureExtractor(do_normalize=True)).eval()
    ssl.narrow(dtype_on(device, "auto"))
    if compiled:
        compile_blocks(ssl.parts_by_length(), fixed_lengths=True)
    inference = Inference(ssl.to(device), "off")

    def call() -> Sequence[np.ndarray]:
        started = []
        for batch in batches(setting, waveforms, inference.padded_samples):
            started += inference.start(batch, layers, lambda hidden: hidden.half().transpose(0, 1))
        return [wait() for wait in started]

    return Contender("pipeline.features.inference.Inference", call)


def transformers(
    setting: Setting, device: torch.device, waveforms: list[np.ndarray], layers: tuple[int, ...]
) -> Contender:
    """Its own forward with the same precision, a mask, and all hidden states; to float16 on the host."""
    model = wavlm(setting).to(device, dtype_on(device, "auto"))

    @torch.inference_mode()
    def call() -> Sequence[Tensor]:
        made = []
        for batch in batches(setting, waveforms):
            waveforms_BS, num_samples_B = pad_waveforms(batch)
            mask_BS = torch.arange(waveforms_BS.shape[1]) < num_samples_B[:, None]
            hidden = model(
                waveforms_BS.to(device, dtype_on(device, "auto")),
                attention_mask=mask_BS.to(device),
                output_hidden_states=True,
            ).hidden_states
            made.append(torch.stack([hidden[layer] for layer in layers]).half().cpu())
        return made

    return Contender("WavLMModel in batches of similar lengths", call)


def builders(device: torch.device) -> dict[str, Callable[..., Contender]]:
    """Ours as it is on the device: on a GPU compiled, for all lengths, and then not."""
    on_gpu = device.type == "cuda"
    uncompiled = {"ours uncompiled": partial(ours, compiled=False)} if on_gpu else {}
    return {"ours": partial(ours, compiled=on_gpu), **uncompiled, "transformers": transformers}


def batches(
    setting: Setting,
    waveforms: list[np.ndarray],
    padded_samples: Callable[[int], int] = int,
) -> list[list[np.ndarray]]:
    limit = round(setting.batch_seconds * SAMPLE_RATE_HZ)
    lengths = [padded_samples(len(waveform)) for waveform in waveforms]
    return [[waveforms[index] for index in batch] for batch in length_batches(lengths, limit)]
