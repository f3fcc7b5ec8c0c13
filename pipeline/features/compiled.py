"""Models whose blocks are compiled: less memory traffic, the same results.

With `fixed_lengths` torch compiles a graph for each length of the padded batch, which all blocks of a
kind share; how many rows a batch has, beyond one, does not matter. So batches should be padded to few
lengths. Without, a graph is for all lengths: a little slower, and quick to compile. Convolutions are
then left as they are, since Inductor makes a graph for each length of what one is part of.
"""

from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

# Graphs of one function: lengths, times with and without gradients or dropout. Behind it torch would
# silently stop compiling.
MOST_GRAPHS = 256

Backend = str | Callable[..., Any]


def compile_blocks(
    blocks: Iterable[nn.Module], *, fixed_lengths: bool, backend: Backend = "inductor"
) -> None:
    """From now on `blocks` run compiled, in training too.

    Names in state dicts stay, hooks on the blocks run outside of what is compiled, and blocks that
    are recomputed in the backward pass are so as compiled. `torch.compiler.set_stance("force_eager")`
    runs them as they were.

    Args:
        blocks: compiled in place when first used; they read batches, rows first and then a length.
        fixed_lengths: whether each length has a graph of its own.
        backend: one of torch's compilers, by name, or a function.
    """
    config = torch._dynamo.config  # noqa: SLF001 - torch documents it
    config.recompile_limit = max(config.recompile_limit, MOST_GRAPHS)
    compiled = _compiled if fixed_lengths else _compiled_for_all_lengths
    for block in blocks:
        if not fixed_lengths:
            _leave_out_convolutions(block)
        forward: Any = block.forward
        block.forward = MethodType(compiled(forward.__func__, backend), block)


def _leave_out_convolutions(block: nn.Module) -> None:
    for part in block.modules():
        if isinstance(part, nn.Conv1d):
            # Unbound, so that a copy of the module calls itself.
            forward: Any = part.forward
            left: Any = torch.compiler.disable(forward.__func__)  # type: ignore[no-untyped-call] # torch
            part.forward = MethodType(left, part)  # type: ignore[method-assign] # as below


def _compiled_for_all_lengths(forward: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    function: Callable[..., Any] = torch.compile(forward, dynamic=True, backend=backend)
    return function


def _compiled(forward: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """A module's function, compiled; unbound, so that a copy of the module calls itself."""
    mark = torch._dynamo.maybe_mark_dynamic  # noqa: SLF001 - torch documents it
    function: Any = torch.compile(forward, dynamic=False, backend=backend)

    def call(part: nn.Module, *inputs: Any, **named: Any) -> Any:
        for value in (*inputs, *named.values()):
            if isinstance(value, Tensor) and value.ndim and len(value) > 1:
                mark(value, 0)
        return function(part, *inputs, **named)

    return call
