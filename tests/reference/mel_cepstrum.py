"""Mel-cepstral distortion written out term by term in float64, without torch."""

import math

import numpy as np
from reference.dtw import least_path

BANDS = 80
ORDER = 13
FLOOR = 1e-8


def distortion_db(first, second, rate):
    """The mean over pairs of windows of 10 / ln 10 sqrt(2 sum (c_m - c'_m)^2), m from 1 to 13.

    The pairs are those of the path of least total distortion.
    """
    rows, columns = _cepstra(first, rate), _cepstra(second, rate)
    distances = [
        [
            10 / math.log(10) * math.sqrt(2 * sum((a[m] - b[m]) ** 2 for m in range(1, ORDER + 1)))
            for b in columns
        ]
        for a in rows
    ]
    total, length = least_path(distances)
    return total / length


def _cepstra(samples, rate):
    window, hop = round(0.064 * rate), round(0.01 * rate)
    starts = range(0, len(samples) - window + 1, hop)
    return [_cepstrum(samples[start : start + window], rate) for start in starts]


def _cepstrum(samples, rate):
    size = len(samples)
    times = np.arange(size)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * times / size)
    spectrum = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), times) / size) @ (
        np.asarray(samples, dtype=np.float64) * taper
    )
    power = (2 * np.abs(spectrum) / taper.sum()) ** 2
    logs = [0.5 * math.log(max(FLOOR, band @ power)) for band in triangles(size, rate)]
    cepstrum = []
    for m in range(ORDER + 1):
        terms = [logs[j] * math.cos(math.pi * m * (j + 0.5) / BANDS) for j in range(BANDS)]
        cepstrum.append((1 if m == 0 else 2) / BANDS * sum(terms))
    return cepstrum


def triangles(size, rate):
    """The weights of 80 mel bands (rows) over the bins of a spectrum of `size` samples at `rate`."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = [700 * (10 ** (top * k / (BANDS + 1) / 2595) - 1) for k in range(BANDS + 2)]
    rows = []
    for low, centre, high in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        row = np.zeros(size // 2 + 1)
        for index in range(size // 2 + 1):
            hz = index * rate / size
            rising, falling = (hz - low) / (centre - low), (high - hz) / (high - centre)
            row[index] = max(0.0, min(rising, falling))
        rows.append(row)
    return rows
