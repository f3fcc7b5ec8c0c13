"""The training on a GPU, where there is one: compiled, with a fused optimizer, to the CPU's losses."""

import pytest
import torch
from joint_training import make_training

from pipeline.storage.artifacts import Artifact

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# Nothing in it is drawn at random, which differs between devices.
SETTINGS = {
    "quantizer": {"kind": "dkm", "assignment": "argmax"},
    "asr": {"dropout": 0.0, "time_masking": {"masks": 0}},
    "cluster": {"loader_processes": 0},
}
TRAINING = {
    "phases": [{"epochs": 1, "ssl": "finetuned", "warmup_steps": 2}],
    "batch_seconds": 2.5,
    "log_steps": 1,
    "ssl_dropout": 0.0,
    "precision": "float32",
}


def trained(inputs, output, device, compiled):
    training = make_training(
        inputs, output, device=device, **SETTINGS, training={**TRAINING, "compile": compiled}
    )
    training.run()
    return training


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_losses_are_those_of_the_cpu(inputs, tmp_path, compiled):
    expected = trained(inputs, Artifact(str(tmp_path / "cpu")), "cpu", "off")
    found = trained(inputs, Artifact(str(tmp_path / "cuda")), "cuda", compiled)
    assert found.phase.optimizer.param_groups[0]["fused"]
    assert next(found.model.parameters()).is_cuda
    of_steps = [row for row in expected.history.rows if "train.loss" in row]
    assert len(of_steps) == expected.position.step
    for own, its in zip(found.history.rows, expected.history.rows, strict=True):
        for name in {"train.loss", "train.attention", "valid.asr_loss"} & its.keys():
            assert own[name] == pytest.approx(its[name], rel=0.02), (name, its["step"])
