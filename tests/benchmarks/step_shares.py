"""Where a step of `dkm_full` goes: SSL model, quantizer, ASR model, optimizer and data, by batch size.

On a GPU the step is that of a long training on a card with memory enough: blocks compiled, none
computed again, AdamW in one kernel. Its peer is the same step without any of this.

Shapes: L layers, B utterances, S samples, T frames, D dimensions, E embedding.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.arithmetic import dense_rate, operations
from benchmarks.joint_step import (
    KMEANS_LOSS_WEIGHT,
    SAMPLE_RATE_HZ,
    TINY_WAVLM,
    _asr_settings,
    _inputs,
    _optimizer,
    _quantizer,
)
from benchmarks.joint_step import Setting as StepSetting
from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record

if TYPE_CHECKING:
    from pipeline.features.ssl import SslModel
    from pipeline.training.inputs import Inputs
    from pipeline.training.joint_model import JointModel

PARTS = ("SSL model", "quantizer", "ASR model", "optimizer")
WAVLM_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}


@dataclass(frozen=True)
class Setting:
    """Two sizes of a batch, in utterances of `seconds`."""

    small_batch_seconds: float
    large_batch_seconds: float
    seconds: float
    num_units: int
    rounds: int
    tiny: bool

    def step(self, batch_seconds: float) -> StepSetting:
        utterances = max(1, round(batch_seconds / self.seconds))
        return StepSetting(utterances, self.seconds, self.num_units, self.rounds, tiny=self.tiny)


SIZES = {
    ("full", "cpu"): Setting(100.0, 400.0, 10.0, 64, rounds=5, tiny=True),
    ("full", "cuda"): Setting(100.0, 400.0, 10.0, 2000, 10, tiny=False),
    ("small", "cpu"): Setting(2.0, 4.0, 1.0, 8, rounds=2, tiny=True),
    ("small", "cuda"): Setting(2.0, 4.0, 1.0, 8, rounds=2, tiny=True),
}


@dataclass(frozen=True)
class Way:
    """How a step is computed."""

    compiled: bool
    recomputed: bool
    fused: bool


PLAIN = Way(compiled=False, recomputed=False, fused=True)
TUNED = Way(compiled=True, recomputed=False, fused=True)
UNTUNED = Way(compiled=False, recomputed=True, fused=False)


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size, device.type]
    sizes = {
        f"{seconds:g} s": setting.step(seconds)
        for seconds in (setting.small_batch_seconds, setting.large_batch_seconds)
    }
    on_gpu = device.type == "cuda"
    way = TUNED if on_gpu else PLAIN
    steps = {name: partial(Step, setting, step, device, way) for name, step in sizes.items()}
    untuned = {
        f"{name}, untuned": partial(Step, setting, step, device, UNTUNED)
        for name, step in sizes.items()
        if on_gpu
    }
    found, left_out = gather(
        {name: partial(contender, name, make) for name, make in {**steps, **untuned}.items()}
    )
    measured = costs(found, device, setting.rounds)
    rate = dense_rate(device, torch.bfloat16 if on_gpu else torch.float32)
    checks = {"dense product, 10^12 operations a second": rate / 1e12}
    for name in (name for name in steps if name in found):
        seconds = measured[name].seconds
        checks[f"{name}: share of the dense rate"] = (
            operations(found[name].run) / min(seconds) / rate
        )
        checks |= shares(steps[name](), name, setting.rounds)
        reading = data_seconds(sizes[name]) / statistics.median(seconds)
        checks[f"data at {name}, read in one thread, per step"] = reading
    described = {
        **asdict(setting),
        "models": "tiny" if setting.tiny else "WavLM large, ASR of configs/librispeech100.yaml",
        "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
    }
    large, small = reversed(sizes)
    pairs = ((large, small), *zip(steps, untuned, strict=False))
    return Record("step_shares", device.type, size, described, measured, left_out, pairs, checks)


def contender(name: str, make: "Callable[[], Step]") -> Contender:
    step = make()

    def call() -> tuple[()]:
        step.run()
        return ()

    return Contender(f"a step over {name} of audio, data in memory", call)


def shares(step: "Step", name: str, rounds: int) -> dict[str, float]:
    """The share of each part in the time of a step, as the median of some."""
    step.run()
    found = [step.run() for _ in range(rounds)]
    whole = statistics.median(sum(seconds.values()) for seconds in found)
    return {
        f"{part} at {name}": statistics.median(seconds[part] for seconds in found) / whole
        for part in PARTS
    }


class Step:
    """A step cut where the parts meet: each goes forward and backward by itself."""

    def __init__(self, setting: Setting, step: StepSetting, device: torch.device, way: Way) -> None:
        from pipeline.features.compiled import compile_blocks

        torch.manual_seed(0)
        self.settings = _asr_settings(step)
        self.inputs = _inputs(step, self.settings, device)
        self.model = _model(setting, step, self.settings, self.inputs)
        if way.recomputed:
            self.model.ssl.checkpoint_gradients()
        if way.compiled:
            compile_blocks(self.model.blocks(), fixed_lengths=False)
        self.optimizer = _optimizer(self.model, fused=way.fused)
        self.device = device

    def run(self) -> dict[str, float]:
        """The seconds of each of `PARTS`."""
        seconds = dict.fromkeys(PARTS, 0.0)

        def timed(part: str, work: Callable[[], Any]) -> Any:
            started = self._now()
            found = work()
            seconds[part] += self._now() - started
            return found

        hidden, num_frames_B = timed("SSL model", self._hidden)
        hidden_leaf = hidden.detach().requires_grad_()
        embedded, kmeans = timed("quantizer", lambda: self._quantized(hidden_leaf, num_frames_B))
        embedded_leaf = embedded.detach().requires_grad_()
        loss = timed("ASR model", lambda: self._asr_loss(embedded_leaf, num_frames_B))
        timed("ASR model", loss.backward)
        timed(
            "quantizer",
            lambda: torch.autograd.backward((embedded, kmeans), (embedded_leaf.grad, None)),
        )
        timed("SSL model", lambda: hidden.backward(hidden_leaf.grad))
        timed("optimizer", self.optimizer.step)
        self.optimizer.zero_grad()
        return seconds

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _hidden(self) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast():
            return self.model._hidden(self.inputs)

    def _quantized(
        self, hidden_LBTD: torch.Tensor, num_frames_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast():
            mixed_BTD = self.model.mix(hidden_LBTD)
            columns_T = torch.arange(mixed_BTD.shape[1])  # as the numbers, on the host
            quantized = self.model.quantizer(
                mixed_BTD,
                columns_T < num_frames_B[:, None],
                self.model.asr.unit_embedding.weight,
                tau=1.0,
                seed=1,
            )
        weight = KMEANS_LOSS_WEIGHT / float(num_frames_B.sum())
        return quantized.embedded_BTE, weight * quantized.losses["kmeans"]

    def _asr_loss(self, embedded_BTE: torch.Tensor, num_frames_B: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            losses = self.model.asr.losses(embedded_BTE, num_frames_B, self.inputs.targets)
        share = self.settings.ctc_weight
        return (share * losses["ctc"] + (1 - share) * losses["attention"]) / sum(
            len(target) + 1 for target in self.inputs.targets
        )


def _model(setting: Setting, step: StepSetting, settings: Any, inputs: "Inputs") -> "JointModel":
    """`dkm_full` with random weights and a frozen front end."""
    from pipeline.asr.model import AsrModel
    from pipeline.asr.text_pieces import FIRST_PIECE, Characters
    from pipeline.quantizer.layer_mix import LayerMix
    from pipeline.training.joint_model import JointModel

    device = inputs.waveforms_BS.device
    ssl = ssl_model(tiny=setting.tiny).to(device)
    layers = tuple(range(ssl.num_layers + 1))
    mix = LayerMix(len(layers), initial=len(layers) - 1, initial_mass=0.8, learned=True)
    text_pieces = Characters("".join(map(chr, range(settings.text.vocabulary_size - FIRST_PIECE))))
    asr = AsrModel(settings, setting.num_units, None, text_pieces)
    model = JointModel(ssl, layers, mix, _quantizer(step, ssl, inputs), asr)
    return model.to(device).train()


def ssl_model(*, tiny: bool) -> "SslModel":
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    from pipeline.features.encoders.convolutional import ConvolutionalEncoder

    backbone = WavLMModel(WavLMConfig(**(TINY_WAVLM if tiny else WAVLM_LARGE)))
    ssl = ConvolutionalEncoder(backbone, Wav2Vec2FeatureExtractor(do_normalize=False))
    ssl.freeze_front_end()
    return ssl


def data_seconds(step: StepSetting) -> float:
    """To decode a batch's FLAC files in one thread."""
    import soundfile

    from pipeline.audio.utterance import Utterance
    from pipeline.training.inputs import AudioSource, Example

    noise = 0.1 * torch.randn(int(step.seconds * SAMPLE_RATE_HZ)).clamp(-3, 3).numpy()
    with tempfile.TemporaryDirectory() as folder:
        examples = []
        for index in range(step.utterances):
            path = str(Path(folder, f"{index}.flac"))
            soundfile.write(path, noise, SAMPLE_RATE_HZ)
            utterance = Utterance(str(index), "train", path, 0.0, step.seconds, "s", "a", ())
            examples.append(Example(utterance, (1,)))
        started = time.perf_counter()
        AudioSource(SAMPLE_RATE_HZ, cache_bytes=1).load(examples)
        return time.perf_counter() - started
