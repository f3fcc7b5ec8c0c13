"""What can be set, typed and checked, section by section; read from files by `config_files`.

Imports neither torch nor Ray, so that a config can be checked on any machine.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config_corpus import Corpus
from pipeline.config_section import Count, Positive, Section, Share


class ConfigError(ValueError):
    """A mistake in a config file or an override; the message says what, why and the cure."""


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


class Codebook(Section):
    """Ordinary k-means over one stored layer; it initialises the quantizer.

    All methods start from at most `sample_frames` frames in memory. `lloyd` then goes over all
    frames up to `max_passes` times. `minibatch` does too, but moves the centroids after every
    `batch_shards` shards, so it needs fewer passes. `coreset` reads every shard once for
    `coreset_frames` weighted frames of it, fits their union, and keeps them: with `refine`, the
    output folder of an earlier such fit, what that one read counts too and is not read again.
    """

    method: Literal["lloyd", "minibatch", "coreset"] = "lloyd"
    layer: Annotated[int, Field(ge=0)] = 2
    num_units: Annotated[int, Field(ge=1, le=65536)] = 64
    sample_frames: Count = 200_000
    max_passes: Count = 20
    tolerance: Positive = 1e-4
    batch_shards: Count = 8
    coreset_frames: Count = 4096
    refine: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _refinable(self) -> Self:
        if self.refine is not None and self.method != "coreset":
            raise ValueError(
                f"codebook.refine adds to coresets, which method '{self.method}' does not make: "
                "set codebook.method to 'coreset'"
            )
        return self


class Sigma(Section):
    """How sharp p(j | s) = softmax(-sigma^2 ||s - mu_j||^2) is.

    `fixed`: sigma^2 = value (the paper: 1). `scaled`: sigma^2 = value / msd, msd being the mean
    squared distance to the nearest centroid after k-means. `perplexity`: sigma^2 such that the
    mean perplexity of p equals value at initialisation.
    """

    kind: Literal["fixed", "scaled", "perplexity"] = "scaled"
    value: Positive = 10.0
    learned: bool = False


class Iteration(Section):
    """How an iterated DKM settles: until centroids move by at most `tolerance` of their norm."""

    max_iterations: Count = 5
    tolerance: Annotated[float, Field(ge=0)] = 1e-4


class Quantizer(Section):
    """From hidden states to what the ASR model sees.

    `kind` is `none` (continuous features), `kmeans` (the codebook as it was fitted), `dkm` (it
    learns) or `iterated_dkm`: it learns too, and in training settles on each batch, as `iteration`
    says, before units are chosen.

    `assignment` is what a DKM embeds in training: the row of a unit `sampled` with Gumbel noise, or
    of the nearest (`argmax`), both with the gradient of the relaxation, or the relaxation's own
    mean of rows (`soft`). Evaluation always takes the nearest.
    """

    kind: Literal["none", "kmeans", "dkm", "iterated_dkm"] = "dkm"
    assignment: Literal["sampled", "argmax", "soft"] = "sampled"
    layer_weights: Literal["fixed", "learned"] = "learned"
    initial_layer_mass: Annotated[float, Field(gt=0, lt=1)] = 0.8
    sigma: Sigma = Sigma()
    iteration: Iteration = Iteration()
    tau_start: Positive = 2.0
    tau_end: Positive = 0.1
    tau_decay: Annotated[float, Field(gt=0, le=1)] = 0.999995
    kmeans_loss_weight: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        if self.tau_end > self.tau_start:
            raise ValueError("tau_end must not exceed tau_start: tau only falls")
        return self


class TextUnits(Section):
    """What the ASR model writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    vocabulary_size: Count = 500


class TimeMasking(Section):
    """Time-only SpecAugment on what the encoder reads, in training."""

    masks: Annotated[int, Field(ge=0)] = 2
    max_share: Share = 0.05


