"""One training of the unit vocoder, from the tokens and recordings of a corpus."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.audio.decode import write_audio
from pipeline.audio.level import at_one_level
from pipeline.audio.pitch import fundamental_hz
from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split, read_tokens, tokenizer_grid
from pipeline.corpus.shards import TOKENS
from pipeline.log.stage_log import StageLog
from pipeline.progress import Progress
from pipeline.resynthesis.evaluation import evenly_spread, who_speaks
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.identity import tokenizer_of_shards
from pipeline.training import vocoder_trainer
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.inputs import AudioSource
from pipeline.training.loading import loader_cache_bytes, loader_processes
from pipeline.training.worker import Worker
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.material import band_hz, segment_frames
from pipeline.vocoder.segments import Clip, SegmentBatches
from pipeline.vocoder.speakers import Key, SpeakerTable
from pipeline.vocoder.voice import KnownVoices, Read

SCORED_BATCHES = 4
EXAMPLES = 2


def train_vocoder(
    config: Config,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    worker: Worker,
    *,
    log: StageLog,
    progress: Progress,
) -> dict[str, float]:
    """What every training worker does; the leading one writes the vocoder and scores it."""
    vocoder = _build(config, inputs).to(worker.device)
    splits = {"train": config.corpus.splits.train, "valid": config.corpus.splits.valid}
    batches = {
        name: _batches(config, inputs, split, vocoder, worker) for name, split in splits.items()
    }
    store = CheckpointStore(output, worker.device)

    def tell(step: int, losses: dict[str, float]) -> None:
        if worker.leads:
            log.metrics({f"{name}_loss": loss for name, loss in losses.items()}, step)
            values = ", ".join(f"{name} loss {loss:.3f}" for name, loss in losses.items())
            progress.update(step, config.vocoder.steps, "steps", values)

    def save(step: int, state: dict[str, Any]) -> None:
        if worker.leads:
            log.flush()
            store.save(step, state)

    averaged = vocoder_trainer.train_vocoder(
        vocoder,
        batches["train"],
        config.vocoder,
        state=store.latest(),
        save=save,
        log=tell,
        listen=_examples(config, inputs, log) if worker.leads else lambda _step, _vocoder: None,
        wrap=worker.prepare,
        autocast=partial(worker.autocast, config.vocoder.precision),
        loader_workers=loader_processes(config.cluster, worker.device),
    )
    scores = {}
    if worker.leads:
        scores = _scores(averaged, batches)
        with output.write_folder("vocoder") as folder:
            averaged.cpu().save_pretrained(folder)
    worker.barrier()
    return scores


def _build(config: Config, inputs: Mapping[str, Artifact]) -> UnitVocoder:
    """A vocoder for the tokenizer's codebook and frames and the training split's speakers."""
    tokenizer, corpus = inputs["train_joint"], config.corpus
    heard = read_split(inputs["prepare_corpus"], corpus.splits.train)
    torch.manual_seed(config.vocoder.seed)
    return UnitVocoder(
        config.vocoder,
        tokenizer.read_json("tokenizer/config.json")["num_units"],
        sorted({utterance.speaker for utterance in heard}),
        tokenizer_grid(tokenizer),
        tokenizer_of_shards(inputs[f"tokenize_corpus/{corpus.splits.train}"], TOKENS),
        band_hz=config.vocoder.band_hz or band_hz(heard),
    )


def _examples(
    config: Config, inputs: Mapping[str, Artifact], log: StageLog
) -> Callable[[int, UnitVocoder], None]:
    """Stores some utterances of the validation split as a vocoder speaks them."""
    split = config.corpus.splits.valid
    of_split = read_split(inputs["prepare_corpus"], split)
    utterances = evenly_spread(of_split, EXAMPLES)
    units = read_tokens(inputs[f"tokenize_corpus/{split}"], split)

    def listen(step: int, vocoder: UnitVocoder) -> None:
        made = vocoder.resynthesize_batch(
            [units[each.utt_id] for each in utterances],
            [who_speaks(vocoder, each, of_split) for each in utterances],
        )
        for utterance, samples in zip(utterances, made, strict=True):
            name = f"examples/{utterance.utt_id}/step-{step:06d}.wav"
            with log.output.write(name) as file:
                write_audio(file, samples, vocoder.sample_rate_hz, format="WAV")
            log.file(name)

    return listen


def _batches(
    config: Config,
    inputs: Mapping[str, Artifact],
    split: str,
    vocoder: UnitVocoder,
    worker: Worker,
) -> SegmentBatches:
    """This worker's share of the segments of `split`."""
    settings, grid = config.vocoder, vocoder.grid
    utterances = read_split(inputs["prepare_corpus"], split)
    audio = AudioSource(grid.sample_rate_hz, loader_cache_bytes(config.cluster, worker.device))
    read = partial(_at_one_level, audio, grid.sample_rate_hz)
    units = read_tokens(inputs[f"tokenize_corpus/{split}"], split)
    keys = _keys(vocoder, utterances, read, learns=split == config.corpus.splits.train)
    clips = [
        Clip(units[utterance.utt_id], keys[utterance.utt_id], partial(read, utterance))
        for utterance in utterances
    ]
    track = partial(fundamental_hz, sample_rate_hz=grid.sample_rate_hz, hop=grid.hop)
    return SegmentBatches(
        clips=clips,
        segment_frames=segment_frames(settings, grid),
        batch_size=settings.batch_size,
        hop=grid.hop,
        shift=vocoder.shift,
        seed=settings.seed,
        rank=worker.rank,
        world_size=worker.world_size,
        average_speaker=vocoder.voices.key(None),
        # One who speaks for unseen ones has segments of his own, which others' would spoil.
        speaker_dropout=0.0 if settings.unseen_speaker else settings.speaker_dropout,
        track=track if vocoder.pitch else None,
    )


def _at_one_level(audio: AudioSource, sample_rate_hz: int, utterance: Utterance) -> np.ndarray:
    return at_one_level(audio.waveform(utterance), sample_rate_hz)


def _keys(
    vocoder: UnitVocoder, utterances: Sequence[Utterance], read: Read, *, learns: bool
) -> dict[str, Sequence[Key]]:
    """By utt_id, the keys of its speaker; an encoder learns what voices there are."""
    if isinstance(vocoder.voices, SpeakerTable):
        return {each.utt_id: (vocoder.voices.key(each.speaker),) for each in utterances}
    known = KnownVoices(utterances, read, vocoder.sample_rate_hz)
    if learns:
        vocoder.voices.hear([known.of(speaker) for speaker in vocoder.speakers])
    return {each.utt_id: known.for_utterance(each) for each in utterances}


def _scores(vocoder: UnitVocoder, batches: Mapping[str, SegmentBatches]) -> dict[str, float]:
    losses = {
        f"{split}.{name}_loss": loss
        for split, of_split in batches.items()
        for name, loss in vocoder_trainer.evaluate_vocoder(
            vocoder, replace(of_split, rank=0, world_size=1), SCORED_BATCHES
        ).items()
    }
    return {**losses, "too_short_utterances": float(batches["train"].num_too_short)}
