"""Triton kernels of the relaxation, over rows of logits; see `fused`, which starts them."""

import triton
import triton.language as tl

from pipeline.clustering.kernels import (
    difference_from,
    load_frame,
    near_units,
    reach_of,
    store_split,
)

# Of what is at most 1, before it is split.
UNIT_SCALE = tl.constexpr(4096.0)


@triton.jit
def _gumbel(seed, key, index, BLOCK_K: tl.constexpr):
    """-log(-log u) for the units 0 to BLOCK_K - 1; one Philox counter serves four of them."""
    counter = tl.arange(0, BLOCK_K // 4)
    zero = counter * 0
    bits_0, bits_1, bits_2, bits_3 = tl.philox(seed, counter, zero + index, zero + key, zero)
    even = tl.join(bits_0, bits_2)
    odd = tl.join(bits_1, bits_3)
    bits = tl.reshape(tl.join(even, odd), (BLOCK_K,))
    # The middle of one of 2^23 intervals: neither 0 nor 1.
    uniform = ((bits >> 9).to(tl.float32) + 0.5) * (1.0 / (1 << 23))
    return -tl.log(-tl.log(uniform))


@triton.jit(do_not_specialize=["seed"])
def choose_rows(
    tile,
    tile_parts,
    factor,
    bias,
    keys,
    indices,
    seed,
    units,
    nearest,
    entropy,
    valid,
    embedding,
    embedded,
    tau,
    num_units,
    width,
    stride,
    NOISE: tl.constexpr,
    SOFT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    number = tl.load(tile + row * stride + unit, mask=inside, other=0.0)
    logit = number * tl.load(factor) + tl.load(bias + unit, mask=inside, other=0.0)
    logit = tl.where(inside, logit, -float("inf"))
    top = tl.max(logit, axis=0)
    # A row of NaN has no largest index within the row.
    closest = tl.minimum(tl.argmax(logit, axis=0), num_units - 1)
    tl.store(nearest + row, closest.to(tl.int64))
    shifted = logit - top
    weight = tl.exp(shifted)
    total = tl.sum(weight, axis=0)
    weighted = tl.sum(tl.where(inside, weight * shifted, 0.0), axis=0)
    tl.store(entropy + row, tl.log(total) - weighted / total)
    chosen = closest
    if NOISE:
        noise = _gumbel(seed, tl.load(keys + row), tl.load(indices + row), BLOCK_K)
        shifted = tl.where(inside, shifted + noise, -float("inf"))
        chosen = tl.minimum(tl.argmax(shifted, axis=0), num_units - 1)
    tl.store(units + row, chosen.to(tl.int64))
    if not SOFT:
        column = tl.arange(0, BLOCK_E)
        within = column < width
        source = embedding + chosen.to(tl.int64) * width + column
        target = embedded + tl.load(valid + row) * width + column
        tl.store(target, tl.load(source, mask=within), mask=within)
    if SOFT:
        scaled = shifted / tau
        scaled = tl.exp(scaled - tl.max(scaled, axis=0))
        y = scaled / tl.sum(scaled, axis=0)
        parts = tile_parts + row * stride * 2
        store_split(parts, y, UNIT_SCALE, num_units, unit, inside, SECOND_IS_LOW=False)


@triton.jit
def share_rows(
    tile,
    tile_parts,
    factor,
    bias,
    sums,
    count,
    num_units,
    stride,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Logits become their softmax, split in their place, and the sum of it over the rows."""
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    bias_of_unit = tl.load(bias + unit, mask=inside, other=0.0)
    factor_of_logits = tl.load(factor)
    summed = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for index in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + index
        if row < count:
            start = tile + row * stride + unit
            logit = tl.load(start, mask=inside, other=0.0) * factor_of_logits + bias_of_unit
            logit = tl.where(inside, logit, -float("inf"))
            share = tl.exp(logit - tl.max(logit, axis=0))
            share = share / tl.sum(share, axis=0)
            # What is summed is what is split: a unit that no frame has a share of must not move.
            parts = tile_parts + row * stride * 2
            summed += store_split(
                parts, share, UNIT_SCALE, num_units, unit, inside, SECOND_IS_LOW=False
            )
    tl.store(sums + tl.program_id(0) * num_units + unit, summed, mask=inside)


@triton.jit(do_not_specialize=["seed"])
def gradient_rows(
    tile,
    tile_parts,
    y_parts,
    factor,
    unscale_h,
    gradient_scale,
    bias,
    bias_of_h,
    keys,
    indices,
    seed,
    sums,
    inverse_tau,
    count,
    num_units,
    stride,
    NOISE: tl.constexpr,
    SOFT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of logits: split in the place of the numbers, or float32 in that of h."""
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    bias_of_unit = tl.load(bias + unit, mask=inside, other=0.0)
    scale = tl.load(gradient_scale)
    factor_of_logits = tl.load(factor)
    scale_of_h = tl.load(unscale_h)
    summed = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for index in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + index
        if row < count:
            start = tile + row * stride + unit
            logit = tl.load(start, mask=inside, other=0.0) * factor_of_logits + bias_of_unit
            h = tl.load(start + num_units, mask=inside, other=0.0) * scale_of_h
            if HAS_BIAS:
                h += tl.load(bias_of_h + unit, mask=inside, other=0.0)
            if NOISE:
                logit += _gumbel(seed, tl.load(keys + row), tl.load(indices + row), BLOCK_K)
            logit = tl.where(inside, logit, -float("inf"))
            y = tl.exp((logit - tl.max(logit, axis=0)) * inverse_tau)
            y = y / tl.sum(y, axis=0)
            gradient = y * (h - tl.sum(y * h, axis=0)) * inverse_tau
            # Every thread has read its part of the row: the sums above needed them all.
            if EUCLIDEAN:
                tl.store(start + num_units, gradient, mask=inside)
            else:
                parts = tile_parts + row * stride * 2
                store_split(parts, gradient, scale, num_units, unit, inside, SECOND_IS_LOW=False)
                summed += gradient
            if SOFT:
                parts = y_parts + row * 3 * num_units
                store_split(parts, y, UNIT_SCALE, num_units, unit, inside, SECOND_IS_LOW=False)
    if not EUCLIDEAN:
        tl.store(sums + tl.program_id(0) * num_units + unit, summed, mask=inside)


@triton.jit
def pull_rows(
    tile,
    tile_parts,
    frames_parts,
    sharpness,
    floor,
    gradient_scale,
    frames,
    chosen,
    origin,
    weight,
    of_sharpness,
    reaches,
    sums,
    own,
    own_scale,
    of_weight,
    of_weight_scale,
    count,
    num_units,
    dim,
    stride,
    TO_WEIGHT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of -sharpness ||s - mu|| become those of the products 2 s mu - ||mu||^2.

    A logit pulls mu by gradient * sharpness * (s - mu) / ||s - mu||, and s the other way. The pull of
    near pairs goes straight to weights and frames (`own`), all other goes through the products. The
    slope of the root is as large as 1 / ||s||, so a row of it is multiplied by its reach, and the
    frame that it is multiplied with divided by it: both then fit float16.
    """
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    column = tl.arange(0, BLOCK_D)
    within = column < dim
    summed = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for index in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + index
        if row < count:
            start = tile + row * stride + unit
            distance = tl.load(start, mask=inside, other=0.0)
            gradient = tl.load(start + num_units, mask=inside, other=0.0)
            tl.store(of_sharpness + row, tl.sum(gradient * distance, axis=0))
            # A frame on its centroid is pulled nowhere: there the root has no gradient.
            slope = tl.load(sharpness) / tl.where(distance > 0, distance, 1.0)
            pull = tl.where(distance > 0, gradient * slope, 0.0)
            frame = load_frame(frames, tl.load(chosen + row), origin, dim, BLOCK_D)
            reach = reach_of(frame, tl.load(floor))
            tl.store(reaches + row, reach)
            near = near_units(distance, reach, num_units, BLOCK_K)
            far = tl.where(near < num_units, 0.0, pull)
            of_frame = -tl.sum(far, axis=0) * frame
            current = tl.min(near, axis=0)
            while current < num_units:
                strength = tl.sum(tl.where(unit == current, pull, 0.0), axis=0)
                moved = strength * difference_from(frame, weight, current, dim, BLOCK_D)
                of_frame -= moved
                if TO_WEIGHT:
                    target = of_weight + current.to(tl.int64) * dim + column
                    scaled = moved * (0.5 * tl.load(of_weight_scale))
                    tl.atomic_add(target, scaled, mask=within)
                near = tl.where(unit == current, num_units, near)
                current = tl.min(near, axis=0)
            own_row = own + row * dim + column
            before = tl.load(own_row, mask=within, other=0.0)
            tl.store(own_row, (before + of_frame * tl.load(own_scale)) * reach, mask=within)
            parts = frames_parts + row * 3 * dim
            store_split(parts, frame / reach, UNIT_SCALE, dim, column, within, SECOND_IS_LOW=True)
            # Every thread has read its part of the row, as in `gradient_rows`.
            parts = tile_parts + row * stride * 2
            scale = tl.load(gradient_scale) * reach
            store_split(parts, far / 2, scale, num_units, unit, inside, SECOND_IS_LOW=False)
            summed += far / 2
    tl.store(sums + tl.program_id(0) * num_units + unit, summed, mask=inside)


@triton.jit
def scatter_rows(rows, chosen, unscale, out, dim, BLOCK: tl.constexpr):
    """out[chosen[r]] = rows[r] * unscale, in the type of `out`."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < dim
    value = tl.load(rows + row * dim + column, mask=inside) * tl.load(unscale)
    target = out + tl.load(chosen + row) * dim + column
    tl.store(target, value.to(out.dtype.element_ty), mask=inside)
