"""How resynthesised speech is scored."""

from typing import Literal

from pipeline.config.section import Count, Section, Text


class SpeechScores(Section):
    """Scores of resynthesised test speech, but for who judges it."""

    utterances_per_split: Count = 20
    """Utterances of each test split that are resynthesised and scored."""
    audio_examples: Count = 3
    """How many of them MLflow shows as audio."""
    language: Text | None = None
    """The language that a judging Whisper model is told, such as `en`; `None` lets it find out."""
    measures: tuple[Literal["dnsmos", "similarity", "crepe"], ...] = ()
    """What models of the extra `judges` (`pip install 'dkm-pipeline[judges]'`) say of the speech
    besides: `dnsmos`, its quality; `similarity`, how alike the speakers of speech and recording are;
    `crepe`, F0 by a neural tracker."""
