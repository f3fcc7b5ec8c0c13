"""Whether this machine can start the kernels of a GPU that Triton compiles."""

import os
import shutil
from functools import cache
from importlib.util import find_spec


@cache
def can_compile_kernels() -> bool:
    """Whether Triton is installed, and finds the C compiler that it starts a kernel with."""
    has_compiler = "CC" in os.environ or any(map(shutil.which, ("gcc", "clang")))
    return has_compiler and find_spec("triton") is not None
