import math

import pytest
import torch

from pipeline.vocoder.durations import DurationPredictor


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return DurationPredictor(num_units=6, dim=8)


def test_the_cut_runs_at_the_edges_do_not_count(predictor):
    one_BT = torch.tensor([[0, 1, 1, 1, 2, 3]])
    # The same runs; only the lengths at the edges differ.
    other_BT = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3]])
    assert torch.equal(predictor.loss(one_BT), predictor.loss(other_BT))
    longer_BT = torch.tensor([[0, 1, 1, 1, 2, 2, 3]])
    assert not torch.equal(predictor.loss(one_BT), predictor.loss(longer_BT))


def test_the_loss_is_the_squared_error_of_log_d_plus_one(predictor):
    units_BT = torch.tensor([[0, 1, 1, 1, 2, 3]])
    predicted = predictor(torch.tensor([[0, 1, 2, 3]]), torch.tensor([4]))[0].tolist()
    errors = [(predicted[1] - math.log(4)) ** 2, (predicted[2] - math.log(2)) ** 2]
    assert predictor.loss(units_BT).item() == pytest.approx(sum(errors) / 2, rel=1e-5)


def test_without_whole_runs_the_loss_is_zero_and_has_a_gradient(predictor):
    loss = predictor.loss(torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]]))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in predictor.parameters())


def test_a_row_does_not_depend_on_its_padding(predictor):
    alone = predictor(torch.tensor([[3, 4]]), torch.tensor([2]))
    padded = predictor(torch.tensor([[3, 4, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 4]))
    assert torch.allclose(padded[0, :2], alone[0], atol=1e-6)


def test_every_unit_lasts_a_frame_at_least(predictor):
    with torch.no_grad():
        predictor.head.weight.zero_()
        predictor.head.bias.fill_(-5.0)
    assert predictor.expand(torch.tensor([3, 1, 3])).tolist() == [3, 1, 3]


def test_durations_can_be_learned(predictor):
    lengths = {0: 1, 1: 3, 2: 6}
    runs = [0, 1, 2, 1, 0, 2, 0, 1, 0, 2, 1]
    units_BT = torch.tensor([[unit for unit in runs for _ in range(lengths[unit])]])
    optimizer = torch.optim.Adam(predictor.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        predictor.loss(units_BT).backward()
        optimizer.step()
    inner = predictor.expand(torch.tensor(runs)).tolist()[1:-6]
    assert inner == units_BT[0].tolist()[1 : 1 + len(inner)]
