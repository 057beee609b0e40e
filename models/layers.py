"""Small building blocks that every network of the project shares, and the styles that set the generations apart."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Initializer = Callable[[Tensor], Tensor]  # fills a kernel in place


@dataclass(frozen=True, slots=True)
class Style:
    """How the layers of a network look: a kernel, then ``norm`` unless there is none, then ``activation``."""

    activation: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module] | None = None  # of a number of units, over the last axis
    initialize: Initializer = nn.init.xavier_uniform_  # of kernels; biases start at zero

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        """A linear layer with the style's first kernel and a zero bias."""
        layer = nn.Linear(inputs, outputs, bias=bias)
        self.initialize(layer.weight)
        if bias:
            nn.init.zeros_(layer.bias)
        return layer

    def after(self, units: int) -> nn.Sequential:
        """What follows the kernel of a hidden layer: [..., units] to the same shape."""
        return nn.Sequential(*self._after(units))

    def after_planes(self, channels: int) -> nn.Sequential:
        """What follows a hidden convolution: [N, channels, H, W] to the same shape, every position by itself."""
        if self.norm is None:
            return nn.Sequential(self.activation())
        return nn.Sequential(ChannelNorm(self.norm(channels)), self.activation())

    def trunk(self, inputs: int, *, hidden: int, layers: int) -> nn.Sequential:
        """``layers`` hidden layers: [..., inputs] to [..., hidden]."""
        modules: list[nn.Module] = []
        for index in range(layers):
            modules += [self.linear(hidden if index else inputs, hidden), *self._after(hidden)]
        return nn.Sequential(*modules)

    def _after(self, units: int) -> list[nn.Module]:
        return [self.activation()] if self.norm is None else [self.norm(units), self.activation()]


def truncated_normal_(kernel: Tensor, *, fan_in: int | None = None) -> Tensor:
    """Normal with variance 1 / fan_in, cut at two standard deviations before it is scaled to that variance.

    The first kernels of Dreamer v3's published implementation.
    """
    fan = math.prod(kernel.shape[1:]) if fan_in is None else fan_in
    scale = 1.1368 / math.sqrt(fan)  # a normal cut at two has a standard deviation of 1 / 1.1368
    return nn.init.trunc_normal_(kernel, std=scale, a=-2 * scale, b=2 * scale)


def _rms_norm(units: int) -> nn.RMSNorm:
    return nn.RMSNorm(units, eps=1e-4)


def _layer_norm(units: int) -> nn.LayerNorm:
    return nn.LayerNorm(units, eps=1e-3)


def relu() -> Style:
    """Convolutions of Dreamer v1."""
    return Style(nn.ReLU)


def elu() -> Style:
    """Dense networks of Dreamer v1, all networks of Dreamer v2."""
    return Style(nn.ELU)


def elu_layer_norm() -> Style:
    """Dreamer v2 with its optional layer norm, which the published settings use for Crafter."""
    return Style(nn.ELU, norm=_layer_norm)


def silu_rms_norm() -> Style:
    """All networks of Dreamer v3."""
    return Style(nn.SiLU, norm=_rms_norm, initialize=truncated_normal_)


RELU, ELU, SILU_RMS_NORM = relu(), elu(), silu_rms_norm()


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with the published implementation's initialisation: Glorot uniform, zero bias."""
    return ELU.linear(inputs, outputs, bias=bias)


def mlp(inputs: int, outputs: int, *, hidden: int, layers: int, style: Style = ELU) -> nn.Sequential:
    """``layers`` hidden layers and a linear output; of ELU units, as all dense networks of Dreamer v1, by default."""
    return nn.Sequential(
        *style.trunk(inputs, hidden=hidden, layers=layers), style.linear(hidden if layers else inputs, outputs)
    )


def side_by_side(networks: Iterable[nn.Sequential], inputs: Tensor) -> Tensor:
    """What networks alike in all but their parameters make of the same inputs: [K, ..., O] from [..., I].

    A layer is one batched operation over all of them. They stay networks of their own for optimisers, clipping and
    files; stacking their parameters here costs next to nothing.

    Args:
        networks: K of them, as ``mlp`` makes them.
        inputs: [..., I].
    """
    members = tuple(networks)
    values = inputs.reshape(-1, inputs.shape[-1]).expand(len(members), -1, -1)  # [K, N, I]
    for layers in zip(*members, strict=True):
        values = _layers_side_by_side(layers, values)
    return values.reshape(len(members), *inputs.shape[:-1], values.shape[-1])


def _layers_side_by_side(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Layer k applied to ``inputs[k]``: [K, N, O] from [K, N, I]."""
    layer = layers[0]
    stacked = {name: torch.stack([one.get_parameter(name) for one in layers]) for name, _ in layer.named_parameters()}
    if isinstance(layer, nn.Linear):  # vmap takes half as long again to do the same
        return torch.baddbmm(stacked["bias"].unsqueeze(1), inputs, stacked["weight"].mT)
    outputs: Tensor = vmap(partial(functional_call, layer))(stacked, inputs) if stacked else layer(inputs)
    return outputs


class ChannelNorm(nn.Module):
    """A norm over the channels of every position; in channels-last memory the axes move for free."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, planes: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        normed: Tensor = self.norm(planes.movedim(1, -1))
        return normed.movedim(-1, 1)


class BlockLinear(nn.Module):
    """A linear layer whose kernel is block-diagonal: output block k sees input block k alone (Dreamer v3).

    The kernel starts as the published one does: with the fan of all blocks together, not of one.
    """

    def __init__(self, inputs: int, outputs: int, *, blocks: int, bias: bool = True, fan_in: int | None = None) -> None:
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise ValueError(f"{inputs} inputs and {outputs} outputs must both be multiples of {blocks} blocks")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(blocks, 1, outputs // blocks)) if bias else None
        truncated_normal_(self.weight, fan_in=inputs if fan_in is None else fan_in)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, inputs] to [N, blocks, outputs / blocks]: one batched matrix product, seen through a transposed view."""
        grouped = inputs.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # [blocks, N, inputs / blocks]
        if self.bias is None:
            return torch.bmm(grouped, self.weight).transpose(0, 1)
        return torch.baddbmm(self.bias, grouped, self.weight).transpose(0, 1)


def initialize_convolutions(module: nn.Module, initialize: Initializer = nn.init.xavier_uniform_) -> None:
    """First kernels and zero biases for every (transposed) convolution in ``module``; Glorot uniform by default."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            initialize(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def images_to_planes(image: Tensor) -> Tensor:
    """``uint8`` images [..., H, W, C] as floats in [-0.5, 0.5], shaped [-1, C, H, W] in channels-last memory.

    The layout change is only a view: the bytes stay where the store put them.
    """
    flat = image.reshape(-1, *image.shape[-3:])
    assert flat.dtype == torch.uint8, f"images are uint8, got {flat.dtype}"  # also: the copy below may be written to
    return flat.to(torch.get_default_dtype()).div_(255).sub_(0.5).permute(0, 3, 1, 2)
