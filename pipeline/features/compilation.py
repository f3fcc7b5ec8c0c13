"""When compiling a model for batches of a shape pays: it takes as long as many batches."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

from pipeline.features.compiled import Backend, compile_blocks
from pipeline.features.ssl import SslModel

_logger = logging.getLogger("pipeline.features")
Result = TypeVar("Result")

# Of WavLM large on an H200: compiling for a length took 20 s at most, and then a batch took 25 ms
# instead of 41.
FIRST_PRICE_SECONDS = 20.0
SAVED_SHARE = 0.38


class Compilation:
    """Runs a model uncompiled for each shape until compiling for it would have paid, then compiled.

    So at most about twice the time is spent that whoever knew the corpus beforehand would spend. What
    a compilation takes is known from the last one: one that torch finds in its cache on disk (the folder
    in TORCHINDUCTOR_CACHE_DIR) takes a tenth. Where torch cannot compile, as without a C compiler, the model
    runs as it is.

    Args:
        ssl: compiled in place when the first shape pays.
        backend: see `compile_blocks`.
    """

    def __init__(self, ssl: SslModel, backend: Backend = "inductor") -> None:
        self._ssl, self._backend = ssl, backend
        self._price = FIRST_PRICE_SECONDS
        self._is_compilable = False
        self._computed: defaultdict[Hashable, float] = defaultdict(float)
        self._running: list[tuple[Hashable, _Span]] = []
        self.compiled: set[Hashable] = set()

    def run(self, forward: Callable[[], Result], shape: Hashable) -> Result:
        """What `forward` makes with the model of a batch of `shape`."""
        self._count()
        if shape in self.compiled:
            return forward()
        if self._computed[shape] * SAVED_SHARE < self._price:
            return self._uncompiled(forward, shape)
        try:
            return self._compile(forward, shape)
        except torch._dynamo.exc.TorchDynamoException as error:  # noqa: SLF001 - torch documents it
            reason = " ".join(str(error).split("\n")[:2])  # behind it is advice for torch's own
            _logger.warning("the SSL model runs uncompiled: %s", reason)
            self._price = math.inf
            return self._uncompiled(forward, shape)

    def _compile(self, forward: Callable[[], Result], shape: Hashable) -> Result:
        if not self._is_compilable:
            parts = self._ssl.parts_by_length()
            compile_blocks(parts, fixed_lengths=True, backend=self._backend)
            self._is_compilable = True
        started = time.perf_counter()
        result = forward()
        self._price = time.perf_counter() - started
        self.compiled.add(shape)
        return result

    def _uncompiled(self, forward: Callable[[], Result], shape: Hashable) -> Result:
        span = _Span(next(self._ssl.parameters()).device)
        if self._is_compilable:
            with torch.compiler.set_stance("force_eager"):
                result = forward()
        else:
            result = forward()
        span.end()
        self._running.append((shape, span))
        return result

    def _count(self) -> None:
        """Add up what the device has done by now."""
        while self._running and (seconds := self._running[0][1].seconds()) is not None:
            self._computed[self._running.pop(0)[0]] += seconds


class _Span:
    """What a device does between two moments of its host; a GPU does it later."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started: Any = self._now()
        self._ended: Any = self._started

    def end(self) -> None:
        self._ended = self._now()

    def seconds(self) -> float | None:
        """How long it took; `None` while it is not over."""
        started, ended = self._started, self._ended
        if isinstance(started, float):
            return float(ended - started)
        return float(started.elapsed_time(ended)) / 1000 if ended.query() else None

    def _now(self) -> "float | torch.cuda.Event":
        if self._device.type == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call] # torch's
        event.record(torch.cuda.current_stream(self._device))
        return event
