"""The unit vocoder, trained on the training split's tokens and recordings on Ray Train."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext, say
from pipeline.storage.artifacts import Artifact
from pipeline.tracking import StageRun

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pipeline.training.inputs import Cache
    from pipeline.training.worker import Worker
    from pipeline.vocoder.generator import UnitVocoder
    from pipeline.vocoder.segments import SegmentBatches

SCORED_BATCHES = 4


def _settings(config: Config) -> dict[str, Any]:
    unrelated = {"enabled", "log_steps", "checkpoint_steps"}
    return {
        "vocoder": config.vocoder.model_dump(mode="json", exclude=unrelated),
        "splits": [config.corpus.splits.train, config.corpus.splits.valid],
    }


def _applies(config: Config) -> bool:
    return config.vocoder.enabled and config.quantizer.has_units


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.train import run_workers

    settings = {
        "config": context.config.model_dump(mode="json"),
        "output": context.output,
        "inputs": dict(context.inputs),
        "tracker": context.tracker,
    }
    name = f"train_vocoder-{context.config.variant}"
    scores = run_workers(_train, settings, context.config.cluster, name)
    context.output.delete("checkpoints")
    return scores


def _train(settings: dict[str, Any]) -> dict[str, float]:
    """What every training worker does."""
    from pipeline.runtime.train import worker

    return train(
        Config.model_validate(settings["config"]),
        worker(settings),
        settings["inputs"],
        settings["output"],
        settings["tracker"],
    )


def train(
    config: Config,
    place: "Worker",
    inputs: dict[str, Artifact],
    output: Artifact,
    tracker: StageRun,
) -> dict[str, float]:
    """Train on this worker's share; the leading worker saves the vocoder and returns its scores."""
    from pipeline.training.checkpoint_store import CheckpointStore
    from pipeline.training.loading import loader_processes
    from pipeline.vocoder.training import train_vocoder

    splits = config.corpus.splits
    vocoder = _build(config, inputs, place)
    train_batches = _batches(config, inputs, vocoder, splits.train, place)
    valid_batches = _batches(config, inputs, vocoder, splits.valid, place)
    store = CheckpointStore(output, place.device)
    train_vocoder(
        vocoder,
        train_batches,
        config.vocoder,
        restore=store.latest,
        save=store.save if place.leads else _ignore,
        log=_log(config, tracker) if place.leads else _ignore,
        device=place.device,
        wrap=place.prepare,
        loader_workers=loader_processes(config.cluster, place.device),
    )
    scores = {}
    if place.leads:
        scores = _scores(vocoder, {"train": train_batches, "valid": valid_batches})
        scores["too_short_utterances"] = float(train_batches.num_too_short)
        with output.write_folder("vocoder") as folder:
            vocoder.cpu().save_pretrained(folder)
        tracker.flush()
    place.barrier()
    return scores


def _build(config: Config, inputs: dict[str, Artifact], place: "Worker") -> "UnitVocoder":
    """A vocoder for the tokenizer's codebook and frames, with seeded weights."""
    import torch

    from pipeline.corpus.read_outputs import read_split, tokenizer_grid
    from pipeline.vocoder.generator import UnitVocoder

    tokenizer = inputs["train_joint"]
    rate_hz = config.corpus.sample_rate_hz
    grid = tokenizer_grid(tokenizer, rate_hz)
    heard = read_split(inputs["prepare_corpus"], config.corpus.splits.train)
    torch.manual_seed(config.vocoder.seed)
    return UnitVocoder(
        config.vocoder,
        num_units=tokenizer.read_json("tokenizer/config.json")["num_units"],
        speakers=sorted({utterance.speaker for utterance in heard}),
        hop=grid.hop,
        receptive_field=grid.receptive_field,
        sample_rate_hz=rate_hz,
    ).to(place.device)


def _batches(
    config: Config,
    inputs: dict[str, Artifact],
    vocoder: "UnitVocoder",
    split: str,
    place: "Worker",
) -> "SegmentBatches":
    from pipeline.corpus.read_outputs import read_split, read_tokens
    from pipeline.training.loading import loader_processes
    from pipeline.vocoder.segments import Clip, SegmentBatches

    settings = config.vocoder
    utterances = read_split(inputs["prepare_corpus"], split)
    units = read_tokens(inputs["tokenize_corpus"], split)
    num_readers = max(1, loader_processes(config.cluster, place.device))
    cache_bytes = int(config.cluster.cache_gigabytes * 2**30) // num_readers
    readers = _readers(utterances, vocoder.sample_rate_hz, cache_bytes)
    clips = [
        Clip(units[utterance.utt_id], vocoder.speaker_index(utterance.speaker), read)
        for utterance, read in zip(utterances, readers, strict=True)
    ]
    frames_per_second = vocoder.sample_rate_hz / vocoder.hop
    return SegmentBatches(
        clips,
        segment_frames=max(1, round(settings.segment_seconds * frames_per_second)),
        batch_size=settings.batch_size,
        hop=vocoder.hop,
        shift=vocoder.shift,
        seed=settings.seed,
        rank=place.rank,
        world_size=place.world_size,
        speaker_dropout=settings.speaker_dropout,
    )


def _readers(
    utterances: Sequence[Utterance], sample_rate_hz: int, cache_bytes: int
) -> "list[Callable[[], np.ndarray]]":
    """What reads each utterance's samples; recently read ones are kept, in one cache a process."""
    from functools import partial

    from pipeline.training.inputs import Cache

    cache = Cache(cache_bytes)
    return [partial(_read, cache, sample_rate_hz, utterance) for utterance in utterances]


def _read(cache: "Cache", sample_rate_hz: int, utterance: Utterance) -> "np.ndarray":
    from pipeline.audio.decode import read_audio

    found = cache.get(utterance.utt_id)
    if found is None:
        found = read_audio(utterance.audio, sample_rate_hz, utterance.offset, utterance.duration)
        cache.put(utterance.utt_id, found)
    return found


def _log(config: Config, tracker: StageRun) -> "Callable[[int, dict[str, float]], None]":
    def log(step: int, losses: dict[str, float]) -> None:
        tracker.log_metrics({f"{name}_loss": loss for name, loss in losses.items()}, step)
        values = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        say(f"train_vocoder: {config.variant}: step {step} of {config.vocoder.steps}: {values}")

    return log


def _scores(vocoder: "UnitVocoder", batches: "dict[str, SegmentBatches]") -> dict[str, float]:
    from pipeline.vocoder.training import evaluate_vocoder

    vocoder.eval()
    return {
        f"{split}.{name}_loss": loss
        for split, of_split in batches.items()
        for name, loss in evaluate_vocoder(vocoder, of_split, SCORED_BATCHES).items()
    }


def _ignore(_step: int, _values: dict[str, Any]) -> None:
    """What workers behind the leading one do with checkpoints and losses."""


STAGE = Stage(
    name="train_vocoder",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus"),
    applies=_applies,
    workers=lambda config: config.cluster.training_workers,
)
