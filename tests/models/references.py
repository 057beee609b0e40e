"""Independent float64 NumPy references that several tests share: one row at a time, weights by name."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def below(weights: Weights, prefix: str) -> dict[str, Array]:
    """The weights of one sub-module, with the prefix removed."""
    return {name.removeprefix(f"{prefix}."): value for name, value in weights.items() if name.startswith(f"{prefix}.")}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def rms_norm(x: Array, scale: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * scale


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + shift


def layer_norm_gru(w: Weights, x: Array, h: Array) -> Array:
    raw = w["gates.weight"] @ np.concatenate([x, h]) + w["gates.bias"]
    reset, candidate, update = np.split(layer_norm(raw, w["norm.weight"], w["norm.bias"]), 3)
    update = sigmoid(update - 1)
    return update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * h


def block_gru(w: Weights, x: Array, h: Array) -> Array:
    """As published: each block reads its own slice of the state and a copy of all shared inputs."""
    blocks = len(w["gates.weight"])
    summary = silu(rms_norm(w["summary.0.weight"] @ h + w["summary.0.bias"], w["summary.1.weight"]))
    shared = np.concatenate([summary, x])
    own = np.split(h, blocks)
    kernels = np.split(w["from_shared.weight"], blocks)  # the rows of the dense kernel that compute block k
    hidden = np.concatenate(
        [
            np.concatenate([own[k], shared]) @ np.concatenate([w["from_blocks.weight"][k], kernels[k].T])
            for k in range(blocks)
        ]
    )
    hidden = silu(rms_norm(hidden + w["from_shared.bias"], w["after.0.weight"]))
    new = []
    for k, block in enumerate(np.split(hidden, blocks)):
        reset, candidate, update = np.split(block @ w["gates.weight"][k] + w["gates.bias"][k, 0], 3)
        update = sigmoid(update - 1)
        new.append(update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * own[k])
    return np.concatenate(new)
