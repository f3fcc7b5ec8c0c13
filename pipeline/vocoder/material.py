"""What the vocoder needs of a corpus: utterances as long as a segment, and the speaker it names.

Imports no PyTorch, so that a run can ask before it has trained anything.
"""

from collections.abc import Sequence

from pipeline.audio.decode import probe_rate_hz
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Utterance
from pipeline.config import Config, ConfigError, Vocoder
from pipeline.corpus.read_outputs import read_split
from pipeline.features.size import grid_of
from pipeline.storage.artifacts import Artifact

PROBED = 20  # files whose sample rates are looked up


def check_material(config: Config, corpus: Artifact) -> None:
    """Refuse a corpus that no vocoder can be trained on, from the output of prepare_corpus alone.

    Raises:
        ConfigError: the rates, the speaker or the segments of `vocoder` do not suit it.
    """
    grid = grid_of(config)
    require_hop(config.vocoder, grid.hop)
    train, valid = (
        read_split(corpus, split)
        for split in (config.corpus.splits.train, config.corpus.splits.valid)
    )
    speakers = sorted({utterance.speaker for utterance in train})
    require_speaker(config.vocoder.unseen_speaker, speakers)
    require_segments(config.vocoder.batch_size, config.cluster.training_workers)
    for utterances in (train, valid):
        samples = (round(each.duration * grid.sample_rate_hz) for each in utterances)
        counts = [grid.num_frames(number) for number in samples]
        require_length(counts, segment_frames(config.vocoder, grid))


def require_hop(settings: Vocoder, hop: int) -> None:
    """Refuse a generator that does not turn T frames into exactly hop T samples.

    Raises:
        ConfigError: as it says.
    """
    if mistake := settings.hop_mistake(hop):
        raise ConfigError(mistake)


def band_hz(utterances: Sequence[Utterance]) -> float:
    """Half the highest sample rate among the files of some of the utterances, in Hz."""
    some = utterances[:: -(-len(utterances) // PROBED)]
    return max(probe_rate_hz(utterance.audio) for utterance in some) / 2


def segment_frames(settings: Vocoder, grid: FrameGrid) -> int:
    """The frames of a training segment."""
    return max(1, round(settings.segment_seconds * grid.frames_per_second))


def require_segments(batch_size: int, num_workers: int) -> None:
    """Refuse a step that has nothing for some worker.

    Raises:
        ConfigError: as it says.
    """
    if batch_size < num_workers:
        raise ConfigError(
            f"vocoder.batch_size {batch_size} leaves some of cluster.training_workers {num_workers} "
            "without a segment: raise the one, or lower the other"
        )


def require_length(num_frames: Sequence[int], frames_of_segment: int) -> None:
    """Refuse utterances none of which is as long as a segment.

    Raises:
        ConfigError: as it says.
    """
    if max(num_frames, default=0) < frames_of_segment:
        raise ConfigError(
            f"none of {len(num_frames)} utterances has the {frames_of_segment} frames of a segment: "
            "lower vocoder.segment_seconds, or use longer utterances"
        )


def require_speaker(speaker: str | None, heard: Sequence[str]) -> None:
    """Refuse a substitute for other speakers who is not among the training speakers; None is fine.

    Raises:
        ConfigError: as it says.
    """
    if speaker is not None and speaker not in heard:
        raise ConfigError(
            f"vocoder.unseen_speaker '{speaker}' is not among the training speakers "
            f"{', '.join(heard)}: name one of them, or null for their average"
        )
