"""Which frames of an utterance are stored when the config asks for a sample."""

import random

import numpy as np
import numpy.typing as npt


def sample_size(num_frames: int, share: float) -> int:
    """How many of an utterance's frames are stored: its share of them, at least one."""
    return min(num_frames, max(1, round(share * num_frames)))


def sample_frames(utt_id: str, num_frames: int, share: float, seed: int) -> npt.NDArray[np.int32]:
    """`sample_size` ascending indices, which do not depend on corpus, shard or batch."""
    generator = random.Random(f"{seed}/{utt_id}")  # noqa: S311 (no secret)
    chosen = generator.sample(range(num_frames), sample_size(num_frames, share))
    return np.sort(np.array(chosen, dtype=np.int32))
