"""GPT-NeoX in float64 NumPy, one sequence and one position at a time, without batches or caches."""

import math

import numpy as np


def log_probs(weights, num_heads, edge, symbols):
    """Of each symbol after those before it, and of the edge at the end.

    `weights` are transformers' by name; layers are sequential (not parallel), rotary over all of a
    head's values with base 10,000.
    """
    found = []
    for n in range(len(symbols) + 1):
        read = [edge, *symbols[:n]]
        logits = last_logits(weights, num_heads, read)
        wanted = symbols[n] if n < len(symbols) else edge
        found.append(logits[wanted] - np.logaddexp.reduce(logits))
    return np.array(found)


def last_logits(weights, num_heads, read):
    x_ND = weights["gpt_neox.embed_in.weight"][read]
    layers = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("gpt_neox.layers."))
    for layer in range(layers):

        def of(name, x, layer=layer):
            prefix = f"gpt_neox.layers.{layer}.{name}"
            return x @ weights[f"{prefix}.weight"].T + weights[f"{prefix}.bias"]

        def norm(name, x, layer=layer):
            prefix = f"gpt_neox.layers.{layer}.{name}"
            return layer_norm(x, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])

        projected = of("attention.query_key_value", norm("input_layernorm", x_ND))
        x_ND = x_ND + of("attention.dense", attend(projected, num_heads))
        inner = of("mlp.dense_h_to_4h", norm("post_attention_layernorm", x_ND))
        x_ND = x_ND + of("mlp.dense_4h_to_h", gelu(inner))
    norm_weight = weights["gpt_neox.final_layer_norm.weight"]
    x_ND = layer_norm(x_ND, norm_weight, weights["gpt_neox.final_layer_norm.bias"])
    return weights["lm_head.weight"] @ x_ND[-1]


def attend(projected, num_heads):
    """Each head's query, key and value lie side by side; a position looks at itself and before."""
    length, width = projected.shape
    size = width // (3 * num_heads)
    out = np.zeros((length, num_heads * size))
    for head in range(num_heads):
        part = projected[:, 3 * size * head : 3 * size * (head + 1)]
        query, key, value = (part[:, i * size : (i + 1) * size] for i in range(3))
        for n in range(length):
            scores = np.array(
                [rotated(query[n], n) @ rotated(key[m], m) / math.sqrt(size) for m in range(n + 1)]
            )
            shares = np.exp(scores - scores.max())
            out[n, size * head : size * (head + 1)] = shares @ value[: n + 1] / shares.sum()
    return out


def rotated(vector, position):
    half = len(vector) // 2
    angles = position / 10_000.0 ** (np.arange(half) / half)
    first, second = vector[:half], vector[half:]
    return np.concatenate(
        [
            first * np.cos(angles) - second * np.sin(angles),
            second * np.cos(angles) + first * np.sin(angles),
        ]
    )


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
