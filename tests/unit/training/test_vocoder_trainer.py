import copy
import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pipeline.audio.pitch import fundamental_hz
from pipeline.config import Adversaries
from pipeline.training.checkpoint_store import load_state, save_state
from pipeline.training.vocoder_trainer import evaluate_vocoder, rate_share, train_vocoder
from pipeline.vocoder.segments import Clip, SegmentBatches
from pipeline.vocoder.speakers import AVERAGE_SPEAKER


@pytest.fixture
def batches(vocoder_settings):
    """Two speakers, five units, each unit a tone of its own."""
    random = np.random.default_rng(0)
    clips = []
    for index in range(4):
        units = np.repeat(random.integers(5, size=6), 4)
        phase = np.cumsum(np.repeat(200.0 * (units + 1), 320)) / 16000
        tone = (0.3 * np.sin(2 * np.pi * phase)).astype(np.float32)
        clips.append(Clip(units, (np.array(index % 2),), lambda tone=tone: np.pad(tone, 40)))
    return SegmentBatches(
        clips=clips,
        segment_frames=round(vocoder_settings.segment_seconds * 50),
        batch_size=vocoder_settings.batch_size,
        hop=320,
        shift=40,
        seed=vocoder_settings.seed,
        average_speaker=np.array(AVERAGE_SPEAKER),
        track=partial(fundamental_hz, sample_rate_hz=16000, hop=320),
    )


class Recorder:
    """Keeps what training saves and logs."""

    def __init__(self, folder):
        self.folder = folder
        self.saved = []
        self.logged = {}

    def save(self, step, state):
        target = self.folder / str(step)
        target.mkdir(parents=True)
        save_state(target, state)
        self.saved.append(step)

    def log(self, step, losses):
        self.logged[step] = losses

    def train(self, vocoder, batches, settings, from_step=None, **options):
        state = None if from_step is None else load_state(self.folder / str(from_step))
        hooks = {"state": state, "save": self.save, "log": self.log}
        return train_vocoder(vocoder, batches, settings, **hooks, **options)


def test_losses_are_named_and_adversaries_come_late(vocoder, batches, vocoder_settings, tmp_path):
    recorder = Recorder(tmp_path)
    recorder.train(vocoder, batches, vocoder_settings)
    assert recorder.saved == [2, 4, 6]
    pitch = {"pitch"} if vocoder.pitch else set()
    adversarial = {"adversarial", "discriminator", "feature_matching"}
    assert {step: set(losses) - pitch for step, losses in recorder.logged.items()} == {
        2: {"duration", "mel", "stft"},
        4: {"duration", "mel", "stft"} | adversarial,
        6: {"duration", "mel", "stft"} | adversarial,
    }
    assert all(pitch <= set(losses) for losses in recorder.logged.values())


@pytest.mark.parametrize("from_step", [2, 4])
def test_a_resumed_training_ends_where_an_undisturbed_one_does(
    vocoder, batches, vocoder_settings, tmp_path, from_step
):
    fresh = copy.deepcopy(vocoder)
    undisturbed = Recorder(tmp_path / "undisturbed")
    expected = undisturbed.train(vocoder, batches, vocoder_settings).state_dict()
    resumed = Recorder(tmp_path / "undisturbed")
    resumed.save = lambda *_: None
    torch.manual_seed(99)
    averaged = resumed.train(fresh, batches, vocoder_settings, from_step).state_dict()
    assert resumed.logged == {
        step: losses for step, losses in undisturbed.logged.items() if step > from_step
    }
    for name, weight in vocoder.state_dict().items():
        assert torch.equal(weight, fresh.state_dict()[name]), name
        assert torch.equal(expected[name], averaged[name]), name


def test_what_comes_out_is_the_moving_average(vocoder, batches, vocoder_settings, tmp_path):
    changes = {"steps": 3, "checkpoint_steps": 1, "ema_decay": 0.15}
    recorder = Recorder(tmp_path)
    averaged = recorder.train(vocoder, batches, vocoder_settings.model_copy(update=changes))
    steps = [load_state(tmp_path / str(step))["models"]["vocoder"] for step in (1, 2, 3)]
    assert not averaged.training
    for name, weight in averaged.state_dict().items():
        first, second, third = (step[name] for step in steps)
        after_two = second + 0.15 * (first - second)  # at most 2 / 11, 3 / 12, ...
        assert torch.allclose(weight, third + 0.15 * (after_two - third), atol=1e-6), name


