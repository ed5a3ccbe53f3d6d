#!/usr/bin/env python3
"""float64.py MODEL FILE... -- what files cost under an int8 Mamba-2, in double.

Independent of the C: numpy, sums in double precision, exp and log of libm, and
chunks of 64 bytes computed side by side.  Only what the int8 form rounds to
integers is rounded.  Each file is a stream of its own, after the begin byte.
Writes tests/text/bits_per_byte.tsv: file, bytes, bits, bits per byte.

SPDX-License-Identifier: MIT
"""
import json
import os
import sys

import numpy as np

CHUNK = 64
BEGIN = 0


def load(path):
    """Tensors by name, in double, int8 ones times the scales of their rows; and
    the metadata."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    meta = header.pop("__metadata__")
    types = {"F32": "<f4", "I8": "i1"}
    raw = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        values = np.frombuffer(data[begin:end], types[t["dtype"]])
        raw[name] = values.reshape(t["shape"]).astype(float)
    tensors = {}
    for name, values in raw.items():
        if name + "_scale" in raw:
            values = values * raw[name + "_scale"].reshape(-1, 1)
        tensors[name] = values
    return tensors, meta


def int8(x):
    """x along its last axis as integers from -127 to 127, and their scale."""
    scale = np.abs(x).max(-1, keepdims=True) / 127
    return np.rint(x / np.where(scale == 0, 1, scale)), scale


def rounded(x):
    q, scale = int8(x)
    return q * scale


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def convolve(x, weight, bias):
    """Depthwise and causal; x [T][channels], weight [channels][1][taps]."""
    taps = weight.shape[-1]
    padded = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
    y = bias + sum(padded[k:k + len(x)] * weight[:, 0, k] for k in range(taps))
    return silu(y)


def chunks(x):
    """[T][heads].. as [chunk][head][CHUNK].., with zeros at the end."""
    pad = [(0, -len(x) % CHUNK)] + [(0, 0)] * (x.ndim - 1)
    x = np.pad(x, pad)
    return x.reshape(-1, CHUNK, *x.shape[1:]).swapaxes(1, 2)


def state_space(x, b, c, log_decay, delta, d):
    """y [T][head][P] of x [T][head][P], b and c [T][head][N]."""
    (x, x_scale), (b, b_scale), (c, c_scale) = int8(x), int8(b), int8(c)
    k = delta[..., None] * x_scale * b_scale
    skip = d[:, None] * x * x_scale
    n_bytes = len(x)
    x, b, c, k, c_scale = (chunks(v) for v in (x, b, c, k, c_scale))
    total = chunks(log_decay[..., None]).cumsum(2)  # log of E
    between = np.minimum(total - total.swapaxes(2, 3), 0)
    weights = np.tril(np.exp(between)) * k.swapaxes(2, 3)  # [t][s]: L_s k_s
    m, m_scale = int8(c @ b.swapaxes(2, 3) * weights)
    y = m @ x * (m_scale * c_scale)
    # What the last byte of a chunk keeps of each byte.
    kept = x.swapaxes(2, 3) * weights[:, :, -1:, :]
    added = rounded(kept) @ b
    decay = np.exp(total)
    state = np.zeros(added.shape[1:])
    for i, more in enumerate(added):
        read = c[i] @ rounded(state).swapaxes(1, 2)
        y[i] += read * c_scale[i] * decay[i]
        state = decay[i, :, -1:] * state + more
    y = y.swapaxes(1, 2).reshape(-1, *skip.shape[1:])
    return y[:n_bytes] + skip


def mixer(x, w, head_dim, n_groups, epsilon):
    """w: the tensors of the mixer, by the ends of their names."""
    n_heads = len(w["D"])
    d_inner = n_heads * head_dim
    n_conv = len(w["conv1d.bias"])
    rows = rounded(x) @ w["in_proj.weight"].T
    z, xbc, dt = np.split(rows, [d_inner, d_inner + n_conv], 1)
    xbc = convolve(xbc, w["conv1d.weight"], w["conv1d.bias"])
    x, bc = xbc[:, :d_inner], xbc[:, d_inner:]
    bc = bc.reshape(len(x), 2, n_groups, -1).repeat(n_heads // n_groups, 2)
    delta = np.logaddexp(0, dt + w["dt_bias"])
    y = state_space(x.reshape(len(x), n_heads, -1), bc[:, 0], bc[:, 1],
                    -np.exp(w["A_log"]) * delta, delta, w["D"])
    y = y.reshape(len(y), -1) * silu(z)
    y = rms_norm(y.reshape(len(y), n_groups, -1), 1, epsilon)
    y = y.reshape(len(y), -1) * w["norm.weight"]
    return rounded(y) @ w["out_proj.weight"].T


def bits_of(data, tensors, meta):
    epsilon = float(meta["norm_epsilon"])
    shape = int(meta["head_dim"]), int(meta["n_groups"])
    stream = np.frombuffer(bytes([BEGIN]) + data, np.uint8)
    h = tensors["backbone.embedding.weight"][stream[:-1]]
    n_layer = sum(name.endswith("mixer.D") for name in tensors)
    for i in range(n_layer):
        layer = f"backbone.layers.{i}."
        at = layer + "mixer."
        w = {n[len(at):]: v for n, v in tensors.items() if n.startswith(at)}
        x = rms_norm(h, tensors[layer + "norm.weight"], epsilon)
        h = h + mixer(x, w, *shape, epsilon)
    x = rms_norm(h, tensors["backbone.norm_f.weight"], epsilon)
    logits = rounded(x) @ tensors["lm_head.weight"].T
    most = logits.max(1)
    total = most + np.log(np.exp(logits - most[:, None]).sum(1))
    nats = total - logits[np.arange(len(data)), stream[1:]]
    return nats.sum() / np.log(2)


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: float64.py MODEL FILE...")
    tensors, meta = load(sys.argv[1])
    print("file\tbytes\tbits\tbits_per_byte")
    for path in sys.argv[2:]:
        with open(path, "rb") as f:
            data = f.read()
        bits = bits_of(data, tensors, meta)
        name = os.path.basename(path)
        print(f"{name}\t{len(data)}\t{bits:.3f}\t{bits / len(data):.5f}",
              flush=True)


main()
