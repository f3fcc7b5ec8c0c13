"""Where long speech is cut."""

import numpy as np
import pytest
import torch

from pipeline import config
from pipeline.asr.encoded import Encoded
from pipeline.asr.model import AsrModel
from pipeline.asr.pauses import cut_in_pauses
from pipeline.asr.text_pieces import TextPieces


@pytest.fixture
def model(monkeypatch):
    """A model whose likeliest piece is the unit that it reads in every second frame."""
    settings = config.Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=32, conv_kernel=5)
    model = AsrModel(settings, 4, None, TextPieces.train(config.TextPieces(), ["ab"])).eval()

    def hear(inputs):
        lengths = torch.tensor([len(frames[::2]) for frames in inputs])
        rows = [torch.from_numpy(frames[::2]) for frames in inputs]
        units_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Encoded(units_BT, lengths, torch.nn.functional.one_hot(units_BT, 4).float())

    monkeypatch.setattr(model, "hear", hear)
    return model


def test_cuts_lie_in_the_middle_of_pauses(model):
    def units(*runs):
        return np.concatenate([np.full(number, unit) for unit, number in runs])

    long = units((0, 50), (2, 200), (0, 20), (3, 100), (0, 18), (2, 60), (0, 30))
    assert len(long) / 50 > 8
    short = units((2, 100), (0, 100), (3, 100))
    silent = units((0, 500))
    # The pause of 18 frames is shorter than 0.4 s; at the ends nothing is cut.
    assert cut_in_pauses(model, [long, short, silent], 50.0) == [[0, 260], [0], [0]]
