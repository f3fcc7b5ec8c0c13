"""What a stage is: a name, a version, what its output depends on, and a function.

A stage's file imports neither torch nor Ray at its top, so that any machine can plan the graph;
`run` imports what it needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.graph.sources import Source
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT, Progress
from pipeline.storage.artifacts import Artifact


@dataclass(frozen=True)
class Estimate:
    """What a stage will read and write, as far as is known before it runs.

    `grows_with` has what `bytes_written` is proportional to, as the user would say it ("hours of
    audio"), and how much of it there is; integers are rounded down. `advice` names another way
    to write less. Both are for the message that a storage is too small. `sampled` says that the
    numbers were extrapolated from a sample.
    """

    audio_seconds: float = 0.0
    num_frames: int = 0
    bytes_written: int = 0
    grows_with: Mapping[str, float] = field(default_factory=dict)
    advice: str = ""
    sampled: bool = False


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs, in Ray's sense: fractions are shares of one."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.cpus + other.cpus, self.gpus + other.gpus)

    def fits(self, there: "Resources") -> bool:
        """Whether `there` is at least as much."""
        return self.cpus <= there.cpus and self.gpus <= there.gpus

    def __str__(self) -> str:
        amounts = ((self.cpus, "CPU"), (self.gpus, "GPU"))
        return ", ".join(f"{amount:g} {kind}" for amount, kind in amounts if amount)


@dataclass(frozen=True)
class Input:
    """An output that a stage reads: that of a stage, or that of one `split` of it.

    `parts` are for a stage whose output consists of parts (see `Stage.has_parts`): those that are
    read. Without any, all are. It is the output of another variant if `config` is that one's.
    """

    stage: str
    split: str = ""
    parts: tuple[str, ...] = ()
    config: Config | None = None

    @property
    def name(self) -> str:
        """How `StageContext.inputs` and the manifest name it."""
        return output_name(self.stage, self.split)


def output_name(stage: str, split: str = "") -> str:
    """`tokenize_corpus/test`, or `train_joint` for a stage with one output for all splits."""
    return f"{stage}/{split}" if split else stage


@dataclass(frozen=True)
class StageContext:
    """What a running stage gets; `split` is empty unless it runs split by split.

    `inputs` are by name: `train_joint`, `tokenize_corpus/test`.
    """

    config: Config
    output: Artifact
    inputs: Mapping[str, Artifact]
    log: StageLog
    progress: Progress = SILENT
    split: str = ""


@dataclass(frozen=True)
class Stage:
    """One kind of node of the graph.

    The digest of an output covers `settings`, which returns values of the config (JSON); `sources`,
    which the stage reads and no other stage wrote; and `inputs`. `run` writes into `context.output`
    and returns scores; the scheduler writes them and the manifest. `headline` names the scores that
    are shown when the stage has ended, without their split: "wer" stands for "test.wer" too.
    `temporary` names folders of the output that only an unfinished stage needs.

    A stage with `splits` has an output for each: a further split is computed alone. `inputs` is
    called with the split, which is empty for other stages.

    If `has_parts`, the stage writes `parts.json`, a digest for each part of its content. The stages
    that read it depend on the parts that they read, instead of on how the output was asked for. So
    their digests are known only when it is complete.

    A stage is made for recordings: a corpus that has none runs only those that are `without_audio`.

    `check` raises an error for the user where the parts that the stage is to read cannot be used. It
    is called before anything is computed from them, and reads no other input.

    `requires` raises an error for the user where this machine lacks something that the stage needs,
    such as an optional package. It is called before anything is computed.

    A stage that computes by itself holds `cpus` and `gpus`, on any node. One that starts Ray Data
    jobs, Ray tasks or Ray Train workers holds none and stays with the driver: `workers` says how
    many it starts, each with `cluster.cpus_per_worker` and `cluster.gpus_per_worker`; where there are
    some, `cpus` is not held. One that `trains` starts `cluster.training_workers`, unless it is one: then
    its own process is that worker. Stages run at the same time only if the CPUs and GPUs suffice.
    """

    name: str
    version: int
    settings: Callable[[Config], dict[str, Any]]
    run: Callable[[StageContext], dict[str, float]]
    inputs: Callable[[Config, str], tuple[Input, ...]] = field(default=lambda _config, _split: ())
    sources: Callable[[Config], dict[str, Source]] = field(default=lambda _config: {})
    splits: Callable[[Config], tuple[str, ...]] = field(default=lambda _config: ("",))
    has_parts: bool = False
    applies: Callable[[Config], bool] = field(default=lambda _config: True)
    without_audio: bool = False
    estimate: Callable[[Config, str, Mapping[str, Artifact]], Estimate] = field(
        default=lambda _config, _split, _inputs: Estimate()
    )
    check: Callable[[Config, Mapping[str, Artifact]], None] = field(
        default=lambda _config, _inputs: None
    )
    requires: Callable[[Config], None] = field(default=lambda _config: None)
    cpus: float = 0.0
    workers: Callable[[Config], int] = field(default=lambda _config: 0)
    trains: bool = False
    gpus: float = 0.0
    temporary: Callable[[Config], tuple[str, ...]] = field(default=lambda _config: ())
    headline: tuple[str, ...] = ()

    def applies_to(self, config: Config) -> bool:
        """Whether the stage is part of this config's graph."""
        return (self.without_audio or config.corpus.has_audio) and self.applies(config)

    def headline_of(self, scores: Mapping[str, float]) -> str:
        """The scores named by `headline`, such as ", test.wer 0.0512"."""
        chosen = [name for name in scores if name.rpartition(".")[2] in self.headline]
        return "".join(f", {name} {scores[name]:.4g}" for name in chosen)
