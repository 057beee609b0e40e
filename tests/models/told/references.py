"""Independent float64 NumPy references of TD-MPC's layers, one vector or a batch at a time."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


def sim_norm(x: Array, *, group: int) -> Array:
    parts = [np.exp(part - part.max(-1, keepdims=True)) for part in np.split(x, x.shape[-1] // group, axis=-1)]
    return np.concatenate([part / part.sum(-1, keepdims=True) for part in parts], axis=-1)


def layer_norm(x: Array, scale: Array | float = 1.0, shift: Array | float = 0.0) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift


def mish(x: Array) -> Array:
    return x * np.tanh(np.log1p(np.exp(x)))


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def dense(layers: nn.Sequential, x: Array, *, dropped: Array | None = None) -> Array:
    """A network of linear layers, norms and activations; ``dropped`` multiplies the output of the first layer."""
    for number, layer in enumerate(layers):
        weights = [parameter.detach().numpy() for parameter in layer.parameters()]
        if isinstance(layer, nn.Linear):
            x = x @ weights[0].T + weights[1]
            if number == 0 and dropped is not None:
                x = x * dropped
        else:
            x = {nn.LayerNorm: layer_norm, nn.Mish: mish, nn.ELU: elu, nn.Tanh: np.tanh}[type(layer)](x, *weights)
    return x