class Asr(Section):
    """Conformer encoder, Transformer decoder, c * CTC + (1 - c) * attention."""

    text: TextUnits = TextUnits()
    embedding_dim: Count = 128
    dim: Count = 128
    heads: Count = 4
    feedforward_dim: Count = 256
    encoder_layers: Count = 2
    decoder_layers: Count = 1
    conv_kernel: Count = 15
    subsampling: Literal[1, 2, 4] = 2
    dropout: Share = 0.1
    ctc_weight: Share = 0.3
    label_smoothing: Share = 0.1
    time_masking: TimeMasking = TimeMasking()

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.conv_kernel % 2 == 0:
            raise ValueError("conv_kernel must be odd, so that frames stay centred")
        return self


class LearningRates(Section):
    """Peak learning rates of the parameter groups."""

    asr: Positive = 2e-3
    centroids: Positive = 5e-3
    layer_weights: Positive = 1e-2
    sigma: Positive = 1e-3
    ssl: Positive = 5e-4


class Phase(Section):
    """One leg of training, with an optimizer of its own."""

    epochs: Count
    ssl: Literal["frozen", "finetuned"] = "frozen"
    learning_rates: LearningRates = LearningRates()
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    final_rate_share: Share = 0.1


class Training(Section):
    """Joint training of quantizer, ASR and (where a phase says so) SSL model.

    `batch_seconds` is the audio of a step, over all workers; `accumulate` divides each worker's
    share into as many passes. With `gradient_checkpointing` a fine-tuned SSL model computes its
    blocks again in the backward pass instead of keeping what they hold: a third more work, and far
    less memory. Neither this, `checkpoint_steps` nor `log_steps` changes a digest.
    """

    phases: tuple[Phase, ...] = (Phase(epochs=8),)
    train_front_end: bool = False
    batch_seconds: Positive = 60.0
    accumulate: Count = 1
    clip_norm: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    checkpoint_steps: Count = 200
    average_best: Count = 3
    log_steps: Count = 10
    seed: int = 0

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if not self.phases:
            raise ValueError("training needs at least one phase")
        return self

    @property
    def finetunes_ssl(self) -> bool:
        return any(phase.ssl == "finetuned" for phase in self.phases)


class AsrEvaluation(Section):
    """Decoding of the test splits."""

    beam_size: Count = 8
    ctc_weight: Share = 0.4
    max_length_share: Positive = 1.0
    batch_seconds: Positive = 120.0


class Purity(Section):
    """How frames are matched with alignment labels."""

    silence: Literal["exclude", "include"] = "exclude"
    silence_labels: tuple[str, ...] = ("", "sil", "sp", "spn", "pau", "<eps>")


class Vocoder(Section):
    """Unit HiFi-GAN on the trained tokenizer's units."""

    enabled: bool = True
    unit_dim: Count = 64
    speaker_dim: Count = 32
    unseen_speaker: str | None = None
    upsample_rates: tuple[Count, ...] = (8, 5, 4, 2)
    upsample_kernels: tuple[Count, ...] = (16, 11, 8, 4)
    initial_channels: Count = 128
    resblock_kernels: tuple[Count, ...] = (3, 7)
    resblock_dilations: tuple[tuple[Count, ...], ...] = ((1, 3), (1, 3))
    discriminator_channels: Count = 2
    segment_seconds: Positive = 0.64
    batch_size: Count = 4
    speaker_dropout: Share = 0.1
    steps: Count = 400
    adversarial_from_step: Annotated[int, Field(ge=0)] = 300
    learning_rate: Positive = 2e-3
    mel_weight: Positive = 45.0
    feature_matching_weight: Positive = 2.0
    checkpoint_steps: Count = 100
    log_steps: Count = 10
    seed: int = 0

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ValueError("upsample_rates and upsample_kernels must be of one length")
        if len(self.resblock_kernels) != len(self.resblock_dilations):
            raise ValueError("resblock_kernels and resblock_dilations must be of one length")
        return self


class Resynthesis(Section):
    """Scores of resynthesised test speech."""

    utterances_per_split: Count = 20
    audio_examples: Count = 3


class Pretraining(Section):
    """HuBERT-style masked prediction of k-means labels of MFCCs, for a small WavLM.

    Needed only where no pretrained model can be had; see tasks/pretrain_encoder.py.
    """

    num_labels: Count = 100
    dim: Count = 128
    layers: Count = 2
    heads: Count = 4
    feedforward_dim: Count = 512
    conv_channels: Count = 64
    dropout: Share = 0.05
    mask_start_share: Share = 0.08
    mask_frames: Count = 10
    heard_weight: Annotated[float, Field(ge=0)] = 1.0
    band_limited_share: Share = 0.5
    speed_range: Share = 0.15
    bfloat16: bool = True
    epochs: Count = 12
    batch_seconds: Positive = 20.0
    learning_rate: Positive = 3e-3
    warmup_share: Share = 0.1
    clip_norm: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    seed: int = 0

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        return self


