"""Layers that all networks share, and the styles (activation, norm, initialisation) of the Dreamer generations."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Initializer = Callable[[Tensor], Tensor]  # fills a kernel in place


@dataclass(frozen=True, slots=True)
class Style:
    """The layers of a network: a kernel, then ``norm`` if there is one, then ``activation``."""

    activation: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module] | None = None  # constructs a norm over the last axis from the number of units
    initialize: Initializer = nn.init.xavier_uniform_  # initialises kernels; biases start at zero

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        """A linear layer with the style's initial kernel and a zero bias."""
        layer = nn.Linear(inputs, outputs, bias=bias)
        self.initialize(layer.weight)
        if bias:
            nn.init.zeros_(layer.bias)
        return layer

    def after(self, units: int) -> nn.Sequential:
        """The norm and activation after the kernel of a hidden layer: [..., units] to the same shape."""
        return nn.Sequential(*self._after(units))

    def after_planes(self, channels: int) -> nn.Sequential:
        """The norm and activation after a convolution, at each position: [N, channels, H, W] to the same shape."""
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
    """A normal truncated at two standard deviations, then scaled to variance 1 / fan_in.

    Dreamer v3's published implementation initialises its kernels this way.
    """
    fan = math.prod(kernel.shape[1:]) if fan_in is None else fan_in
    scale = 1.1368 / math.sqrt(fan)  # a unit normal truncated at two has a standard deviation of 1 / 1.1368
    return nn.init.trunc_normal_(kernel, std=scale, a=-2 * scale, b=2 * scale)


def narrow_normal_(kernel: Tensor) -> Tensor:
    """A normal of standard deviation 0.02 for every size of kernel (TD-MPC2)."""
    return nn.init.trunc_normal_(kernel, std=0.02)  # PyTorch truncates at -2 and 2, so in effect nowhere


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
    """All networks of Dreamer v2 with the optional layer norm, which its published settings use for Crafter."""
    return Style(nn.ELU, norm=_layer_norm)


def silu_rms_norm() -> Style:
    """All networks of Dreamer v3."""
    return Style(nn.SiLU, norm=_rms_norm, initialize=truncated_normal_)


def elu_orthogonal() -> Style:
    """Dense networks of TD-MPC."""
    return Style(nn.ELU, initialize=nn.init.orthogonal_)


def tanh_layer_norm() -> Style:
    """The first layer of TD-MPC's value networks."""
    return Style(nn.Tanh, norm=nn.LayerNorm, initialize=nn.init.orthogonal_)


def mish_layer_norm() -> Style:
    """Dense networks of TD-MPC2."""
    return Style(nn.Mish, norm=nn.LayerNorm, initialize=narrow_normal_)


RELU, ELU, SILU_RMS_NORM, MISH_LAYER_NORM = relu(), elu(), silu_rms_norm(), mish_layer_norm()


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with the published implementation's initialisation: Glorot uniform, zero bias."""
    return ELU.linear(inputs, outputs, bias=bias)


def mlp(inputs: int, outputs: int, *, hidden: int, layers: int, style: Style = ELU) -> nn.Sequential:
    """``layers`` hidden layers and a linear output; by default with ELU, as in the dense networks of Dreamer v1."""
    return nn.Sequential(
        *style.trunk(inputs, hidden=hidden, layers=layers), style.linear(hidden if layers else inputs, outputs)
    )


@torch.no_grad()
def zero_last(layers: nn.Sequential) -> None:
    """Sets the last layer of ``mlp`` to zero, so that its first outputs are exactly zero."""
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    last.weight.zero_()
    last.bias.zero_()


def side_by_side(networks: Iterable[nn.Sequential], inputs: Tensor) -> Tensor:
    """The outputs of K networks of the same architecture for the same inputs: [K, ..., O] from [..., I].

    Each layer is one batched operation over all K networks. The networks stay separate modules for optimisers,
    gradient clipping and saved files; stacking their parameters here costs little.

    Args:
        networks: K networks from ``mlp``.
        inputs: [..., I].
    """
    members = tuple(networks)
    outputs = each_on_its_own(members, inputs.reshape(-1, inputs.shape[-1]).expand(len(members), -1, -1))  # [K, N, O]
    return outputs.reshape(len(members), *inputs.shape[:-1], outputs.shape[-1])


def each_on_its_own(networks: Sequence[nn.Sequential], inputs: Tensor) -> Tensor:
    """The output of network k for ``inputs[k]``, as in ``side_by_side``: [K, ..., O] from [K, ..., I]."""
    values = inputs.reshape(len(networks), -1, inputs.shape[-1])  # [K, N, I]
    for layers in zip(*networks, strict=True):
        values = _layers_side_by_side(layers, values)
    return values.reshape(*inputs.shape[:-1], values.shape[-1])


def _layers_side_by_side(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    """Applies layer k to ``inputs[k]``: [K, N, O] from [K, N, I]."""
    layer = layers[0]
    stacked = {name: torch.stack([one.get_parameter(name) for one in layers]) for name, _ in layer.named_parameters()}
    if isinstance(layer, nn.Linear):  # vmap computes the same but takes 1.5 times as long
        return torch.baddbmm(stacked["bias"].unsqueeze(1), inputs, stacked["weight"].mT)
    if isinstance(layer, nn.LayerNorm):  # vmap would tie an exported program to the number of rows
        normed = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        return torch.addcmul(stacked["bias"].unsqueeze(1), normed, stacked["weight"].unsqueeze(1))
    outputs: Tensor = vmap(partial(functional_call, layer))(stacked, inputs) if stacked else layer(inputs)
    return outputs


class ChannelNorm(nn.Module):
    """A norm over the channels at each position; channels-last memory needs no copy to move the axes."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, planes: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        normed: Tensor = self.norm(planes.movedim(1, -1))
        return normed.movedim(-1, 1)


class BlockLinear(nn.Module):
    """A linear layer with a block-diagonal kernel: output block k depends on input block k alone (Dreamer v3).

    The initial kernel follows the published one: its fan-in counts all blocks together, not one block.
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
        """[N, inputs] to [N, blocks, outputs / blocks]: a transposed view of one batched matrix product."""
        grouped = inputs.unflatten(-1, (self.blocks, -1)).transpose(0, 1)  # [blocks, N, inputs / blocks]
        if self.bias is None:
            return torch.bmm(grouped, self.weight).transpose(0, 1)
        return torch.baddbmm(self.bias, grouped, self.weight).transpose(0, 1)


def initialize_convolutions(module: nn.Module, initialize: Initializer = nn.init.xavier_uniform_) -> None:
    """Initialises every (transposed) convolution in ``module``, by default Glorot uniform; biases become zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            initialize(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def images_to_planes(image: Tensor) -> Tensor:
    """``uint8`` images [..., H, W, C] as floats in [-0.5, 0.5], shaped [-1, C, H, W] in channels-last memory.

    The channel axis moves in a view only; the memory order stays that of the store.
    """
    flat = image.reshape(-1, *image.shape[-3:])
    assert flat.dtype == torch.uint8, f"images are uint8, got {flat.dtype}"  # ``to`` then copies: in-place is safe
    return flat.to(torch.get_default_dtype()).div_(255).sub_(0.5).permute(0, 3, 1, 2)
