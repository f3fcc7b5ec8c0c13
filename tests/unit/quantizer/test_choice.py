"""Which of the two ways a choice takes: kernels of our own on a GPU, or torch's operations."""

import sys
from types import SimpleNamespace

import pytest
import torch

import pipeline.quantizer
from pipeline import kernel_compiler
from pipeline.clustering import tiles
from pipeline.clustering.logits import Logits
from pipeline.kernel_compiler import can_compile_kernels
from pipeline.quantizer import choice
from pipeline.quantizer.relaxation import Relaxation


class KernelsCalledError(Exception):
    pass


@pytest.fixture
def _frames_on_a_gpu(monkeypatch):
    """All frames pass for a GPU's, and kernels can only be called."""

    def call(*_):
        raise KernelsCalledError

    kernels = SimpleNamespace(forward=call, backward=call)
    monkeypatch.setattr(choice, "is_fused", lambda _frames, _num_units: True)
    monkeypatch.setitem(sys.modules, "pipeline.quantizer.fused", kernels)
    monkeypatch.setattr(pipeline.quantizer, "fused", kernels, raising=False)


def chosen(distance):
    frames = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = Logits.of(torch.eye(4), 1.0, distance)
    relaxation = Relaxation(tau=0.5, noise=None, hard=True)
    return frames, choice.choose(frames, torch.arange(7), logits, torch.eye(4), relaxation)


@pytest.mark.usefixtures("_frames_on_a_gpu")
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_on_a_gpu_both_distances_go_to_the_kernels(distance):
    with pytest.raises(KernelsCalledError):
        chosen(distance)


def test_torchs_switch_asks_for_float32_products(monkeypatch):
    on_a_gpu = SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(tiles, "can_compile_kernels", lambda: True)
    assert tiles.is_fused(on_a_gpu, 2000)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision="ieee"))
    assert not tiles.is_fused(on_a_gpu, 2000)


@pytest.mark.parametrize(("there", "can"), [("", False), ("gcc", True), ("clang", True)])
def test_without_a_c_compiler_a_gpu_goes_through_torch(monkeypatch, there, can):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(kernel_compiler.shutil, "which", lambda name: name == there)
    monkeypatch.setattr(kernel_compiler, "find_spec", lambda _: object())
    monkeypatch.setattr(tiles, "can_compile_kernels", can_compile_kernels.__wrapped__)
    assert tiles.is_fused(SimpleNamespace(is_cuda=True), 2000) is can


@pytest.mark.usefixtures("_frames_on_a_gpu")
def test_more_units_than_a_kernel_takes_go_through_torch(monkeypatch):
    monkeypatch.setattr(choice, "is_fused", lambda _frames, num_units: num_units < 4)
    frames, result = chosen("euclidean")
    assert result.units_N.tolist() == frames.argmax(dim=1).tolist()
    result.embedded_ME.square().sum().backward()
    assert frames.grad.any()
