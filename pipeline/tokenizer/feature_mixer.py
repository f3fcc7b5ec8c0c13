"""The SSL model and the layer weights as one model: audio in, mixed hidden states out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.features.batching import batch_seconds_on
from pipeline.features.encoders.load import load_encoder
from pipeline.features.inference import Awaited, Compile, Inference, Precision, dtype_on
from pipeline.features.ssl import SslModel
from pipeline.features.windows import Windowing, encode_in_windows
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.tokenizer.waveform_argument import as_waveforms

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SSL = "ssl"
WINDOWING = "windowing"
PRECISION = "precision"
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
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        self.ssl = ssl
        self.layers = layers
        self.mix = mix
        self.windowing = windowing
        self.precision: Precision = precision
        self.inference = Inference(ssl)

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
        return [
            wait() for wait in self.start(lambda mixed_BTD: mixed_BTD, waveforms, batch_seconds)
        ]

    def start(
        self,
        describe: Callable[[torch.Tensor], torch.Tensor],
        waveforms: Sequence[Any],
        batch_seconds: float | None = None,
    ) -> list[Awaited]:
        """What waits for what `describe` makes of each waveform's mixed features, T x X.

        It turns a batch of them, B x T x D, into B x T x X where the model is; they are dropped with
        their windows, so an hour of them is never held. Arguments and errors are those of `encode`.
        """

        def of_mix(hidden_LBTD: torch.Tensor) -> torch.Tensor:
            return describe(self.mix(hidden_LBTD.float()))

        def start_batch(batch: list[np.ndarray]) -> list[Awaited]:
            return self.inference.start(batch, self.layers, of_mix)

        grid, padded_samples = self.ssl.grid, self.inference.padded_samples
        usable = as_waveforms(waveforms, grid)
        limit = batch_seconds_on(self.inference.device, batch_seconds)
        return encode_in_windows(
            start_batch, usable, grid, self.windowing, limit, padded_samples=padded_samples
        )

    def place(self, device: torch.device | str, compiling: Compile = "auto") -> Self:
        """Move to a device to encode there, as features are extracted there: on a GPU in bfloat16.

        It can no longer be trained or saved then. `to` moves it as it is.
        """
        self.inference = Inference(self.ssl, compiling)
        self.ssl.narrow(dtype_on(torch.device(device), self.precision))
        return self.to(device)

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
    if mixer.precision != "auto":
        own[PRECISION] = mixer.precision
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
    precision = settings.get(PRECISION, "auto")
    return FeatureMixer(load_encoder(folder / SSL), layers, mix, windowing, precision).eval()
