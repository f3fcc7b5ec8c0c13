"""The SSL model, and which of its hidden states are stored."""

import json
import re
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import ConfigError, Count, Exactly, Layer, Seconds, Section, Seed, Text
from pipeline.config.shipped import find_shipped

_COMMIT = re.compile(r"[0-9a-f]{1,40}")
FAMILIES = ("wavlm", "hubert", "wav2vec2", "data2vec-audio", "whisper", "wav2vec2-bert")
# Of the families that do not say it: they take two spectra, 10 ms apart, for a frame.
SPECTRAL = {"whisper": 320, "wav2vec2-bert": 320}


class PretrainedSsl(Section):
    """A speech encoder, self-supervised or a Whisper's, as others have trained it."""

    model: Text = "configs/small_encoder"
    """The model's name on the hub, or a folder: a WavLM, HuBERT, wav2vec 2.0, data2vec-audio, w2v-BERT
    2.0, or a Whisper, of which the encoder is used."""
    revision: Text | None = None
    """The commit of a hub model; required for one, because stored features depend on it."""
    pad: Literal["window", "none"] = "window"
    """How a Whisper encoder hears an utterance: `window` fills it up with silence to 30 s, as the model
    has learned; `none` takes it as it is, which is as much faster as it is shorter. Other models pad
    nothing."""

    @field_validator("revision")
    @classmethod
    def _commit(cls, revision: str | None) -> str | None:
        if revision is not None and not _COMMIT.fullmatch(revision):
            raise ValueError(
                f"'{revision}' is no commit, which has up to 40 hexadecimal digits: what a branch or a "
                "tag stands for can change"
            )
        return revision

    @property
    def source(self) -> str:
        """What to load: a folder here or, of the same name, a shipped one; else a hub model."""
        shipped = find_shipped(self.model)
        return str(shipped) if shipped.is_dir() and not Path(self.model).is_dir() else self.model

    def description(self) -> dict[str, Any]:
        """What the model's config.json says; nothing if it is not in a folder here.

        Raises:
            ConfigError: the file cannot be read.
        """
        file = Path(self.source) / "config.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"ssl.model: {file} cannot be read as JSON ({error})") from None
        if not isinstance(found, dict):
            raise ConfigError(f"ssl.model: {file} holds no settings: name a folder of transformers")
        return found

    @property
    def num_layers(self) -> int | None:
        """The highest layer, where the model is in a folder here that says so."""
        number = self._said("num_hidden_layers", "encoder_layers")
        return number if isinstance(number, int) else None

    @property
    def hidden_size(self) -> int | None:
        """The values of a frame, where the model is in a folder here that says so."""
        size = self._said("hidden_size", "d_model")
        return size if isinstance(size, int) else None

    @property
    def hop(self) -> int | None:
        """The samples from one frame to the next, where the model is in a folder here that says so."""
        model = self.description()
        strides = model.get("conv_stride")
        spectral = SPECTRAL.get(str(model.get("model_type")))
        return prod(strides) if spectral is None and isinstance(strides, list) else spectral

    def _said(self, key: str, whispers_key: str) -> Any:
        model = self.description()
        return model.get(whispers_key if model.get("model_type") == "whisper" else key)

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.revision is None and not Path(self.source).is_dir():
            raise ValueError(
                f"'{self.model}' is not a folder here, so it names a hub model, which needs "
                "ssl.revision (a commit): stored features depend on it. If it is meant to be a "
                "folder, check the path."
            )
        return self


class Features(Section):
    """Which hidden states are stored, and how they are computed.

    The windows for long utterances also apply wherever the trained tokenizer is used. By default
    LibriSpeech's longest utterance, 35 s, is not cut, and half an overlap is more than the 1.28 s
    that the positional convolution of these models reaches.

    A sample of the frames is enough to fit a codebook, and too little to train on. A shard is what a
    worker takes, writes or loses at once.
    """

    layers: tuple[Layer, ...] = (0, 1, 2)
    """The hidden layers to store; 0 is the input of the first transformer block."""
    pool: Annotated[Literal[1, 2, 4], Exactly] = 1
    """How many neighbouring frames become one, their mean, before anything is stored: 50, 25 or 12.5
    units a second."""
    max_seconds: Annotated[float, Field(ge=1, le=3600)] = 40.0
    """Longer utterances go through the model in overlapping windows. Those of a Whisper model are no
    longer than 30 s, whatever this says."""
    overlap_seconds: Annotated[float, Field(ge=0, le=3600)] = 3.0
    """How much two windows share at least."""
    batch_seconds: Seconds | None = None
    """Audio, with its padding, that goes through the model at once; `None` suits the device. No
    utterance's features depend on it."""
    shard_utterances: Count = 128
    """The largest number of utterances in a shard."""
    shard_seconds: Seconds | None = None
    """The most audio in a shard; `None` chooses it from the size of the corpus."""
    sample_frames_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Store only this many frames of each second, drawn at random; `None` stores all."""
    sample_seed: Seed = 0
    """Random seed of the stored frames, together with the utt_id."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the model computes in; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    compile: Literal["auto", "off"] = "auto"
    """Whether the model is compiled: `auto` does so on a GPU, for each length of batches once it has
    computed for as long as compilation takes to pay back, in the beginning 53 s. No feature changes by
    more than rounding."""

    @model_validator(mode="after")
    def _layers_and_windows(self) -> Self:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers must be a non-empty ascending list without repeats")
        if self.overlap_seconds > self.max_seconds / 2:
            raise ValueError(
                f"overlap_seconds {self.overlap_seconds:g} must not exceed half of max_seconds "
                f"{self.max_seconds:g}: most frames would be computed twice or more"
            )
        return self
