"""A corpus that needs no download: spoken by the bundled synthesiser, with exact phone alignments.

Every utterance depends only on the seed, its split and its number, never on how many processes or
utterances there are.
"""

import math
import multiprocessing
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.audio.decode import resample, write_audio
from pipeline.audio.utterance import CorpusError, Utterance
from pipeline.config.corpus import CorpusSection
from pipeline.config.section import Seed
from pipeline.corpus.adapter import Adapter
from pipeline.corpus.espeak import Voice, speak
from pipeline.corpus.expected_durations import Durations
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact

VOCABULARY = tuple(
    """
    zero one two three four five six seven eight nine
    about after again all animal answer apple arm baby back ball bank bath bed before begin better
    big bird black boat body book bottle bread bridge bring brother busy cake call car cat chair
    change child church city clean clock cloud coat coffee cold come cook country cup dance dark
    day desk dinner doctor dog door down dream drink early earth easy egg empty evening face family
    farm fast father fish floor food foot forest friend garden girl give glass good green hand
    happy hat head heavy help hill home horse house job jump kitchen lake large late laugh leave
    letter light little long love market minute money month morning mother mountain music name
    never night open orange paper people picture place play quick quiet rabbit river rock school
    small snow street summer table today tree under village walk water white window winter woman
    yellow young
    """.split()  # noqa: SIM905 - as a list it would take a line a word
)

_ACCENTS = ("en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")
_TRAIN_VARIANTS = (
    *("m1", "f1", "m2", "Annie", "m3", "f4", "m5", "Andy", "m7", "belinda", "Michael", "steph"),
    *("Mario", "aunty", "adam", "Gene", "edward", "anika", "max", "paul", "robert", "Lee"),
    *("benjamin", "pablo"),
)
_VALID_VARIANTS = ("m4", "steph2", "Denis", "Andrea")
_TEST_VARIANTS = ("m6", "linda", "Diogo", "shelby", "m8", "zac")

_WORDS_PER_MINUTE = (140, 200)
_PITCH = (30, 70)
_UTTERANCES_PER_BATCH = 20
_MAX_PROCESSES = 8

_MOST_UTTERANCES = 10**6  # their numbers have six digits

Utterances = Annotated[int, Field(ge=1, le=_MOST_UTTERANCES)]
Words = Annotated[int, Field(ge=1, le=len(VOCABULARY))]


class SyntheticCorpus(CorpusSection):
    """Speech from the bundled synthesiser, with exact phone alignments; needs no download."""

    kind: Literal["synthetic"] = "synthetic"
    utterances: dict[str, Utterances] = Field(default={"train": 800, "valid": 60, "test": 100})
    """How many utterances each split has."""
    min_words: Words = 4
    """The fewest words in an utterance."""
    max_words: Words = 7
    """The most words in an utterance."""
    seed: Seed = 0
    """Random seed of texts and voices."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = set(self.splits.names) - set(self.utterances)
        if missing:
            raise ValueError(f"utterances has no number for the splits {sorted(missing)}")
        if self.min_words > self.max_words:
            raise ValueError("min_words must not exceed max_words")
        return self


@dataclass(frozen=True)
class Prompt:
    """What to say, and how."""

    utt_id: str
    split: str
    text: str
    voice: Voice
    words_per_minute: int
    pitch: int


def voices(variants: tuple[str, ...]) -> tuple[Voice, ...]:
    """One voice for each variant; accents take turns."""
    return tuple(
        Voice(_ACCENTS[index % len(_ACCENTS)], variant) for index, variant in enumerate(variants)
    )


def make_prompts(config: SyntheticCorpus) -> list[Prompt]:
    """The prompts of every named split; voices of valid and test are unheard in training."""
    variants: dict[str, tuple[str, ...]] = dict.fromkeys(config.splits.test, _TEST_VARIANTS)
    variants[config.splits.valid] = _VALID_VARIANTS
    variants[config.splits.train] = _TRAIN_VARIANTS
    return [
        _prompt(config, split, number, voices(variants[split]))
        for split in config.splits.names
        for number in range(
            min(config.utterances[split], config.max_utterances or _MOST_UTTERANCES)
        )
    ]


def _prompt(config: SyntheticCorpus, split: str, number: int, choices: tuple[Voice, ...]) -> Prompt:
    rng = random.Random(f"{config.seed}/{split}/{number}")  # noqa: S311 - no secret
    words = rng.sample(VOCABULARY, rng.randint(config.min_words, config.max_words))
    return Prompt(
        utt_id=f"{split}-{number:06d}",
        split=split,
        text=" ".join(words),
        voice=rng.choice(choices),
        words_per_minute=rng.randint(*_WORDS_PER_MINUTE),
        pitch=rng.randint(*_PITCH),
    )


def _begin_process() -> None:
    """Use one core, and exit when the parent is killed."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _speak(prompt: Prompt, output: Artifact, sample_rate_hz: int) -> Utterance:
    speech = speak(prompt.text, prompt.voice, prompt.words_per_minute, prompt.pitch)
    spoken = speech.samples.astype(np.float32) / np.float32(2**15)
    samples = resample(spoken, speech.sample_rate_hz, sample_rate_hz)
    name = f"audio/{prompt.utt_id}.flac"
    with output.write(name) as file:
        write_audio(file, samples, sample_rate_hz)
    return Utterance(
        utt_id=prompt.utt_id,
        split=prompt.split,
        audio=f"{output.uri}/{name}",
        offset=0.0,
        duration=len(samples) / sample_rate_hz,
        speaker=prompt.voice.name,
        text=prompt.text,
        alignment=speech.phones,
    )


class SyntheticAdapter(Adapter[SyntheticCorpus]):
    """Speaks the corpus into the stage's output, instead of reading one."""

    section = SyntheticCorpus

    def read(
        self, config: SyntheticCorpus, output: Artifact, progress: Progress
    ) -> Iterator[Utterance]:
        """Speak every prompt into `audio/` of the output, in parallel processes; in prompt order.

        Raises:
            EspeakError: the synthesiser's installation is damaged.
        """
        prompts = make_prompts(config)
        num_batches = math.ceil(len(prompts) / _UTTERANCES_PER_BATCH)
        # Spawned: a fork of a process that has threads (torch, Ray) may hang.
        with ProcessPoolExecutor(
            max_workers=min(os.cpu_count() or 1, _MAX_PROCESSES, num_batches),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_process,
        ) as pool:
            speak_prompt = partial(_speak, output=output, sample_rate_hz=config.sample_rate_hz)
            utterances = pool.map(speak_prompt, prompts, chunksize=_UTTERANCES_PER_BATCH)
            for spoken, utterance in enumerate(utterances, start=1):
                yield utterance
                progress.update(spoken, len(prompts), "utterances synthesised")

    def fingerprint(self, _config: SyntheticCorpus, cache: Artifact) -> str:  # noqa: ARG002
        """The synthesiser's version."""
        try:
            return f"espeakng-loader {version('espeakng-loader')}"
        except PackageNotFoundError:
            raise CorpusError(
                "the synthetic corpus needs the package espeakng-loader: pip install espeakng-loader"
            ) from None

    def paths(self, _config: SyntheticCorpus) -> dict[str, str]:
        return {}

    def durations(self, _config: SyntheticCorpus) -> dict[str, Durations]:
        """Nothing: durations are known only after synthesis."""
        return {}

    def speakers(self, config: SyntheticCorpus) -> set[str]:
        return {prompt.voice.name for prompt in make_prompts(config)}


ADAPTER = SyntheticAdapter()
