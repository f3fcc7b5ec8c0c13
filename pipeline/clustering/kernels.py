"""Triton kernels over rows of frames and of logits; see `fused`, which starts them."""

import triton
import triton.language as tl


@triton.jit
def largest_of_rows(
    rows,
    chosen,
    origin,
    largest,
    dim,
    stride,
    HAS_CHOSEN: tl.constexpr,
    HAS_ORIGIN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    source = row
    if HAS_CHOSEN:
        source = tl.load(chosen + row)
    column = tl.arange(0, BLOCK)
    inside = column < dim
    value = tl.load(rows + source * stride + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_ORIGIN:
        value -= tl.load(origin + column, mask=inside, other=0.0)
    size = tl.abs(value)
    tl.store(largest + row, tl.max(tl.where(size < float("inf"), size, 0.0), axis=0))


@triton.jit
def split_rows(
    rows,
    chosen,
    origin,
    scale,
    out,
    dim,
    stride,
    HAS_CHOSEN: tl.constexpr,
    HAS_ORIGIN: tl.constexpr,
    SECOND_IS_LOW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    source = row
    if HAS_CHOSEN:
        source = tl.load(chosen + row)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < dim
    value = tl.load(rows + source * stride + column, mask=inside, other=0.0).to(tl.float32)
    if HAS_ORIGIN:
        value -= tl.load(origin + column, mask=inside, other=0.0)
    value *= tl.load(scale)
    high = value.to(tl.float16)
    low = (value - high.to(tl.float32)).to(tl.float16)
    target = out + row * 3 * dim + column
    tl.store(target, high, mask=inside)
    if SECOND_IS_LOW:
        tl.store(target + dim, low, mask=inside)
        tl.store(target + 2 * dim, high, mask=inside)
    else:
        tl.store(target + dim, high, mask=inside)
        tl.store(target + 2 * dim, low, mask=inside)


@triton.jit
def nearest_rows(
    tile,
    unscale,
    bias,
    frames,
    weight,
    origin,
    units,
    squared_distances,
    num_units,
    dim,
    stride,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    logit = tl.load(tile + row * stride + unit, mask=inside, other=-float("inf"))
    logit = logit * tl.load(unscale)
    logit += tl.load(bias + unit, mask=inside, other=0.0)
    best = tl.minimum(tl.argmax(logit, axis=0), num_units - 1)
    tl.store(units + row, best.to(tl.int64))
    column = tl.arange(0, BLOCK_D)
    within = column < dim
    frame = tl.load(frames + row * dim + column, mask=within, other=0.0).to(tl.float32)
    frame -= tl.load(origin + column, mask=within, other=0.0)
    centroid = tl.load(weight + best.to(tl.int64) * dim + column, mask=within, other=0.0) / 2
    difference = frame - centroid
    tl.store(squared_distances + row, tl.sum(difference * difference, axis=0))
