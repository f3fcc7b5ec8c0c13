"""Compiled blocks leave losses and gradients what they were, with few graphs for all lengths."""

import logging

import pytest
import torch
from joint_training import make_training, tiny_config
from torch._dynamo.testing import CompileCounterWithBackend

from pipeline.audio.utterance import Utterance
from pipeline.features.compiled import compile_blocks
from pipeline.storage.artifacts import Artifact
from pipeline.training import compilation
from pipeline.training.compilation import WORTHWHILE_HOURS, compiles
from pipeline.training.inputs import Example, Inputs
from pipeline.training.worker import Worker

ASR = {
    "conformer": {"encoder": "conformer", "positions": "sinusoidal"},
    "e_branchformer": {"encoder": "e_branchformer", "positions": "relative"},
}
FULL = {
    "quantizer": {"kind": "dkm"},
    "training": {"phases": [{"epochs": 1, "ssl": "finetuned"}], "ssl_dropout": 0.0},
}


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    # pytest keeps what torch logs of its tracing, which takes most of the time.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [])
    monkeypatch.setattr(compilation, "can_compile_kernels", lambda: True)
    torch.compiler.reset()


def batch(*seconds):
    generator = torch.Generator().manual_seed(0)
    lengths_B = torch.tensor([round(16000 * each) for each in seconds])
    waveforms_BS = 0.1 * torch.randn(len(seconds), int(lengths_B.max()), generator=generator)
    return Inputs(lengths_B, [[2, 1]] * len(seconds), waveforms_BS=waveforms_BS)


def losses_and_gradients(model, inputs):
    model.zero_grad()
    sums = model(inputs, tau=1.0, seed=0)
    (sums["ctc"] + sums["attention"] + sums["kmeans"]).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: sums[name].detach() for name in ("ctc", "attention", "kmeans")}, gradients


@pytest.mark.slow
@pytest.mark.parametrize("asr", ASR)
def test_losses_and_gradients_are_the_same_and_graphs_are_few(inputs, tmp_path, asr):
    model = make_training(
        inputs, Artifact(str(tmp_path)), asr={**ASR[asr], "dropout": 0.0}, **FULL
    ).model.train()
    model.asr.time_masking.masks = 0
    batches = [batch(0.9, 0.5), batch(1.3, 0.4, 0.7), batch(0.6, 0.6, 0.6, 0.5), batch(1.1, 0.8)]
    expected = [losses_and_gradients(model, each) for each in batches]
    names = list(model.state_dict())
    backend = CompileCounterWithBackend("eager")
    compile_blocks(model.blocks(), fixed_lengths=False, backend=backend)
    frames = []
    for each, (losses, gradients) in zip(batches, expected, strict=True):
        found_losses, found = losses_and_gradients(model, each)
        torch.testing.assert_close(found_losses, losses, rtol=1e-5, atol=1e-5)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert (found[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-5, name
        frames.append(backend.frame_count)
    assert frames[-1] == frames[1], frames  # no length has graphs of its own
    traced = [node.target for graph in backend.graphs for node in graph.graph.nodes]
    assert traced
    # Of them Inductor would make a graph for each length, which only it does.
    assert not {torch.conv1d, torch.nn.functional.conv1d} & set(traced)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("wanted", ["on", "off"])
def test_a_training_compiles_its_blocks_for_all_lengths(inputs, tmp_path, monkeypatch, wanted):
    seen = {}
    monkeypatch.setattr(
        "pipeline.training.loop.compile_blocks",
        lambda blocks, *, fixed_lengths: seen.update({fixed_lengths: blocks}),
    )
    settings = {**FULL, "training": {**FULL["training"], "compile": wanted}}
    training = make_training(inputs, Artifact(str(tmp_path)), **settings)
    assert seen == ({False: training.model.blocks()} if wanted == "on" else {})


def test_without_a_c_compiler_auto_does_not_compile(inputs, monkeypatch):
    config = tiny_config(inputs["ssl"], training={"compile": "auto"})
    utterance = Utterance("a", "train", "a.wav", 0.0, 1e6, "s", "a", ())
    on_gpu = [Example(utterance, (1,))] * 100, Worker(device=torch.device("cuda"))
    assert compiles(config, *on_gpu)
    monkeypatch.setattr(compilation, "can_compile_kernels", lambda: False)
    assert not compiles(config, *on_gpu)


@pytest.mark.parametrize(
    ("wanted", "device", "share", "sharding", "expected"),
    [
        ("auto", "cuda", 1.01, "ddp", True),
        ("auto", "cuda", 0.99, "ddp", False),
        ("auto", "cpu", 100, "ddp", False),
        ("auto", "cuda", 100, "fsdp", False),
        ("on", "cpu", 0.01, "ddp", True),
        ("off", "cuda", 100, "ddp", False),
    ],
)
def test_when_it_pays(inputs, wanted, device, share, sharding, expected):  # noqa: PLR0917
    """Five epochs on two workers, each of which hears `share` of what makes it worth while."""
    training = {"compile": wanted, "phases": [{"epochs": 2}, {"epochs": 3}]}
    config = tiny_config(inputs["ssl"], training=training, cluster={"sharding": sharding})
    seconds = share * 3600 * WORTHWHILE_HOURS / 5 * 2
    utterance = Utterance("a", "train", "a.wav", 0.0, seconds, "s", "a", ())
    worker = Worker(world_size=2, device=torch.device(device))
    assert compiles(config, [Example(utterance, (1,))], worker) == expected
