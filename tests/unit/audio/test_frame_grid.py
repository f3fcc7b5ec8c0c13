from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import frames as reference

from pipeline.audio.frame_grid import FrameGrid

WAV2VEC_KERNELS = (10, 3, 3, 3, 3, 2, 2)
WAV2VEC_STRIDES = (5, 2, 2, 2, 2, 2, 2)


def test_the_usual_front_end_has_the_published_grid():
    grid = FrameGrid.of_convolutions(WAV2VEC_KERNELS, WAV2VEC_STRIDES, 16000)
    assert grid == FrameGrid(400, 320, 16000)
    assert grid.frames_per_second == 50.0


def test_num_frames_around_every_boundary():
    grid = FrameGrid(400, 320, 16000)
    for boundary in (400, 400 + 320, 400 + 49 * 320, 400 + 200 * 320):
        for num_samples in range(boundary - 3, boundary + 4):
            expected = reference.num_frames(num_samples, WAV2VEC_KERNELS, WAV2VEC_STRIDES)
            assert grid.num_frames(num_samples) == expected, num_samples


layers = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 5)), min_size=1, max_size=5)


@given(layers=layers, num_samples=st.integers(0, 2000))
def test_num_frames_of_any_stack(layers, num_samples):
    kernels, strides = zip(*layers, strict=True)
    grid = FrameGrid.of_convolutions(kernels, strides, 16000)
    assert grid.num_frames(num_samples) == reference.num_frames(num_samples, kernels, strides)


@given(layers=layers, frame=st.integers(0, 50))
def test_centre_is_the_middle_of_what_the_frame_reads(layers, frame):
    kernels, strides = zip(*layers, strict=True)
    first, end = reference.receptive_samples(frame, kernels, strides)
    grid = FrameGrid.of_convolutions(kernels, strides, 8000)
    assert grid.centre_seconds(frame) == (first + end) / 2 / 8000


def test_frames_that_start_before_the_audio():
    grid = FrameGrid(receptive_field=320, hop=320, sample_rate_hz=16000, start=-160)
    counts = [grid.num_frames(number) for number in (0, 159, 160, 479, 480, 800, 480_000)]
    assert counts == [0, 0, 1, 1, 2, 3, 1500]
    assert [grid.num_samples(number) for number in (1, 2, 1500)] == [160, 480, 479_840]
    assert [grid.centre_seconds(frame) for frame in (0, 1, 50)] == [0.0, 0.02, 1.0]


@given(
    layers=layers,
    start=st.integers(-20, 0),
    pool=st.sampled_from([1, 2, 3, 4]),
    num_samples=st.integers(0, 4000),
)
def test_a_pooled_frame_stands_for_all_that_its_frames_stand_for(layers, start, pool, num_samples):
    kernels, strides = zip(*layers, strict=True)
    own = FrameGrid.of_convolutions(kernels, strides, 8000)
    own = replace(own, start=max(start, 1 - own.receptive_field), max_frames=37)
    pooled = own.pooled(pool)
    complete = [
        range(first, first + pool)
        for first in range(0, own.num_frames(num_samples), pool)
        if first + pool <= own.num_frames(num_samples)
    ]
    assert pooled.num_frames(num_samples) == len(complete)
    assert pooled.max_frames == 37 // pool
    for frame, group in enumerate(complete[:5]):
        middles = [own.centre_seconds(each) for each in group]
        assert pooled.centre_seconds(frame) == pytest.approx(sum(middles) / pool)
        # The shortest audio with the frame is the shortest with the last of its group.
        assert pooled.num_samples(frame + 1) == own.num_samples(group[-1] + 1)


def test_pooled_frames_are_fewer_a_second():
    grid = FrameGrid(400, 320, 16000)
    assert [grid.pooled(pool).frames_per_second for pool in (1, 2, 4)] == [50.0, 25.0, 12.5]
    assert grid.pooled(4) == FrameGrid(1360, 1280, 16000)


@given(start=st.integers(-9, 0), length=st.integers(10, 30), num_frames=st.integers(1, 200))
def test_the_shortest_audio_of_so_many_frames(start, length, num_frames):
    grid = FrameGrid(length, 7, 1000, start)
    shortest = grid.num_samples(num_frames)
    assert grid.num_frames(shortest) == num_frames
    assert grid.num_frames(shortest - 1) == num_frames - 1
