"""Which frames are stored, and how large they will be.

Imports neither torch nor transformers, so `plan` may ask.
"""

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.model_grid import grid_of_model
from pipeline.config import Config, ConfigError, Features, Ssl
from pipeline.corpus.read_outputs import read_split
from pipeline.storage.artifacts import Artifact

BYTES_PER_VALUE = 2  # float16; noise-like values do not compress
# Of the models on the hub, the first name that fits; the other *base* models have 768.
HIDDEN_SIZES = {
    "whisper-tiny": 384,
    "whisper-base": 512,
    "whisper-medium": 1024,
    "whisper-large": 1280,
    "xlarge": 1280,
    "large": 1024,
}


def sample_size(num_frames: int, share: float) -> int:
    """How many of an utterance's frames are stored: its share of them, at least one."""
    return min(num_frames, max(1, round(share * num_frames)))


def sample_frames(utt_id: str, num_frames: int, share: float, seed: int) -> npt.NDArray[np.int32]:
    """`sample_size` ascending indices, which do not depend on corpus, shard or batch."""
    generator = random.Random(f"{seed}/{utt_id}")  # noqa: S311 (no secret)
    chosen = generator.sample(range(num_frames), sample_size(num_frames, share))
    return np.sort(np.array(chosen, dtype=np.int32))


def grid_of(config: Config) -> FrameGrid:
    """The grid of frames, from the model's folder.

    A model of the hub is taken to have the usual one, of which others differ by a frame.
    """
    return grid_of_model(config.ssl.description()).pooled(config.features.pool)


def num_stored_frames(seconds: Sequence[float], features: Features, grid: FrameGrid) -> int:
    """Frames of utterances of these durations, as far as `features` stores them."""
    counts = [grid.num_frames(round(duration * grid.sample_rate_hz)) for duration in seconds]
    if features.sample_frames_per_second is not None:
        share = features.sample_frames_per_second / grid.frames_per_second
        counts = [sample_size(count, share) for count in counts]
    return sum(counts)


def check_num_units(config: Config, corpus: Artifact) -> None:
    """Refuse more units than there will be frames to fit them to, from the output of prepare_corpus.

    Raises:
        ConfigError: `codebook.num_units` is larger than the training split allows.
    """
    train = read_split(corpus, config.corpus.splits.train)
    seconds = [utterance.duration for utterance in train]
    num_frames = num_stored_frames(seconds, config.features, grid_of(config))
    if num_frames < config.codebook.num_units:
        raise ConfigError(
            f"codebook.num_units {config.codebook.num_units} needs as many distinct frames, but the "
            f"training split stores {num_frames}: lower it, or use more speech"
        )


def bytes_per_frame(features: Features, ssl: Ssl) -> int:
    return len(features.layers) * hidden_size(ssl) * BYTES_PER_VALUE


def hidden_size(ssl: Ssl) -> int:
    """What the model's folder says, or the size that the name of a hub model suggests."""
    if ssl.hidden_size is not None:
        return ssl.hidden_size
    return next((size for name, size in HIDDEN_SIZES.items() if name in ssl.model), 768)