class Tracking(Section):
    """MLflow; `MLFLOW_TRACKING_URI` wins over `uri`, and the default is SQLite in the storage.

    Credentials belong in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or in
    `MLFLOW_TRACKING_TOKEN`, of the driver and of every node; a config is shown and stored.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str = "pipeline"


class Cluster(Section):
    """Where and how wide it runs. Nothing here changes a result, so no digest covers it.

    A training step goes over the same utterances with any number of `training_workers`. Each has
    a copy of the joint model (`sharding` `ddp`) or, of one that does not fit, a part (`fsdp`,
    PyTorch's FSDP2); a checkpoint of one goes on as the other. `loader_processes` of each read its data
    ahead, and share its `cache_gigabytes`; 0 reads in a thread of the worker, and None is a thread
    on a CPU and processes on a GPU. They run on the CPUs of their worker: count them in
    `cpus_per_worker`.
    """

    address: str | None = None
    extraction_workers: Count = 2
    codebook_workers: Count = 2
    training_workers: Count = 1
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    loader_processes: Annotated[int, Field(ge=0)] | None = None
    sharding: Literal["ddp", "fsdp"] = "ddp"
    max_failures: Annotated[int, Field(ge=0)] = 3
    cache_gigabytes: Positive = 2.0


class Config(Section):
    """One variant of the comparison, from corpus to scores."""

    variant: str
    storage: str = "runs"
    corpus: Corpus
    ssl: Ssl = Field(default_factory=Ssl)  # built on use: it looks for its folder
    features: Features = Features()
    codebook: Codebook = Codebook()
    quantizer: Quantizer = Quantizer()
    asr: Asr = Asr()
    training: Training = Training()
    asr_evaluation: AsrEvaluation = AsrEvaluation()
    purity: Purity = Purity()
    vocoder: Vocoder = Vocoder()
    resynthesis: Resynthesis = Resynthesis()
    pretraining: Pretraining = Pretraining()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()
    extra_stages: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.codebook.layer not in self.features.layers:
            raise ValueError(
                f"codebook.layer {self.codebook.layer} is not among features.layers "
                f"{list(self.features.layers)}: add it there, or fit another layer"
            )
        if self.quantizer.kind == "kmeans":
            self._check_kmeans()
        if self.cluster.sharding == "fsdp" and self.quantizer.sigma.learned:
            raise ValueError(
                "cluster.sharding 'fsdp' gives each worker a part of every learned parameter, and "
                "a learned sigma is one number: set quantizer.sigma.learned to false, or "
                "cluster.sharding to 'ddp'"
            )
        frozen = any(phase.ssl == "frozen" for phase in self.training.phases)
        if self.features.sample_frames_per_second is not None and frozen:
            raise ValueError(
                "features.sample_frames_per_second stores a sample of each utterance, and a "
                "training phase with ssl 'frozen' reads all its frames: make the phase 'finetuned', "
                "which reads audio, or store all frames"
            )
        return self

    def _check_kmeans(self) -> None:
        if self.quantizer.layer_weights == "learned":
            raise ValueError(
                "quantizer.kind 'kmeans' passes no gradient, so quantizer.layer_weights cannot "
                "be 'learned': set it to 'fixed', or use kind 'dkm'"
            )
        if self.training.finetunes_ssl:
            raise ValueError(
                "quantizer.kind 'kmeans' passes no gradient, so a training phase with "
                "ssl 'finetuned' would train nothing: set it to 'frozen', or use kind 'dkm'"
            )

    @property
    def used_layers(self) -> tuple[int, ...]:
        """The hidden layers that training reads: all stored ones, or the codebook's alone."""
        learned = self.quantizer.layer_weights == "learned"
        return self.features.layers if learned else (self.codebook.layer,)


def digest(settings: Any) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `settings`."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
