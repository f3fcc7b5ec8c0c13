"""What the SSL model is, and which of its hidden states are stored."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section


class Ssl(Section):
    """The self-supervised model: a transformers checkpoint by hub name or folder."""

    model: str = "configs/small_encoder"
    revision: str | None = None

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.revision is None and not Path(self.model).is_dir():
            raise ValueError(
                f"'{self.model}' is no folder here, so it is taken for a hub model, and a hub "
                "model needs ssl.revision (a commit): otherwise stored features could go stale "
                "unseen. If a folder was meant, check the path."
            )
        return self


class Features(Section):
    """Which hidden states are stored. Layer 0 is the input of the first transformer block.

    Utterances above `max_seconds` go through the SSL model in windows that share at least
    `overlap_seconds`, here and wherever the trained tokenizer is used. By default LibriSpeech's
    longest utterance of 35 s stays whole, and half an overlap is more than the 1.28 s that the
    positional convolution of these models reaches.

    With `sample_frames_per_second`, only so many frames of each second of an utterance are stored,
    drawn from `sample_seed` and its utt_id: enough to fit a codebook, too little to train on.
    `precision` is what the SSL model computes in; `auto` is bfloat16 on a GPU, else float32.

    `batch_seconds` is how much audio, with its padding, goes through the model at once; None is what
    suits the device. No utterance's features depend on it.

    A shard is what a worker takes, writes or loses at once: at most `shard_utterances` and, but for
    one utterance that is longer, `shard_seconds` of audio; None suits the corpus.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    max_seconds: Annotated[float, Field(ge=1)] = 40.0
    overlap_seconds: Annotated[float, Field(ge=0)] = 3.0
    batch_seconds: Positive | None = None
    shard_utterances: Count = 128
    shard_seconds: Positive | None = None
    sample_frames_per_second: Positive | None = None
    sample_seed: int = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _layers(self) -> Self:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers must be a non-empty rising list without repeats")
        return self

    @model_validator(mode="after")
    def _windows(self) -> Self:
        if self.overlap_seconds > self.max_seconds / 2:
            raise ValueError(
                f"overlap_seconds {self.overlap_seconds:g} must not exceed half of max_seconds "
                f"{self.max_seconds:g}: most frames would be computed twice or more"
            )
        return self
