"""Small building blocks that every network of the project shares."""

import torch
from torch import Tensor, nn


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with the published implementation's initialisation: Glorot uniform, zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, outputs: int, *, hidden: int, layers: int) -> nn.Sequential:
    """``layers`` hidden layers of ELU units and a linear output, as all dense networks of Dreamer v1."""
    modules: list[nn.Module] = []
    for index in range(layers):
        modules += [linear(hidden if index else inputs, hidden), nn.ELU()]
    return nn.Sequential(*modules, linear(hidden if layers else inputs, outputs))


def initialize_convolutions(module: nn.Module) -> None:
    """Glorot uniform kernels and zero biases for every (transposed) convolution in ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def images_to_planes(image: Tensor) -> Tensor:
    """``uint8`` images [..., H, W, C] as floats in [-0.5, 0.5], shaped [-1, C, H, W] in channels-last memory.

    The layout change is only a view: the bytes stay where the store put them.
    """
    flat = image.reshape(-1, *image.shape[-3:])
    assert flat.dtype == torch.uint8, f"images are uint8, got {flat.dtype}"  # also: the copy below may be written to
    return flat.to(torch.get_default_dtype()).div_(255).sub_(0.5).permute(0, 3, 1, 2)
