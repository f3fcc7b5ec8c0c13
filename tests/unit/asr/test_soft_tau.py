import numpy as np
import pytest
import torch

from pipeline.asr.model import AsrModel
from pipeline.asr.soft_tau import best, candidates, wer_by_tau
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.utterance import Utterance
from pipeline.config import Asr
from pipeline.config import TextPieces as TextPiecesSettings


def test_candidates_grow_up_to_the_distance_of_neighbours():
    centroids = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])  # 3, 3 and 4 from the nearest
    taus = candidates(centroids)
    assert taus == tuple(sorted(taus))
    assert taus[-1] == pytest.approx(10 / 3)
    assert taus[0] == pytest.approx(10 / 3 / 64)
    assert taus[2] / taus[0] == pytest.approx(2)


def test_of_equally_good_temperatures_the_lowest_is_best():
    assert best({0.1: 0.5, 0.3: 0.2, 0.2: 0.2}) == 0.2


def test_errors_of_each_temperature_are_those_of_its_own_mixtures():
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    pieces = TextPieces.train(TextPiecesSettings(), ["ab cd"])
    model = AsrModel(settings, 10, None, pieces).eval()
    with torch.no_grad():
        model.ctc_head.weight.mul_(10.0)  # a random model with opinions
    generator = np.random.default_rng(0)
    closeness = {f"u{n}": -generator.random((n, 10), np.float32) for n in (9, 20, 31)}
    units = [each.argmax(1) for each in closeness.values()]
    hard = model.transcribe(units, None)
    assert all(hard)
    utterances = [
        Utterance(utt_id, "valid", "none", 0.0, len(each) / 50, "s", text)
        for (utt_id, each), text in zip(closeness.items(), hard, strict=True)
    ]
    done = []
    found = wer_by_tau(
        model,
        lambda batch: [closeness[each.utt_id] for each in batch],
        utterances,
        [1e-4, 5.0],
        batch_seconds=0.6,
        report=done.append,
    )
    # What the nearest units give is the reference, and all but the nearest are far at this scale.
    assert found[1e-4] == 0
    assert found[5.0] > 0
    assert done[-1] == 3
