import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import read_audio
from pipeline.audio.utterance import Utterance
from pipeline.vocoder.voice import (
    LOG2_F0,
    VOICE_DIM,
    KnownVoices,
    is_enough,
    other_utterances,
    voice_of,
)

RATE = 16000


def voice(hz, seconds=1.0, amplitude=0.3):
    times_S = np.arange(round(seconds * RATE)) / RATE
    tones = [amplitude / k * np.sin(2 * np.pi * hz * k * times_S) for k in range(1, 9)]
    return np.sum(tones, axis=0).astype(np.float32)


def utterance(utt_id, speaker, seconds=1.0):
    return Utterance(utt_id, "test", f"{utt_id}.wav", 0.0, seconds, speaker, "")


def test_the_level_is_no_part_of_a_voice():
    loud, quiet = voice_of(voice(120), RATE), voice_of(voice(120, amplitude=0.003), RATE)
    assert loud.shape == (VOICE_DIM,)
    assert loud.dtype == np.float32
    assert np.abs(loud - quiet).max() < 1e-3


def test_f0_is_the_mean_of_its_logarithm_and_its_deviation():
    statistics = voice_of(np.concatenate([voice(100), voice(200)]), RATE)
    assert statistics[LOG2_F0] == pytest.approx((np.log2(100) + np.log2(200)) / 2, abs=0.02)
    assert statistics[LOG2_F0 + 1] == pytest.approx(0.5, abs=0.02)


def test_pauses_are_no_part_of_a_voice():
    pause = np.zeros(2 * RATE, np.float32)
    paused = voice_of(np.concatenate([pause, voice(150, 2.0), pause]), RATE)
    assert np.abs(paused - voice_of(voice(150, 2.0), RATE))[:40].max() < 0.35


def test_ten_seconds_are_enough():
    first = voice(150, 10.0)
    assert np.array_equal(
        voice_of(np.concatenate([first, voice(300)]), RATE), voice_of(first, RATE)
    )


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.float32), voice(150, 0.01), voice(150)[:1]])
def test_silence_and_scraps_have_a_voice_of_finite_numbers(samples):
    assert np.isfinite(voice_of(samples, RATE)).all()


def test_half_a_second_of_speech_is_enough():
    assert is_enough(voice(150, 0.6), RATE)
    assert not is_enough(voice(150, 0.4), RATE)
    assert not is_enough(np.concatenate([voice(150, 0.3), np.zeros(RATE, np.float32)]), RATE)


def test_an_utterance_is_spoken_by_others_of_its_speaker_and_never_by_itself():
    every = [utterance(f"{name}{index}", name) for index in range(3) for name in ("ann", "bob")]
    others = [each.utt_id for each in other_utterances(every[2], every)]
    assert others == ["ann2", "ann0"]


def test_ten_seconds_of_other_utterances_are_named():
    every = [utterance(f"a{index}", "ann", 4.0) for index in range(9)]
    assert [each.utt_id for each in other_utterances(every[7], every)] == ["a8", "a0", "a1"]


def test_a_lonely_utterance_has_no_other():
    assert not list(other_utterances(utterance("a", "ann"), [utterance("a", "ann")]))


def test_known_voices_are_those_of_the_speakers_other_utterances():
    pitches = {"a0": 100, "a1": 200, "b0": 300}
    every = [utterance(utt_id, utt_id[0]) for utt_id in pitches]
    known = KnownVoices(every, lambda each: voice(pitches[each.utt_id]), RATE)
    assert [2 ** each[LOG2_F0] for each in known.of("a")] == pytest.approx([100, 200], rel=0.01)
    [only] = known.for_utterance(every[0])
    assert 2 ** only[LOG2_F0] == pytest.approx(200, rel=0.01)
    [own] = known.for_utterance(every[2])
    assert 2 ** own[LOG2_F0] == pytest.approx(300, rel=0.01)


def test_eight_utterances_of_a_speaker_are_heard():
    every = [utterance(str(index), "ann") for index in range(20)]
    heard = []

    def read(each):
        heard.append(each.utt_id)
        return voice(150, 0.1)

    known = KnownVoices(every, read, RATE)
    assert heard == ["0", "3", "6", "9", "12", "15", "18"]
    assert len(known.for_utterance(every[1])) == 7


def test_real_voices_are_told_apart():
    """The nearest other voice is of the same speaker."""
    folder = Path(__file__).parents[4] / "shared/data/spoken_digits"
    if not folder.exists():
        pytest.skip("no real speech here")
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    chosen = {}
    for row in rows:
        chosen.setdefault(row["speaker"], []).append(folder / row["audio"])
    files = [(speaker, path) for speaker, own in chosen.items() for path in own[::20][:5]]
    voices_RV = np.stack([voice_of(read_audio(str(path), RATE), RATE) for _, path in files])
    standard_RV = (voices_RV - voices_RV.mean(axis=0)) / voices_RV.std(axis=0)
    distances_RR = np.linalg.norm(standard_RV[:, None] - standard_RV, axis=-1)
    np.fill_diagonal(distances_RR, np.inf)
    speakers = np.array([speaker for speaker, _ in files])
    assert len(set(speakers)) > 4
    assert (speakers[distances_RR.argmin(axis=1)] == speakers).mean() >= 0.8  # 0.2 by chance
