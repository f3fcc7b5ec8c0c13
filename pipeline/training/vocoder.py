"""Training of the unit vocoder on one worker, from the tokens and recordings of a corpus."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split, read_tokens, tokenizer_grid
from pipeline.storage.artifacts import Artifact
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.inputs import AudioSource
from pipeline.training.loading import loader_processes
from pipeline.training.worker import Worker
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.segments import Clip, SegmentBatches
from pipeline.vocoder.training import evaluate_vocoder, train_vocoder

SCORED_BATCHES = 4


class VocoderTraining:
    """A vocoder with seeded weights and this worker's share of the segments of each split."""

    def __init__(self, config: Config, inputs: Mapping[str, Artifact], worker: Worker) -> None:
        splits = config.corpus.splits
        self._config = config
        self._inputs = inputs
        self._worker = worker
        self.vocoder = self._build()
        self.batches = {
            "train": self._batches(splits.train),
            "valid": self._batches(splits.valid),
        }

    def run(self, output: Artifact, log: Callable[[int, dict[str, float]], None]) -> None:
        """Train from the last checkpoint in `output` on; `log` gets the losses on every worker."""
        store = CheckpointStore(output, self._worker.device)
        train_vocoder(
            self.vocoder,
            self.batches["train"],
            self._config.vocoder,
            restore=store.latest,
            save=store.save if self._worker.leads else _ignore,
            log=log,
            device=self._worker.device,
            wrap=self._worker.prepare,
            loader_workers=loader_processes(self._config.cluster, self._worker.device),
        )

    def scores(self) -> dict[str, float]:
        self.vocoder.eval()
        losses = {
            f"{split}.{name}_loss": loss
            for split, batches in self.batches.items()
            for name, loss in evaluate_vocoder(self.vocoder, batches, SCORED_BATCHES).items()
        }
        return {**losses, "too_short_utterances": float(self.batches["train"].num_too_short)}

    def _build(self) -> UnitVocoder:
        """A vocoder for the tokenizer's codebook and frames and the training split's speakers."""
        tokenizer, corpus = self._inputs["train_joint"], self._config.corpus
        grid = tokenizer_grid(tokenizer, corpus.sample_rate_hz)
        heard = read_split(self._inputs["prepare_corpus"], corpus.splits.train)
        torch.manual_seed(self._config.vocoder.seed)
        return UnitVocoder(
            self._config.vocoder,
            num_units=tokenizer.read_json("tokenizer/config.json")["num_units"],
            speakers=sorted({utterance.speaker for utterance in heard}),
            hop=grid.hop,
            receptive_field=grid.receptive_field,
            sample_rate_hz=corpus.sample_rate_hz,
        ).to(self._worker.device)

    def _batches(self, split: str) -> SegmentBatches:
        settings, vocoder, cluster = self._config.vocoder, self.vocoder, self._config.cluster
        num_readers = max(1, loader_processes(cluster, self._worker.device))
        cache_bytes = int(cluster.cache_gigabytes * 2**30) // num_readers
        audio = AudioSource(vocoder.sample_rate_hz, cache_bytes)
        units = read_tokens(self._inputs["tokenize_corpus"], split)
        clips = [
            Clip(
                units[utterance.utt_id],
                vocoder.speaker_index(utterance.speaker),
                partial(audio.waveform, utterance),
            )
            for utterance in read_split(self._inputs["prepare_corpus"], split)
        ]
        frames_per_second = vocoder.sample_rate_hz / vocoder.hop
        return SegmentBatches(
            clips,
            segment_frames=max(1, round(settings.segment_seconds * frames_per_second)),
            batch_size=settings.batch_size,
            hop=vocoder.hop,
            shift=vocoder.shift,
            seed=settings.seed,
            rank=self._worker.rank,
            world_size=self._worker.world_size,
            speaker_dropout=settings.speaker_dropout,
        )


def _ignore(_step: int, _state: dict[str, Any]) -> None:
    """The leading worker alone saves checkpoints."""
