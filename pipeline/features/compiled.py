"""SSL models whose blocks and front ends are compiled: less memory traffic, the same hidden states.

torch compiles a graph for each length of the padded batch, which all blocks of a kind share; how many
rows a batch has, beyond one, does not matter. So batches should be padded to few lengths.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.features.ssl import SslModel

# Graphs of one function: lengths, times with and without gradients or dropout. Behind it torch would
# silently stop compiling.
MOST_GRAPHS = 256

Backend = str | Callable[..., Any]


def compile_blocks(ssl: SslModel, backend: Backend = "inductor") -> None:
    """From now on the blocks and the front end of `ssl` run compiled, in training too.

    Names in its state dict stay, hooks on the blocks run outside of what is compiled, and blocks that
    are recomputed in the backward pass are so as compiled. `torch.compiler.set_stance("force_eager")`
    runs it as it was.

    Args:
        ssl: compiled in place, length by length, when first used.
        backend: one of torch's compilers, by name, or a function.
    """
    config = torch._dynamo.config  # noqa: SLF001 - torch documents it
    config.recompile_limit = max(config.recompile_limit, MOST_GRAPHS)
    for part in ssl.parts_by_length():
        part.forward = MethodType(_compiled(part.forward, backend), part)


def _compiled(forward: Any, backend: Backend) -> Callable[..., Any]:
    """A bound method's function, compiled; unbound, so that a copy of the module calls itself."""
    mark = torch._dynamo.maybe_mark_dynamic  # noqa: SLF001 - torch documents it
    function: Any = torch.compile(forward.__func__, dynamic=False, backend=backend)

    def call(part: nn.Module, *inputs: Any, **named: Any) -> Any:
        for value in (*inputs, *named.values()):
            if isinstance(value, Tensor) and value.ndim and len(value) > 1:
                mark(value, 0)
        return function(part, *inputs, **named)

    return call
