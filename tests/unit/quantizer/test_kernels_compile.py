"""Every kernel compiles for a GPU, where there is none: Triton needs one only to start them.

The interpreter, which the other tests run, takes what the compiler refuses. What is compiled is what
the passes start, with the types and settings they start it with: `python test_kernels_compile.py`
runs them over meaningless numbers and compiles in the place of starting.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]
KERNELS = {
    "largest_of_rows",
    "split_rows",
    "nearest_rows",
    "distance_rows",
    "choose_rows",
    "share_rows",
    "gradient_rows",
    "pull_rows",
    "scatter_rows",
}


def test_every_kernel_compiles(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    process = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert set(process.stdout.split()) == KERNELS


def compile_in_the_place_of_starting():
    """Each kernel that would start compiles once for each set of types and settings."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction, mangle_type

    done = set()

    def run(kernel, *given, grid, warmup, num_warps=4, **settings):
        values = dict(zip(kernel.arg_names, given, strict=False)) | settings
        fixed = {each.name for each in kernel.params if each.is_constexpr}
        fixed |= {name for name, value in values.items() if type(value) is int and value == 1}
        types = {
            name: "constexpr" if name in fixed else mangle_type(value)
            for name, value in values.items()
        }
        constants = {name: values[name] for name in sorted(fixed)}
        key = (kernel.fn.__name__, *types.items(), *constants.items())
        if key not in done:
            done.add(key)
            source = ASTSource(fn=kernel, signature=types, constexprs=constants)
            triton.compile(source, GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
            print(kernel.fn.__name__)

    JITFunction.run = run


def start_all(distance):
    import torch

    from pipeline.clustering import fused as rows
    from pipeline.clustering.logits import Logits
    from pipeline.quantizer import fused, fused_update
    from pipeline.quantizer.logit_gradients import LogitGradients
    from pipeline.quantizer.noise import Noise
    from pipeline.quantizer.relaxation import Gradients, Relaxation

    frames_MD, centroids_KD = torch.zeros(20, 24, dtype=torch.bfloat16), torch.zeros(40, 24)
    embedding_KE, valid_N = torch.zeros(40, 8), torch.arange(20)
    logits = Logits.of(centroids_KD, 1.0, distance)
    rows.nearest(frames_MD, Logits.of(centroids_KD, 1.0))
    for hard in (True, False):
        relaxation = Relaxation(0.5, Noise(1 << 40, (3,), (20,)), hard)
        fused.forward(frames_MD, valid_N, logits, embedding_KE, relaxation)
        targets = Gradients.zeros((True,) * 6, frames_MD, logits, embedding_KE)
        fused.backward(
            frames_MD, valid_N, logits, embedding_KE, relaxation, torch.zeros(20, 8), targets
        )
    mass_K = torch.ones(40)
    fused_update.forward(frames_MD, valid_N, logits)
    fused_update.backward(
        frames_MD,
        valid_N,
        logits,
        mass_K,
        centroids_KD,
        mass_K,
        LogitGradients.zeros(logits),
        torch.zeros_like(frames_MD),
    )


if __name__ == "__main__":
    compile_in_the_place_of_starting()
    start_all("squared")
    start_all("euclidean")
