"""One step of the joint training with the SSL model fine-tuned, with and without the quantizer.

On a GPU blocks are compiled and AdamW is one kernel, as in a training that is long enough.

Shapes: B utterances, S samples, T frames, D dimensions, K units.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.arithmetic import dense_rate, operations
from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record

if TYPE_CHECKING:
    from pipeline.config import Asr
    from pipeline.features.ssl import SslModel
    from pipeline.training.inputs import Inputs
    from pipeline.training.joint_model import JointModel

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "librispeech100.yaml"
SAMPLE_RATE_HZ = 16000
PIECES_PER_SECOND = 3
KMEANS_LOSS_WEIGHT = 0.5
PAIRS = (("with quantizer", "without quantizer"),)


@dataclass(frozen=True)
class Setting:
    """How large the work is; `tiny` models only show whether it works."""

    utterances: int
    seconds: float
    num_units: int
    rounds: int
    tiny: bool = False


TINY_WAVLM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
TINY_ASR = {
    "text": {"vocabulary_size": 20},
    "embedding_dim": 16,
    "dim": 16,
    "heads": 2,
    "feedforward_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "conv_kernel": 3,
    "e_branchformer": {"cgmlp_dim": 32, "merge_kernel": 3},
}
TINY = Setting(2, 1.0, 8, rounds=2, tiny=True)
SIZES = {
    ("full", "cpu"): Setting(2, 10.0, 2000, rounds=15),
    ("full", "cuda"): Setting(10, 10.0, 2000, rounds=20),
    ("small", "cpu"): TINY,
    ("small", "cuda"): TINY,
}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size, device.type]
    contenders, left_out = gather(
        {
            "with quantizer": partial(step, setting, device, quantized=True),
            "without quantizer": partial(step, setting, device, quantized=False),
        }
    )
    found = costs(contenders, device, setting.rounds)
    rate = dense_rate(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    checks = {"dense product, 10^12 operations a second": rate / 1e12}
    for name, contender in contenders.items():
        share = operations(contender.run) / min(found[name].seconds) / rate
        checks[f"{name}: share of the dense rate"] = share
    described = {
        **asdict(setting),
        "models": "tiny" if setting.tiny else "WavLM base, ASR of configs/librispeech100.yaml",
        "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
    }
    return Record("joint_step", device.type, size, described, found, left_out, PAIRS, checks)


def step(setting: Setting, device: torch.device, *, quantized: bool) -> Contender:
    """Forward, backward and AdamW; what a step keeps until the next is in memory before it."""
    from pipeline.features.compiled import compile_blocks

    torch.manual_seed(0)
    settings = _asr_settings(setting)
    inputs = _inputs(setting, settings, device)
    model = _model(setting, settings, inputs, quantized=quantized)
    on_gpu = device.type == "cuda"
    if on_gpu:
        compile_blocks(model.blocks(), fixed_lengths=False)
    optimizer = _optimizer(model)
    num_targets = sum(len(target) + 1 for target in inputs.targets)
    num_frames = setting.utterances * setting.seconds * 50

    def call() -> Sequence[Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            sums = model(inputs, tau=1.0, seed=1)
        asr = settings.ctc_weight * sums["ctc"] + (1 - settings.ctc_weight) * sums["attention"]
        loss = asr / num_targets + KMEANS_LOSS_WEIGHT * sums.get("kmeans", 0.0) / num_frames
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return ()

    kind = "JointModel on tokens of a DKM" if quantized else "JointModel on continuous features"
    return Contender(f"{kind}: forward, backward, AdamW", call)


def _optimizer(model: "JointModel", *, fused: bool = True) -> torch.optim.Optimizer:
    groups = [{"params": parameters} for parameters in model.parameter_groups().values()]
    return torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.98), fused=fused)


def _asr_settings(setting: Setting) -> "Asr":
    """Those of the LibriSpeech recipe, or tiny ones."""
    import yaml

    from pipeline.config import Asr

    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["asr"]
    return Asr.model_validate({**recipe, **(TINY_ASR if setting.tiny else {})})


def _inputs(setting: Setting, settings: "Asr", device: torch.device) -> "Inputs":
    """Noise and random text: what they say changes no cost."""
    from pipeline.asr.text_pieces import FIRST_PIECE
    from pipeline.training.inputs import Inputs

    num_samples = int(setting.seconds * SAMPLE_RATE_HZ)
    num_targets = max(1, int(setting.seconds * PIECES_PER_SECOND))
    targets = torch.randint(
        FIRST_PIECE, settings.text.vocabulary_size, (setting.utterances, num_targets)
    )
    return Inputs(
        lengths_B=torch.full((setting.utterances,), num_samples),
        targets=targets.tolist(),
        waveforms_BS=0.1 * torch.randn(setting.utterances, num_samples),
    ).to(device)


def _model(setting: Setting, settings: "Asr", inputs: "Inputs", *, quantized: bool) -> "JointModel":
    """As the project builds it, with random weights, a mix of all layers and a frozen front end."""
    from pipeline.asr.model import AsrModel
    from pipeline.asr.text_pieces import FIRST_PIECE, Characters
    from pipeline.quantizer.layer_mix import LayerMix
    from pipeline.training.joint_model import JointModel

    ssl = _ssl_model(setting).to(inputs.waveforms_BS.device)
    layers = tuple(range(ssl.num_layers + 1))
    mix = LayerMix(len(layers), initial=len(layers) - 1, initial_mass=0.8, learned=True)
    # As many units as the recipe's pieces, without training a SentencePiece model for them.
    text_pieces = Characters("".join(map(chr, range(settings.text.vocabulary_size - FIRST_PIECE))))
    asr = AsrModel(
        settings,
        setting.num_units if quantized else None,
        None if quantized else ssl.hidden_size,
        text_pieces,
    )
    quantizer = _quantizer(setting, ssl, inputs) if quantized else None
    return JointModel(ssl, layers, mix, quantizer, asr).to(inputs.waveforms_BS.device).train()


def _ssl_model(setting: Setting) -> "SslModel":
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    from pipeline.features.encoders.convolutional import ConvolutionalEncoder

    backbone = WavLMModel(WavLMConfig(**(TINY_WAVLM if setting.tiny else {})))
    ssl = ConvolutionalEncoder(backbone, Wav2Vec2FeatureExtractor(do_normalize=False))
    ssl.freeze_front_end()
    return ssl


@torch.no_grad()
def _quantizer(setting: Setting, ssl: "SslModel", inputs: "Inputs") -> Any:
    """Centroids spread as the frames of the highest layer are; sigma as the project's default."""
    from pipeline.clustering.assignment import nearest
    from pipeline.quantizer.dkm import DifferentiableKMeans

    hidden = ssl(inputs.waveforms_BS, inputs.lengths_B, (ssl.num_layers,)).hidden_LBTD
    frames_ND = hidden.flatten(end_dim=2)
    noise_KD = torch.randn(setting.num_units, ssl.hidden_size, device=frames_ND.device)
    centroids_KD = frames_ND.mean(dim=0) + frames_ND.std(dim=0) * noise_KD
    mean_squared_distance = float(nearest(frames_ND, centroids_KD)[1].mean())
    return DifferentiableKMeans(
        centroids_KD,
        10 / mean_squared_distance,
        sigma_learned=False,
        mean_squared_distance=mean_squared_distance,
    )
