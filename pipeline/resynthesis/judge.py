"""The recogniser that hears the speech of all variants: a trained variant's, or a Whisper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.asr.model import AsrModel
from pipeline.asr.whisper_recogniser import WhisperRecogniser
from pipeline.audio.utterance import Utterance
from pipeline.config import Config, Resynthesis
from pipeline.features.batching import map_in_batches
from pipeline.metrics.utterance_scores import Share
from pipeline.resynthesis.heard import Heard
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

BATCH_SECONDS = 60.0

Waveforms = Sequence[np.ndarray]


@dataclass(frozen=True)
class Judge:
    """A recogniser that is the same for all variants, and how its texts are normalized."""

    transcribe: Callable[[Waveforms], list[str]]
    normalize: Callable[[str], str] = str

    def hear(
        self,
        utterances: Sequence[Utterance],
        speech: str,
        read: Callable[[Utterance], np.ndarray],
        report: Callable[[int], None] = lambda _done: None,
    ) -> list[Heard]:
        """What it makes of each utterance as `read` gives it; utterances of similar length at once."""

        def transcribe(batch: Sequence[Utterance]) -> list[Heard]:
            texts = self.transcribe([read(each) for each in batch])
            return [Heard(each, speech, text) for each, text in zip(batch, texts, strict=True)]

        seconds = [utterance.duration for utterance in utterances]
        return map_in_batches(transcribe, utterances, seconds, BATCH_SECONDS, report)

    def errors(self, heard: Heard) -> dict[str, Share]:
        return heard.errors(normalize=self.normalize)


def open_judge(settings: Resynthesis, trained: Artifact | None) -> Judge:
    """The judge that the config names, ready to hear speech.

    `trained` is the training of the variant that judges, if one does.
    """
    if settings.judging_config is not None and trained is not None:
        return Judge(_trained_recogniser(settings.judging_config, trained))
    whisper = WhisperRecogniser(settings.judging_folder or "", settings.language)
    return Judge(whisper.transcribe, whisper.normalize)


def _trained_recogniser(config: Config, trained: Artifact) -> Callable[[Waveforms], list[str]]:
    """Speech to text by what a variant has trained, units or none."""
    front_end: type[UnitTokenizer | FeatureMixer] = FeatureMixer
    saved_in = "features"
    if config.quantizer.has_units:
        front_end, saved_in = UnitTokenizer, "tokenizer"
    with trained.read_folder(saved_in) as folder:
        encode = front_end.from_pretrained(folder).encode
    with trained.read_folder("asr") as folder:
        asr = AsrModel.from_pretrained(folder)
    return lambda waveforms: asr.transcribe(encode(waveforms), config.asr_evaluation)
