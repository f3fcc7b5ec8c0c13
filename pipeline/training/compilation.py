"""Whether a training's models are compiled."""

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.kernel_compiler import can_compile_kernels
from pipeline.training.inputs import Example
from pipeline.training.worker import Worker

# Compiled blocks of WavLM large took 80 instead of 110 ms for 100 s of audio on an H200, and 30 s to
# compile. So two minutes for all graphs are won back after 111 hours; beyond twice that it is worth it.
WORTHWHILE_HOURS = 222


def compiles(config: Config, examples: Sequence[Example], worker: Worker) -> bool:
    """Whether to compile the model's blocks for this training on `examples`.

    `auto` does so on a GPU with enough audio and a C compiler, without which Triton starts no kernel;
    and not where workers hold parts of the model, which they gather block by block.
    """
    training = config.training
    if training.compile != "auto":
        return training.compile == "on"
    if (
        worker.device.type != "cuda"
        or config.cluster.sharding == "fsdp"
        or not can_compile_kernels()
    ):
        return False
    hours = sum(example.utterance.duration for example in examples) / 3600
    passes = sum(phase.epochs for phase in training.phases)
    return passes * hours / worker.world_size >= WORTHWHILE_HOURS
