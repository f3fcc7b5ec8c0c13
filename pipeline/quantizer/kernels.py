"""Triton kernels of the relaxation, over rows of logits; see `fused`, which starts them."""

import triton
import triton.language as tl

# Of y, which is at most 1, before it is split.
Y_SCALE = tl.constexpr(4096.0)


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


@triton.jit
def _store_split(target, value, scale, num_units, unit, inside):
    value = value * scale
    high = value.to(tl.float16)
    low = (value - high.to(tl.float32)).to(tl.float16)
    tl.store(target + unit, high, mask=inside)
    tl.store(target + num_units + unit, high, mask=inside)
    tl.store(target + 2 * num_units + unit, low, mask=inside)


@triton.jit(do_not_specialize=["seed"])
def choose_rows(
    tile,
    tile_parts,
    unscale,
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
    logit = tl.load(tile + row * stride + unit, mask=inside, other=-float("inf"))
    logit = logit * tl.load(unscale)
    logit += tl.load(bias + unit, mask=inside, other=0.0)
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
        _store_split(tile_parts + row * stride * 2, y, Y_SCALE, num_units, unit, inside)


@triton.jit(do_not_specialize=["seed"])
def gradient_rows(
    tile,
    tile_parts,
    y_parts,
    unscale,
    unscale_h,
    gradient_scale,
    bias,
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
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    unit = tl.arange(0, BLOCK_K)
    inside = unit < num_units
    bias_of_unit = tl.load(bias + unit, mask=inside, other=0.0)
    scale = tl.load(gradient_scale)
    scale_of_logits = tl.load(unscale)
    scale_of_h = tl.load(unscale_h)
    summed = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for index in range(ROWS):
        row = tl.program_id(0).to(tl.int64) * ROWS + index
        if row < count:
            start = tile + row * stride + unit
            logit = tl.load(start, mask=inside, other=-float("inf")) * scale_of_logits
            logit += bias_of_unit
            h = tl.load(start + num_units, mask=inside, other=0.0) * scale_of_h
            if NOISE:
                noise = _gumbel(seed, tl.load(keys + row), tl.load(indices + row), BLOCK_K)
                logit = tl.where(inside, logit + noise, -float("inf"))
            y = tl.exp((logit - tl.max(logit, axis=0)) * inverse_tau)
            y = y / tl.sum(y, axis=0)
            gradient = y * (h - tl.sum(y * h, axis=0)) * inverse_tau
            summed += gradient
            # Every thread has read its part of the row: the sums above needed them all.
            _store_split(tile_parts + row * stride * 2, gradient, scale, num_units, unit, inside)
            if SOFT:
                _store_split(y_parts + row * 3 * num_units, y, Y_SCALE, num_units, unit, inside)
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
