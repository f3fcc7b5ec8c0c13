import json

import numpy as np
import pytest
import torch
from support import save_tiny_whisper
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperForConditionalGeneration

from pipeline.asr.whisper_recogniser import WhisperRecogniser
from pipeline.config import ConfigError

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """A Whisper of two seconds that writes words such as w17."""
    save_tiny_whisper(tmp_path)
    words = {f"w{index}": index for index in range(50)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0")))
    tokenizer.add_special_tokens({"bos_token": "w1", "eos_token": "w2", "pad_token": "w0"})
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def say(folder, **settings):
    """Rewrite what the model is told about generation."""
    known = {"max_length": 8, "decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    GenerationConfig(**known, **settings).save_pretrained(folder)


def noise(seconds, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=round(seconds * RATE)).astype(np.float32)


def test_it_writes_what_transformers_writes(folder):
    say(folder)
    recogniser = WhisperRecogniser(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    waveforms = [noise(1.2), *(noise(0.4, seed=seed) for seed in range(1, 6))]
    for waveform, text in zip(waveforms, recogniser.transcribe(waveforms), strict=True):
        mels = recogniser._extractor(waveform, sampling_rate=RATE, return_tensors="pt")
        [pieces] = model.generate(mels.input_features, num_beams=1).tolist()
        assert text == " ".join(f"w{piece}" for piece in pieces if piece > 2)
    assert recogniser.sample_rate_hz == RATE


def test_long_speech_is_heard_in_windows(folder):
    say(folder)
    recogniser = WhisperRecogniser(folder)
    long = noise(4.5)
    parts = [long[: 2 * RATE], long[2 * RATE : 4 * RATE], long[4 * RATE :]]
    [text] = recogniser.transcribe([long])
    assert text == " ".join(recogniser.transcribe(parts))


def test_weights_of_16_bits_are_computed_with_in_32(folder):
    say(folder)
    expected = WhisperRecogniser(folder).transcribe([noise(1)])
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    model.to(torch.float16).save_pretrained(folder)
    recogniser = WhisperRecogniser(folder)
    assert {each.dtype for each in recogniser._model.parameters()} == {torch.float32}
    assert len(recogniser.transcribe([noise(1)])) == len(expected)


def test_a_multilingual_model_is_told_the_language(folder):
    languages = {"<|en|>": 5, "<|de|>": 6}
    say(folder, is_multilingual=True, lang_to_id=languages, task_to_id={"transcribe": 7})
    assert WhisperRecogniser(folder, "de")._spoken == {"task": "transcribe", "language": "de"}
    assert WhisperRecogniser(folder)._spoken == {"task": "transcribe"}
    with pytest.raises(ConfigError, match=r"resynthesis.language 'xx' is none .* de, en"):
        WhisperRecogniser(folder, "xx")


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("One, two, three!", "1 2 3"),
        ("twenty-one", "2 1"),
        ("GMEF39", "gmef 3 9"),
        ("Mr. Brown, uh, can't.", "mister brown can not"),
        ("The colour", "the color"),
        ("  ", ""),
    ],
)
def test_english_texts_are_normalized_as_by_whisper_with_a_word_for_each_digit(
    folder, text, normalized
):
    (folder / "normalizer.json").write_text(json.dumps({"colour": "color"}))
    say(folder)
    assert WhisperRecogniser(folder).normalize(text) == normalized


def test_texts_of_other_languages_lose_case_and_punctuation_alone(folder):
    say(folder, is_multilingual=True, lang_to_id={"<|de|>": 5}, task_to_id={"transcribe": 7})
    assert WhisperRecogniser(folder, "de").normalize("Zwei, ÄPFEL; 12!") == "zwei äpfel 1 2"
