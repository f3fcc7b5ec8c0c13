import pytest
import soundfile

from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.synthetic import (
    _TEST_VARIANTS,
    _TRAIN_VARIANTS,
    _VALID_VARIANTS,
    ADAPTER,
    VOCABULARY,
    SyntheticCorpus,
    _speak,
    make_prompts,
    voices,
)
from pipeline.corpus.check import check, require
from pipeline.corpus.espeak import speak
from pipeline.progress import Progress, Report
from pipeline.storage.artifacts import Artifact

SMALL = SyntheticCorpus(utterances={"train": 4, "valid": 1, "test": 1})
LARGE = SyntheticCorpus(utterances={"train": 300, "valid": 60, "test": 60})


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The same corpus, spoken in parallel processes and in this one."""
    pooled, plain = (Artifact(str(tmp_path_factory.mktemp("synthetic"))) for _ in range(2))
    sent = []
    spoken = list(ADAPTER.read(SMALL, pooled, Progress(sent.append)))
    backwards = make_prompts(SMALL)[::-1]
    spoken_again = [_speak(prompt, plain, 16000) for prompt in backwards][::-1]
    return (pooled, spoken, sent), (plain, spoken_again, [])


def test_two_runs_are_byte_identical(two_runs):
    (first, spoken, _), (second, spoken_again, _) = two_runs
    assert len(first.names("audio")) == 6
    assert first.names() == second.names()
    for name in first.names():
        with first.read(name) as left, second.read(name) as right:
            assert left.read() == right.read(), name
    for left, right in zip(spoken, spoken_again, strict=True):
        assert (left.text, left.speaker, left.alignment) == (
            right.text,
            right.speaker,
            right.alignment,
        )


def test_spoken_utterances_pass_the_check(two_runs):
    output, spoken, sent = two_runs[0]
    corpus = check(spoken, SMALL)
    require(corpus, SMALL)
    assert corpus.rejects == []
    assert len(corpus.utterances) == 6
    assert sent[-1] == Report(6, 6, "utterances synthesised")
    for utterance in spoken:
        info = soundfile.info(utterance.audio)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert utterance.audio.startswith(output.uri)
        assert info.duration == pytest.approx(utterance.duration, abs=1e-9)
        assert utterance.alignment[-1].end < utterance.duration


def test_a_longer_corpus_begins_with_the_shorter_one():
    longer = SMALL.model_copy(update={"utterances": {"train": 9, "valid": 1, "test": 1}})
    assert make_prompts(longer)[:4] == make_prompts(SMALL)[:4]


def test_max_utterances_limits_what_is_spoken():
    limited = LARGE.model_copy(update={"max_utterances": 5})
    assert len(make_prompts(limited)) == 15


def test_another_seed_says_something_else():
    texts = {prompt.text for prompt in make_prompts(LARGE)}
    other = {prompt.text for prompt in make_prompts(LARGE.model_copy(update={"seed": 1}))}
    assert not texts & other


def test_voices_of_valid_and_test_are_unheard_in_training():
    prompts = make_prompts(LARGE)
    heard = {
        split: {prompt.voice.variant for prompt in prompts if prompt.split == split}
        for split in ("train", "valid", "test")
    }
    assert len(heard["train"]) >= 20
    assert not heard["train"] & heard["valid"]
    assert not heard["train"] & heard["test"]
    assert not heard["valid"] & heard["test"]


def test_every_test_split_has_the_test_voices():
    config = SyntheticCorpus(
        splits=Splits(test=("easy", "hard")),
        utterances={"train": 1, "valid": 1, "easy": 30, "hard": 30},
    )
    prompts = make_prompts(config)
    for split in ("easy", "hard"):
        spoken = {prompt.voice.variant for prompt in prompts if prompt.split == split}
        assert spoken == set(_TEST_VARIANTS)


def test_sentences_are_of_the_vocabulary_and_length():
    assert len(set(VOCABULARY)) == len(VOCABULARY) >= 150
    used = set()
    for prompt in make_prompts(LARGE):
        words = prompt.text.split()
        assert 4 <= len(words) <= 7
        used.update(words)
    assert used <= set(VOCABULARY)
    assert {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"} <= used
    assert set("".join(VOCABULARY)) <= set("abcdefghijklmnopqrstuvwxyz")


def test_every_voice_exists_and_is_deterministic():
    # Variants with aspiration noise take it from the C library's random generator, whose state
    # survives an utterance.
    for voice in voices(_TRAIN_VARIANTS) + voices(_VALID_VARIANTS) + voices(_TEST_VARIANTS):
        once, again = (speak("zero six", voice).samples.tobytes() for _ in range(2))
        assert once == again, voice
