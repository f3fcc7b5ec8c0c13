"""Triton kernels over rows of frames and of logits; see `fused`, which starts them."""

import triton
import triton.language as tl

# The share of a frame's length within which products do not show how far a centroid is from it.
NEAR = tl.constexpr(0.1)


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
def store_split(target, value, scale, dim, column, inside, SECOND_IS_LOW: tl.constexpr):
    """The parts of value * scale, (hi, lo, hi) or (hi, hi, lo); returns what hi and lo add up to."""
    value = value * scale
    high = value.to(tl.float16)
    low = (value - high.to(tl.float32)).to(tl.float16)
    tl.store(target + column, high, mask=inside)
    if SECOND_IS_LOW:
        tl.store(target + dim + column, low, mask=inside)
        tl.store(target + 2 * dim + column, high, mask=inside)
    else:
        tl.store(target + dim + column, high, mask=inside)
        tl.store(target + 2 * dim + column, low, mask=inside)
    return high.to(tl.float32) + low.to(tl.float32)


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
    parts = out + row * 3 * dim
    store_split(parts, value, tl.load(scale), dim, column, inside, SECOND_IS_LOW)


@triton.jit
def load_frame(frames, row, origin, dim, BLOCK_D: tl.constexpr):
    """A frame moved by the origin, float32; zero beyond its dimensions."""
    column = tl.arange(0, BLOCK_D)
    within = column < dim
    frame = tl.load(frames + row * dim + column, mask=within, other=0.0).to(tl.float32)
    return frame - tl.load(origin + column, mask=within, other=0.0)


@triton.jit
def difference_from(frame, weight, unit, dim, BLOCK_D: tl.constexpr):
    """The difference s - mu for one unit, of which `weight` has 2 mu."""
    column = tl.arange(0, BLOCK_D)
    start = weight + unit.to(tl.int64) * dim
    return frame - tl.load(start + column, mask=column < dim, other=0.0) / 2


@triton.jit
def reach_of(frame, floor):
    """A frame's length, or `floor` for one at the origin, which has hardly any; never 0."""
    length = tl.sqrt(tl.sum(frame * frame, axis=0))
    return tl.maximum(tl.maximum(length, floor), 1e-30)


@triton.jit
def near_units(distance, reach, num_units, BLOCK_K: tl.constexpr):
    """The units that are near to a frame, as `near_pairs` has it, all others as `num_units`."""
    unit = tl.arange(0, BLOCK_K)
    return tl.where((distance <= NEAR * reach) & (unit < num_units), unit, num_units)


@triton.jit
def nearest_rows(
    tile,
    factor,
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
    logit = logit * tl.load(factor)
    logit += tl.load(bias + unit, mask=inside, other=0.0)
    best = tl.minimum(tl.argmax(logit, axis=0), num_units - 1)
    tl.store(units + row, best.to(tl.int64))
    frame = load_frame(frames, row, origin, dim, BLOCK_D)
    difference = difference_from(frame, weight, best, dim, BLOCK_D)
    tl.store(squared_distances + row, tl.sum(difference * difference, axis=0))


@triton.jit
def distance_rows(
    tile,
    unscale,
    bias,
    floor,
    frames,
    chosen,
    origin,
    weight,
    num_units,
    dim,
    stride,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Scaled products 2 s mu become ||s - mu||, in their place."""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    product = tl.load(tile + row * stride + unit, mask=inside, other=0.0) * tl.load(unscale)
    product += tl.load(bias + unit, mask=inside, other=0.0)
    frame = load_frame(frames, tl.load(chosen + row), origin, dim, BLOCK_D)
    squared = tl.sum(frame * frame, axis=0) - product
    # NaN stays NaN, so that a bad frame shows.
    distance = tl.sqrt(tl.where(squared < 0, 0.0, squared))
    near = near_units(distance, reach_of(frame, tl.load(floor)), num_units, BLOCK_K)
    current = tl.min(near, axis=0)
    while current < num_units:
        difference = difference_from(frame, weight, current, dim, BLOCK_D)
        exact = tl.sqrt(tl.sum(difference * difference, axis=0))
        distance = tl.where(unit == current, exact, distance)
        near = tl.where(unit == current, num_units, near)
        current = tl.min(near, axis=0)
    tl.store(tile + row * stride + unit, distance, mask=inside)
