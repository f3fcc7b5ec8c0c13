import numpy as np
import pytest
import torch

from pipeline.audio.frame_grid import FrameGrid
from pipeline.vocoder.segments import Clip, SegmentBatches, aligned
from pipeline.vocoder.speakers import AVERAGE_SPEAKER

HOP, SHIFT = 320, 40


def clip(index, num_frames):
    """Every sample and every unit says where it stands: frame i is centred at 200 + 320 i."""
    samples = np.arange(num_frames * HOP + 80, dtype=np.float32) + 1e6 * index
    units = np.arange(num_frames, dtype=np.uint16)
    return Clip(units, (np.array(index),), lambda: samples)


def batches(clips, **changes):
    settings = {"segment_frames": 4, "batch_size": 2, "hop": HOP, "shift": SHIFT, "seed": 0}
    settings["average_speaker"] = np.array(AVERAGE_SPEAKER)
    return SegmentBatches(clips=clips, **{**settings, **changes})


def clips(count, num_frames=20):
    return [clip(index, num_frames) for index in range(count)]


def test_units_and_samples_are_of_one_place():
    made = batches(clips(3))
    for step in range(5):
        units_BT, waveform_BS, speakers_B, _ = made[step]
        assert waveform_BS.shape == (2, 4 * HOP)
        first_B = units_BT[:, 0].double()
        expected_B = first_B * HOP + SHIFT + 1e6 * speakers_B
        assert torch.equal(waveform_BS[:, 0].double(), expected_B)
        assert torch.equal(units_BT - units_BT[:, :1], torch.arange(4).expand(2, 4))


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_centres_of_frames_line_up(pool):
    grid = FrameGrid(400, 320, 16000).pooled(pool)
    samples = aligned(np.arange(4000), grid.num_frames(4000), grid.hop, SHIFT)
    for frame in range(grid.num_frames(4000)):
        inside = samples[frame * grid.hop : (frame + 1) * grid.hop]
        assert (inside[0] + inside[-1] + 1) / 2 / 16000 == grid.centre_seconds(frame)


@pytest.mark.parametrize("num_samples", [400, 401, 719, 720, 721, 16000])
def test_the_grids_frames_always_fit(num_samples):
    num_frames = FrameGrid(400, 320, 16000).num_frames(num_samples)
    assert len(aligned(np.zeros(num_samples), num_frames, HOP, SHIFT)) == num_frames * HOP


def test_frames_that_start_before_the_recording_line_up_too():
    """As Whisper's: frame i is centred at 320 i, so the first block is half before the recording."""
    grid = FrameGrid(320, 320, 16000, start=-160)
    for num_samples in (160, 4000, 4159, 4160):
        num_frames = grid.num_frames(num_samples)
        samples = aligned(np.arange(1, num_samples + 1), num_frames, HOP, -160)
        assert len(samples) == num_frames * HOP
        assert not samples[:160].any()
        for frame in range(num_frames):
            centre = round(grid.centre_seconds(frame) * 16000)
            assert samples[frame * HOP + HOP // 2] in (centre + 1, 0)
            assert frame == 0 or samples[frame * HOP] == centre + 1 - HOP // 2


def test_audio_shorter_than_its_frames_is_rejected():
    with pytest.raises(ValueError, match="3 frames need 1000 samples, the recording has 999"):
        aligned(np.zeros(999), 3, HOP, SHIFT)


def test_a_step_gives_the_same_segments_again():
    one, other = batches(clips(5)), batches(clips(5))
    for _ in range(3):
        one[0]
    for left, right in zip(one[7], other[7], strict=True):
        assert torch.equal(left, right)


def test_steps_and_seeds_differ():
    made = batches(clips(1), batch_size=8)
    assert not torch.equal(made[0].units_BT, made[1].units_BT)
    assert not torch.equal(made[0].units_BT, batches(clips(1), batch_size=8, seed=1)[0].units_BT)


def test_an_epoch_visits_every_clip_once_in_random_order_on_one_worker():
    made = batches(clips(10))
    epochs = [
        torch.cat([made[5 * epoch + step].speakers_B for step in range(5)]) for epoch in (0, 1)
    ]
    for order in epochs:
        assert sorted(order.tolist()) == list(range(10))
    assert epochs[0].tolist() != list(range(10))
    assert epochs[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("batch_size", [6, 8])
def test_workers_share_the_segments_of_a_step(batch_size):
    settings = {"batch_size": batch_size, "speaker_dropout": 0.3}
    alone = batches(clips(12), **settings)
    parts = [batches(clips(12), rank=rank, world_size=3, **settings) for rank in range(3)]
    for step in range(4):
        for rank, part in enumerate(parts):
            for whole, share in zip(alone[step], part[step], strict=True):
                assert torch.equal(whole[rank::3], share)


def test_short_utterances_are_left_out_and_counted():
    made = batches([clip(0, 3), clip(1, 4)])
    assert made.num_too_short == 1
    assert made[0].speakers_B.tolist() == [1, 1]


def test_without_long_utterances_there_is_no_training():
    with pytest.raises(ValueError, match="none of 1 utterances has the 4 frames"):
        batches([clip(0, 3)])


def test_speakers_are_dropped_for_the_average():
    assert (batches(clips(2), speaker_dropout=1.0)[0].speakers_B == AVERAGE_SPEAKER).all()
    many = batches(clips(2), batch_size=400, speaker_dropout=0.25)[0].speakers_B
    assert 0.15 < (many == AVERAGE_SPEAKER).float().mean() < 0.35


def test_f0_is_measured_once_and_cut_where_the_units_are():
    measured = []

    def track(samples_S):
        measured.append(samples_S[0])
        return np.arange(len(samples_S) // HOP, dtype=np.float64)

    made = batches(clips(3), track=track)
    for step in range(6):
        assert torch.equal(made[step].f0_BT, made[step].units_BT.float())
    assert len(measured) == 3
    assert not batches(clips(3))[0].f0_BT.any()


def test_any_of_a_clips_keys_may_speak():
    two = Clip(np.arange(20), (np.array(3), np.array(4)), clip(0, 20).read)
    assert set(batches([two], batch_size=50)[0].speakers_B.tolist()) == {3, 4}
