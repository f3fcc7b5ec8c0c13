import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.espeak import EspeakError, Voice, speak

VOICE = Voice("en-us", "m1")


def loudness(speech, start, end):
    first, last = round(start * speech.sample_rate_hz), round(end * speech.sample_rate_hz)
    return float(np.sqrt(np.mean(speech.samples[first:last].astype(np.float64) ** 2)))


def zero_crossing_rate(speech, segment):
    first = round(segment.start * speech.sample_rate_hz)
    last = round(segment.end * speech.sample_rate_hz)
    signs = np.signbit(speech.samples[first:last])
    return float(np.mean(signs[1:] != signs[:-1]))


def test_phones_are_the_words_phones_in_ipa_without_stress():
    labels = [phone.label for phone in speak("seven", VOICE).phones]
    assert labels == ["s", "ɛ", "v", "ə", "n"]


def test_phones_tile_the_speech_and_silence_follows():
    speech = speak("table today tree under village", VOICE)
    phones = speech.phones
    assert 0 <= phones[0].start < 0.06
    for phone, following in pairwise(phones):
        assert phone.start < phone.end <= following.start
    end_seconds = len(speech.samples) / speech.sample_rate_hz
    assert phones[-1].end < end_seconds
    spoken = loudness(speech, phones[0].start, phones[-1].end)
    assert loudness(speech, phones[-1].end, end_seconds) < 0.01 * spoken


def test_alignment_is_exact_enough_to_hear_each_sibilant():
    # A sibilant crosses zero several times as often as a vowel: off by one phone, the two would
    # mix.
    speech = speak("six sister house summer seven", VOICE)
    sibilants = [zero_crossing_rate(speech, phone) for phone in speech.phones if phone.label == "s"]
    vowels = [
        zero_crossing_rate(speech, phone)
        for phone in speech.phones
        if phone.label in {"ɛ", "ʌ", "aʊ", "ə"}
    ]
    assert len(sibilants) >= 6
    assert min(sibilants) > 2 * max(vowels)


def test_speed_and_pitch_are_audible():
    slow, fast = (speak("summer morning", VOICE, rate) for rate in (120, 240))
    assert len(slow.samples) > 1.4 * len(fast.samples)
    low, high = (speak("summer morning", VOICE, pitch=pitch) for pitch in (20, 80))
    assert not np.array_equal(low.samples[:20000], high.samples[:20000])


def test_earlier_speech_changes_nothing():
    def digest(text, voice):
        return hashlib.sha256(speak(text, voice).samples.tobytes()).hexdigest()

    voices = [VOICE, Voice("en-gb-scotland", "f4"), Voice("en-029", "linda")]
    alone = [digest("nine women bring zero cakes", voice) for voice in voices]
    for text in ("green hand", "a much longer sentence about the mountain"):
        speak(text, Voice("en-gb-x-rp", "aunty"), 200, 70)
    assert [digest("nine women bring zero cakes", voice) for voice in reversed(voices)] == alone[
        ::-1
    ]


@pytest.mark.parametrize(
    ("voice", "reason"),
    [
        (Voice("en-us", "nobody"), "no voice variant 'nobody'"),
        (Voice("xx-nowhere", "m1"), "no accent 'xx-nowhere'"),
    ],
)
def test_an_unknown_voice_is_refused(voice, reason):
    with pytest.raises(EspeakError, match=reason):
        speak("hello", voice)


def test_a_wrong_data_path_is_refused(tmp_path):
    with pytest.raises(EspeakError, match="no espeak-ng data"):
        speak("hello", VOICE, data_path=Path(tmp_path))


@pytest.mark.parametrize("text", ["", " ", "."])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(EspeakError, match="spoke nothing"):
        speak(text, VOICE)
