"""Which epochs are kept, and what their average is."""

import torch

from pipeline.storage.artifacts import Artifact
from pipeline.training.best_epochs import BestEpochs
from pipeline.training.checkpoint_store import CheckpointStore


def test_the_best_are_kept_and_ties_go_to_the_earlier_epoch():
    best = BestEpochs(2)
    added = [best.add(loss, epoch, 0) for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.0, 0.5])]
    assert added == [True, True, True, False, True]
    assert best.entries == [(0.5, 4, 0), (1.0, 1, 0)]
    assert best.epochs == {4, 1}


def test_the_average_is_over_the_phase_of_the_best_epoch_in_float64(tmp_path):
    store, best = CheckpointStore(Artifact(str(tmp_path))), BestEpochs(3)
    weights = [torch.tensor([1.0, 1e8]), torch.tensor([3.0, 1e8 + 8]), torch.tensor([5.0, 0.0])]
    for epoch, weight in enumerate(weights):
        store.save_epoch(epoch, {"weight": weight, "count": torch.tensor(epoch)})
    best.add(0.3, 2, 0)
    best.add(0.2, 0, 1)
    best.add(0.1, 1, 1)
    average = best.average(store)
    assert average["weight"].tolist() == [2.0, 1e8]
    assert average["weight"].dtype == torch.float32
    assert int(average["count"]) == 1
