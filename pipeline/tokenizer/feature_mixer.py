"""The SSL model and the layer weights as one model: audio in, mixed hidden states out."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.features.batching import batch_seconds_on
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import SslModel, pad_waveforms
from pipeline.features.windows import Windowing, encode_in_windows
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.tokenizer.waveform_argument import as_waveforms

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SSL = "ssl"
WINDOWING = "windowing"
MODEL_TYPE = "feature_mixer"


class FeatureMixer(nn.Module):
    """s_t = sum_l w_l h_{l,t} over `layers` of an SSL model; long audio goes through in windows.

    Saved as a folder: `config.json`, `model.safetensors` (layer weights) and `ssl/`, which is an
    ordinary transformers checkpoint.
    """

    def __init__(
        self,
        ssl: SslModel,
        layers: tuple[int, ...],
        mix: LayerMix,
        windowing: Windowing = Windowing(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        self.ssl = ssl
        self.layers = layers
        self.mix = mix
        self.windowing = windowing

    def encode(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """Mixed features of each waveform, frames x D float32, in the order given.

        Args:
            waveforms: at the SSL model's sample rate, as `as_waveforms` takes them.
            batch_seconds: how much audio, with its padding, goes through the model at once;
                by default a value that suits the device.

        Raises:
            ValueError: an argument cannot be used; the message says which and why.
        """
        limit = batch_seconds_on(self.mix.logits_L.device, batch_seconds)
        ssl, usable = self.ssl, as_waveforms(waveforms, self.ssl.grid)
        return encode_in_windows(
            self.encode_batch,
            usable,
            ssl.grid,
            self.windowing,
            limit,
            padded_samples=ssl.padded_samples,
        )

    @torch.inference_mode()
    def encode_batch(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Mixed features (T x D) of waveforms in one pass, without windows."""
        device = self.mix.logits_L.device
        waveforms_BS, num_samples_B = pad_waveforms(waveforms)
        hidden = self.ssl(waveforms_BS.to(device), num_samples_B.to(device), self.layers)
        mixed_BTD = self.mix(hidden.hidden_LBTD.float()).cpu().numpy()
        lengths = hidden.num_frames_B.tolist()
        return [frames_TD[:length] for frames_TD, length in zip(mixed_BTD, lengths, strict=True)]

    def save_pretrained(self, folder: str | Path) -> None:
        save_folder(Path(folder), self, {"model_type": MODEL_TYPE}, {})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "FeatureMixer":
        """Load what `save_pretrained` wrote.

        Raises:
            ValueError: the folder holds something else.
        """
        return load_mixer(Path(folder), read_settings(folder, MODEL_TYPE))


def save_folder(
    folder: Path, mixer: FeatureMixer, settings: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    """Write `mixer` with what a model on top of it adds to its config and tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    mixer.ssl.save_pretrained(folder / SSL)
    weights = {**tensors, "layer_logits_L": mixer.mix.logits_L}
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        folder / WEIGHTS,
    )
    own = {"layers": list(mixer.layers), WINDOWING: asdict(mixer.windowing)}
    text = json.dumps({**settings, **own}, indent=2)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def read_settings(folder: str | Path, model_type: str) -> dict[str, Any]:
    """The folder's `config.json`, if it describes a `model_type`."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} holds no {CONFIG}: name the folder of a saved {model_type}")
    settings = json.loads(path.read_text(encoding="utf-8"))
    stored_type = settings.get("model_type")
    if stored_type != model_type:
        raise ValueError(f"{folder} holds a '{stored_type}', where a '{model_type}' is needed")
    return dict(settings)


def load_mixer(folder: Path, settings: dict[str, Any]) -> FeatureMixer:
    """The SSL model with the layers and their weights of a saved folder."""
    layers = tuple(settings["layers"])
    mix = LayerMix(len(layers), initial=0, initial_mass=0.5, learned=False)
    mix.load_state_dict({"logits_L": load_file(folder / WEIGHTS)["layer_logits_L"]})
    windowing = Windowing(**settings.get(WINDOWING, {}))  # older folders have none
    return FeatureMixer(load_encoder(folder / SSL), layers, mix, windowing).eval()
