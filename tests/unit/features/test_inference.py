"""What a GPU gets is tested on the CPU: few lengths, narrow weights, compilation once it pays."""

import numpy as np
import pytest
import torch
from support import save_tiny_ssl, save_tiny_whisper
from tiny_encoders import bert, data2vec, save
from torch._dynamo.testing import CompileCounterWithBackend

from pipeline.features import compilation
from pipeline.features.batching import rounded_frames
from pipeline.features.compilation import Compilation
from pipeline.features.encoders.load import load_encoder
from pipeline.features.inference import Inference, dtype_on
from pipeline.features.ssl import pad_waveforms

LAYERS = (0, 2)
FAMILIES = {
    "wavlm": save_tiny_ssl,
    "data2vec": lambda folder: save(data2vec, folder),
    "bert": lambda folder: save(bert, folder),
    "bert-relative": lambda folder: save(lambda: bert("relative"), folder),
    "bert-rotary": lambda folder: save(lambda: bert("rotary"), folder),
    "whisper": save_tiny_whisper,
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return FAMILIES[request.param](tmp_path_factory.mktemp("ssl"))


@pytest.fixture(scope="module")
def wavlm_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


def noise(*seconds):
    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.2, round(16000 * one)).astype(np.float32) for one in seconds]


def frames(inference, waveforms):
    started = inference.start(waveforms, LAYERS, lambda hidden_LBTD: hidden_LBTD.transpose(0, 1))
    return [wait() for wait in started]


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_there_are_eight_lengths_to_a_doubling_and_little_padding():
    lengths = {rounded_frames(num_frames) for num_frames in range(1, 2001)}
    assert len(lengths) == 8 + 8 * 4  # every 16 up to 128, then up to 256, 512, 1024 and 2048
    assert all(length % 16 == 0 for length in lengths)
    for num_frames in range(1, 2001):
        padding = rounded_frames(num_frames) - num_frames
        assert 0 <= padding < max(16, num_frames / 8)


@pytest.mark.parametrize("pool", [1, 2])
def test_padding_to_few_lengths_changes_no_frame(folder, monkeypatch, pool):
    ssl, waveforms = load_encoder(folder, pool=pool), noise(0.9, 0.53, 1.31)
    expected = [frames(Inference(ssl, "off"), [waveform])[0] for waveform in waveforms]
    monkeypatch.setattr(Inference, "pads", True)
    inference = Inference(ssl, "off")
    for found_LTD, expected_LTD in zip(frames(inference, waveforms), expected, strict=True):
        assert found_LTD.shape == expected_LTD.shape
        np.testing.assert_allclose(found_LTD, expected_LTD, atol=1e-4, rtol=1e-4)


def test_the_shapes_are_those_of_few_lengths(wavlm_folder, monkeypatch):
    ssl, shapes, planned = load_encoder(wavlm_folder), set(), set()
    inference = Inference(ssl, "off")
    assert inference.padded_samples(16_001) == 16_001
    monkeypatch.setattr(Inference, "pads", True)
    ssl.register_forward_pre_hook(lambda _ssl, inputs: shapes.add(inputs[0].shape[1]))
    for num_samples in range(16_000, 20_000, 199):  # 49 to 62 frames
        frames(inference, noise(num_samples / 16_000))
        planned.add(inference.padded_samples(num_samples))
    assert shapes == planned == {ssl.grid.num_samples(65) - 1}


@torch.no_grad()
def test_narrow_weights_come_close_and_inputs_are_normalised_in_float32(folder):
    wide, narrow = load_encoder(folder), load_encoder(folder)
    narrow.narrow(torch.bfloat16)
    batch = pad_waveforms(noise(0.9, 0.53))
    expected, found = wide(*batch, LAYERS), narrow(*batch, LAYERS)
    assert found.hidden_LBTD.dtype == torch.bfloat16
    assert torch.equal(found.num_frames_B, expected.num_frames_B)
    assert 0 < distance(found.hidden_LBTD.float(), expected.hidden_LBTD) < 0.05
    with pytest.raises(ValueError, match=r"computes in torch\.bfloat16: load it again to save it"):
        narrow.save_pretrained(folder / "saved")
    wide.narrow(torch.float32)
    assert torch.equal(wide(*batch, LAYERS).hidden_LBTD, expected.hidden_LBTD)