def test_examples_are_heard_as_it_goes(vocoder, batches, vocoder_settings, tmp_path):
    heard = []

    def listen(step, averaged):
        heard.append((step, averaged.resynthesize([0, 1], "ann").shape))

    changed = vocoder_settings.model_copy(update={"example_steps": 4})
    Recorder(tmp_path).train(vocoder, batches, changed, listen=listen)
    assert heard == [(4, (720,)), (6, (720,))]


def test_bfloat16_trains_too(vocoder, batches, vocoder_settings, tmp_path):
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    exact = copy.deepcopy(vocoder)
    Recorder(tmp_path / "float32").train(exact, batches, vocoder_settings)
    Recorder(tmp_path / "bfloat16").train(vocoder, batches, vocoder_settings, autocast=autocast)
    for name, weight in vocoder.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.allclose(weight, exact.state_dict()[name], atol=0.02), name
    assert not torch.equal(vocoder.unit_embedding.weight, exact.unit_embedding.weight)


def test_a_finished_training_has_nothing_to_do(vocoder, batches, vocoder_settings, tmp_path):
    recorder = Recorder(tmp_path)
    recorder.train(vocoder, batches, vocoder_settings)
    before = json.dumps(recorder.logged)
    recorder.train(vocoder, batches, vocoder_settings, from_step=6)
    assert json.dumps(recorder.logged) == before


def test_the_mel_loss_falls(vocoder, batches, vocoder_settings, tmp_path):
    alone = Adversaries(from_step=61)
    changes = {"steps": 60, "adversaries": alone, "learning_rate": 1e-2, "ema_decay": 0.5}
    share = 0.85 if vocoder.pitch else 0.7  # noise is all that is left of tones above 500 Hz
    before = evaluate_vocoder(vocoder, batches, 2)["mel"]
    averaged = Recorder(tmp_path).train(
        vocoder, batches, vocoder_settings.model_copy(update=changes)
    )
    assert evaluate_vocoder(averaged, batches, 2)["mel"] < share * before


def test_both_sides_of_the_game_are_trained(vocoder, batches, vocoder_settings, tmp_path):
    early = vocoder_settings.adversaries.model_copy(update={"from_step": 1})
    changes = {"steps": 2, "adversaries": early, "checkpoint_steps": 1}
    Recorder(tmp_path).train(vocoder, batches, vocoder_settings.model_copy(update=changes))
    first, second = (load_state(tmp_path / step)["models"] for step in ("1", "2"))
    still = {
        name
        for model in first
        for name in first[model]
        if torch.equal(first[model][name], second[model][name])
    }
    assert still == set()


def test_data_parallel_modules_train_alike(vocoder, batches, vocoder_settings, tmp_path):
    """One process, but with every gradient hook of several."""
    alone, wrapped = copy.deepcopy(vocoder), vocoder
    Recorder(tmp_path / "alone").train(alone, batches, vocoder_settings)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        recorder = Recorder(tmp_path / "wrapped")
        recorder.train(wrapped, batches, vocoder_settings, wrap=DistributedDataParallel)
    finally:
        dist.destroy_process_group()
    for name, weight in alone.state_dict().items():
        assert torch.allclose(weight, wrapped.state_dict()[name], atol=1e-6), name


def test_losses_that_are_no_numbers_stop_the_training(vocoder, batches, vocoder_settings, tmp_path):
    with torch.no_grad():
        vocoder.unit_embedding.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"lower vocoder\.learning_rate"):
        Recorder(tmp_path).train(vocoder, batches, vocoder_settings)


def test_the_rate_rises_and_falls():
    shares = [rate_share(step, 200) for step in range(1, 201)]
    assert shares[0] < 0.06
    assert max(shares) == pytest.approx(1, abs=0.05)
    assert shares[-1] == pytest.approx(0.1)
    assert sorted(shares[20:], reverse=True) == shares[20:]
