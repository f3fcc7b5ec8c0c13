from transformers import HubertConfig, Wav2Vec2BertConfig, WhisperConfig

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.audio.model_grid import grid_of_model


def test_the_grid_of_each_family():
    assert grid_of_model(HubertConfig().to_dict()) == SSL_GRID
    assert grid_of_model({"conv_kernel": [10, 4], "conv_stride": [5, 2]}) == FrameGrid(
        25, 10, 16000
    )
    assert grid_of_model(Wav2Vec2BertConfig().to_dict()) == FrameGrid(560, 320, 16000)
    whisper = FrameGrid(320, 320, 16000, start=-160, max_frames=1500)
    assert grid_of_model(WhisperConfig().to_dict()) == whisper


def test_a_model_that_says_nothing_has_the_usual_one():
    assert grid_of_model({}) == SSL_GRID
