"""A Whisper model as it was published, as a recogniser; and its texts beside references."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishTextNormalizer,
)

from pipeline.config import ConfigError
from pipeline.features.ssl import no_progress_bars

SPELLINGS = "normalizer.json"  # British words and their American forms
WINDOWS_AT_ONCE = 4  # of 30 s each, however short the speech is
_DIGIT = re.compile(r"(\d)")


class WhisperRecogniser:
    """Greedy transcripts of a multilingual or English Whisper, in windows of the model's 30 s.

    Args:
        folder: as `save_pretrained` writes model, feature extractor and tokenizer.
        language: what a multilingual model is told; `None` lets it find out for each utterance.

    Raises:
        ConfigError: the model does not know the language.
    """

    def __init__(self, folder: str | Path, language: str | None = None) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with no_progress_bars():
            # The checkpoint may hold 16 bits, which CPUs are slow in.
            model: Any = WhisperForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            )
        self._model = model.to(device).eval()
        self._extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._spoken = self._told(language)
        self.normalize = _normalizer(Path(folder), english=self._is_english(language))

    @property
    def sample_rate_hz(self) -> int:
        return int(self._extractor.sampling_rate)

    def _is_english(self, language: str | None) -> bool:
        return language == "en" or not self._is_multilingual

    @property
    def _is_multilingual(self) -> bool:
        return bool(getattr(self._model.generation_config, "is_multilingual", False))

    def _told(self, language: str | None) -> dict[str, str]:
        """The arguments of `generate` that name task and language; English models take none."""
        if not self._is_multilingual:
            return {}
        known = {token.strip("<|>") for token in self._model.generation_config.lang_to_id}
        if language is not None and language not in known:
            raise ConfigError(
                f"resynthesis.language '{language}' is none of this Whisper's: {', '.join(sorted(known))}"
            )
        return {"task": "transcribe", **({} if language is None else {"language": language})}

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """The text of each waveform, float32 mono at `sample_rate_hz`, as Whisper writes it."""
        most = self._extractor.n_samples
        owners, windows = [], []
        for owner, waveform in enumerate(waveforms):
            for start in range(0, max(1, len(waveform)), most):
                owners.append(owner)
                windows.append(np.asarray(waveform[start : start + most], dtype=np.float32))
        texts = [
            text
            for first in range(0, len(windows), WINDOWS_AT_ONCE)
            for text in self._write(windows[first : first + WINDOWS_AT_ONCE])
        ]
        found: list[list[str]] = [[] for _ in waveforms]
        for owner, text in zip(owners, texts, strict=True):
            found[owner].append(text.strip())
        return [" ".join(each) for each in found]

    def _write(self, windows: list[np.ndarray]) -> list[str]:
        features = self._extractor(
            windows,
            sampling_rate=self.sample_rate_hz,
            return_attention_mask=True,
            return_tensors="pt",
        )
        pieces = self._model.generate(
            **features.to(self._model.device), num_beams=1, do_sample=False, **self._spoken
        )
        texts: list[str] = self._tokenizer.batch_decode(pieces, skip_special_tokens=True)
        return texts


def _normalizer(folder: Path, *, english: bool) -> Callable[[str], str]:
    """Whisper's own normalization, but with each digit as a word.

    It writes numbers in digits, "one two" as 12, so that a string of digits would count as one word.
    """
    if not english:
        return _words(BasicTextNormalizer())
    spellings = folder / SPELLINGS
    known = json.loads(spellings.read_text(encoding="utf-8")) if spellings.is_file() else {}
    return _words(EnglishTextNormalizer(known))  # type: ignore[no-untyped-call] # transformers'


def _words(normalize: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: " ".join(_DIGIT.sub(r" \1 ", normalize(text)).split())