def test_whispers_positions_stay_float32(tmp_path):
    ssl = load_encoder(save_tiny_whisper(tmp_path))
    ssl.narrow(torch.bfloat16)
    assert ssl.backbone.encoder.embed_positions.weight.dtype == torch.float32
    assert ssl.blocks()[0].fc1.weight.dtype == torch.bfloat16


def test_only_layers_that_are_asked_for_are_kept(folder):
    ssl, made = load_encoder(folder), []
    blocks = ssl.blocks()
    with torch.no_grad():
        expected = ssl(*pad_waveforms(noise(0.6)), (1, 2)).hidden_LBTD
        handles = [block.register_forward_hook(lambda *_: made.append(1)) for block in blocks]
        found = ssl(*pad_waveforms(noise(0.6)), (1,)).hidden_LBTD
    assert torch.equal(found, expected[:1])
    assert len(made) == len(blocks)
    for handle in handles:
        handle.remove()
    assert not any(block._forward_hooks for block in blocks)


def test_auto_is_bfloat16_on_a_gpu_alone():
    assert dtype_on(torch.device("cpu"), "auto") == torch.float32
    assert dtype_on(torch.device("cuda"), "auto") == torch.bfloat16
    assert dtype_on(torch.device("cuda"), "float32") == torch.float32


def test_a_shape_is_compiled_once_its_batches_have_cost_what_compilation_saves(
    wavlm_folder, monkeypatch
):
    torch.compiler.reset()
    ssl, backend = load_encoder(wavlm_folder), CompileCounterWithBackend("eager")
    compiling = Compilation(ssl, backend)
    seconds = iter([10.0] * 20)
    monkeypatch.setattr(compilation._Span, "seconds", lambda _span: next(seconds))
    batches = {name: pad_waveforms(noise(one, 0.4)) for name, one in (("a", 0.9), ("b", 0.6))}
    expected = {name: ssl(*batch, LAYERS).hidden_LBTD for name, batch in batches.items()}

    def run(name):
        found = compiling.run(lambda: ssl(*batches[name], LAYERS).hidden_LBTD, name)
        torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=1e-4)
        return sorted(compiling.compiled), backend.frame_count

    with torch.no_grad():
        # 10 s each time: compiling saves 38 % of them, and takes 20 s.
        assert [run("a") for _ in range(6)] == [([], 0)] * 6
        assert run("a") == (["a"], 4)
        assert compiling._price != compilation.FIRST_PRICE_SECONDS
        compiling._price = 2.0  # as if torch had found it in its cache: the next pays sooner
        assert run("b") == (["a"], 4)
        assert run("b") == (["a", "b"], 8)
        assert run("a") == run("b") == (["a", "b"], 8)


@torch.no_grad()
def test_where_torch_cannot_compile_the_model_runs_as_it_is(wavlm_folder, monkeypatch, caplog):
    def broken(_graph, _inputs):
        raise RuntimeError("no C compiler")

    torch.compiler.reset()
    ssl = load_encoder(wavlm_folder)
    compiling, batch = Compilation(ssl, broken), pad_waveforms(noise(0.9, 0.4))
    expected = ssl(*batch, LAYERS).hidden_LBTD
    monkeypatch.setattr(compilation._Span, "seconds", lambda _span: 100.0)
    for _ in range(4):
        found = compiling.run(lambda: ssl(*batch, LAYERS).hidden_LBTD, "a")
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not compiling.compiled
    assert [record.message for record in caplog.records if "uncompiled" in record.message] == [
        "the SSL model runs uncompiled: backend='broken' raised: RuntimeError: no C compiler"
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_frames_come_while_others_are_computed(folder):
    ssl, waveforms = load_encoder(folder), noise(0.9, 0.53, 1.31)
    expected = frames(Inference(ssl, "off"), waveforms)
    inference = Inference(ssl.cuda())
    started = [
        inference.start(waveforms, LAYERS, lambda hidden_LBTD: hidden_LBTD.transpose(0, 1))
        for _ in range(3)
    ]
    for batch in started:
        for wait, expected_LTD in zip(batch, expected, strict=True):
            np.testing.assert_allclose(wait(), expected_LTD, atol=1e-3, rtol=1e-3)
