"""What the resynthesis loss compares with: the spectra of an utterance's frames, and its speaker."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.corpus.read_outputs import read_split
from pipeline.storage.artifacts import Artifact
from pipeline.training.inputs import AudioSource, Cache, Example, Inputs, Source
from pipeline.vocoder.frame_mels import FrameMels
from pipeline.vocoder.speakers import AVERAGE_SPEAKER


def speaker_rows(config: Config, corpus: Artifact) -> dict[str, int]:
    """A row for each speaker of the training split; none where there is no resynthesis loss."""
    if not config.resynthesis_loss.weight:
        return {}
    heard = {utterance.speaker for utterance in read_split(corpus, config.corpus.splits.train)}
    return {speaker: row for row, speaker in enumerate(sorted(heard))}


class SpeechTargets:
    """The log-mel spectra of utterances, which are kept, and their speakers' rows."""

    def __init__(
        self, audio: AudioSource, mels: FrameMels, rows: Mapping[str, int], cache_bytes: int
    ) -> None:
        self._audio, self._mels, self._rows = audio, mels, rows
        self._cache = Cache(cache_bytes)

    def add(self, inputs: Inputs, examples: Sequence[Example]) -> Inputs:
        """`inputs` with the targets of its utterances; a speaker unheard in training has no row."""
        spectra = [torch.from_numpy(self._spectra(example.utterance)) for example in examples]
        rows = [self._rows.get(example.utterance.speaker, AVERAGE_SPEAKER) for example in examples]
        return replace(
            inputs,
            log_mels_BTM=pad_sequence(spectra, batch_first=True),
            speakers_B=torch.tensor(rows),
        )

    def _spectra(self, utterance: Utterance) -> np.ndarray:
        spectra_TM = self._cache.get(utterance.utt_id)
        if spectra_TM is None:
            spectra_TM = self._mels(self._audio.waveform(utterance))
            self._cache.put(utterance.utt_id, spectra_TM)
        return spectra_TM


class WithTargets:
    """A source of frames that brings the targets along, whatever the frames come from."""

    def __init__(self, source: Source, targets: SpeechTargets) -> None:
        self._source, self._targets = source, targets

    def load(self, examples: Sequence[Example], epoch: int | None = None) -> Inputs:
        return self._targets.add(self._source.load(examples, epoch), examples)
