"""Compiled models make the same hidden states; torch's tracing is tested, its compilers are torch's."""

import copy
import logging

import numpy as np
import pytest
import torch
from support import save_tiny_ssl, save_tiny_whisper
from tiny_encoders import bert, save
from torch._dynamo.testing import CompileCounterWithBackend

from pipeline.features.compiled import compile_blocks
from pipeline.features.encoders.convolutional import masked_channel_norm
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms

# What is compiled, one graph a length: convolutions, projection, positional convolutions, blocks.
FAMILIES = {
    "wavlm": (save_tiny_ssl, 4),
    "bert": (lambda folder: save(bert, folder), 2),
    "whisper": (save_tiny_whisper, 1),
}
LAYERS = (0, 1, 2)


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    # pytest keeps what torch logs of its tracing, which takes most of the time.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [])
    torch.compiler.reset()


@pytest.fixture(scope="module")
def wavlm_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture
def backend():
    return CompileCounterWithBackend("eager")


def batch(*seconds):
    generator = np.random.default_rng(0)
    return pad_waveforms(
        [generator.normal(size=round(16000 * one)).astype(np.float32) for one in seconds]
    )


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_the_same_and_graphs_are_as_many_as_lengths(tmp_path, family, backend):
    make, graphs = FAMILIES[family]
    folder = make(tmp_path)
    plain, compiled = load_encoder(folder), load_encoder(folder)
    names = list(compiled.state_dict())
    compile_blocks(compiled.parts_by_length(), fixed_lengths=True, backend=backend)
    lengths = 2 if family == "bert" else 1  # tracing takes its time
    batches = ((0.9, 0.5), (0.9, 0.4, 0.5, 0.9), (1.3, 0.4, 0.6), (1.3, 0.3))
    for seconds in batches[: 2 * lengths]:
        expected, found = (model(*batch(*seconds), LAYERS) for model in (plain, compiled))
        torch.testing.assert_close(found.hidden_LBTD, expected.hidden_LBTD, atol=1e-4, rtol=1e-4)
        assert torch.equal(found.num_frames_B, expected.num_frames_B)
    assert backend.frame_count == graphs * lengths
    assert list(compiled.state_dict()) == names


def test_gradients_are_the_same_also_where_blocks_are_recomputed(wavlm_folder):
    backend = CompileCounterWithBackend("aot_eager")  # it makes the backward pass
    plain, compiled = (load_encoder(wavlm_folder, dropout=0.0).train() for _ in range(2))
    compile_blocks(compiled.parts_by_length(), fixed_lengths=True, backend=backend)
    compiled.checkpoint_gradients()
    for model in (plain, compiled):
        model.freeze_front_end()
        model(*batch(0.9, 0.5), LAYERS).hidden_LBTD[:, :, :20].square().sum().backward()
    assert backend.frame_count == 4
    for mine, its in zip(plain.parameters(), compiled.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(its.grad, mine.grad, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_copy_computes_with_its_own_weights(tmp_path, backend):
    compiled = load_encoder(save_tiny_whisper(tmp_path))
    compile_blocks(compiled.parts_by_length(), fixed_lengths=True, backend=backend)
    copied = copy.deepcopy(compiled)
    for parameter in copied.blocks()[0].parameters():
        parameter.zero_()
    expected, found = (model(*batch(0.9, 0.5), LAYERS).hidden_LBTD for model in (compiled, copied))
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], found[0])  # its first block adds nothing any more
    assert not torch.allclose(expected[1], expected[0])


@torch.no_grad()
def test_a_remembered_front_end_is_not_compiled_for_each_utterance(wavlm_folder, backend):
    plain, compiled = load_encoder(wavlm_folder), load_encoder(wavlm_folder)
    compile_blocks(compiled.parts_by_length(), fixed_lengths=True, backend=backend)
    for model in (plain, compiled):
        model.remember_front_end(10**6)
    expected, found = (
        model(*batch(0.9, 0.5, 0.4), LAYERS).hidden_LBTD for model in (plain, compiled)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert backend.frame_count == 3


def test_a_compiled_group_norm_is_over_the_frames_of_each_row():
    norm = torch.nn.GroupNorm(4, 4)
    torch.nn.init.uniform_(norm.weight)
    torch.nn.init.uniform_(norm.bias)
    hidden_BCT = 5 + torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(0))
    lengths_B = torch.tensor([30, 11])
    compiled = torch.compile(masked_channel_norm, backend="eager")(hidden_BCT, lengths_B, norm)
    expected = masked_channel_norm(hidden_BCT.double(), lengths_B, norm.double())
    torch.testing.assert_close(compiled.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_compiled_on_a_gpu_it_makes_what_the_cpu_makes(wavlm_folder):
    plain, compiled = load_encoder(wavlm_folder), load_encoder(wavlm_folder).cuda()
    compile_blocks(compiled.parts_by_length(), fixed_lengths=True)
    for seconds in ((0.9, 0.5), (0.9, 0.4, 0.6)):
        waveforms_BS, num_samples_B = batch(*seconds)
        expected = plain(waveforms_BS, num_samples_B, LAYERS).hidden_LBTD
        found = compiled(waveforms_BS.cuda(), num_samples_B.cuda(), LAYERS).hidden_LBTD
        torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
