"""Ensembles of Q networks, reductions over their members, and slow copies of networks."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from dreamset.models.distributions import Distribution
from dreamset.models.heads import ScalarOutput, SymlogTwoHotOutput
from dreamset.models.layers import MISH_LAYER_NORM, Style, each_on_its_own, mlp, side_by_side, zero_last


class QEnsemble(nn.Module):
    """K networks from a latent state and the action taken there to a distribution over the return, evaluated at once.

    The last layers start at zero, so that every first value is exactly zero.

    Args:
        features: size of the latent state.
        action: size of the action.
        members: K.
        hidden, layers: of each network; at least one hidden layer.
        output: how the last layer is read, a two-hot distribution for TD-MPC2.
        style: of the hidden layers.
        first: style of the first hidden layer, if it differs, as in TD-MPC.
        dropout: share of the first layer's outputs that training drops (TD-MPC2: 0.01); see ``noise``.
    """

    def __init__(
        self,
        features: int,
        action: int,
        *,
        members: int,
        hidden: int,
        layers: int,
        output: ScalarOutput | None = None,
        style: Style = MISH_LAYER_NORM,
        first: Style | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if layers < 1 or not 0 <= dropout < 1:
            raise ValueError(f"a Q network has 1 hidden layer or more and drops a share below 1: {layers}, {dropout}")
        self.output = SymlogTwoHotOutput() if output is None else output
        sizes = (features + action, self.output.size)
        self.networks = nn.ModuleList(
            _network(*sizes, hidden=hidden, layers=layers, style=style, first=first or style) for _ in range(members)
        )
        self.hidden = hidden
        self.dropout = dropout

    @property
    def members(self) -> int:
        """K."""
        return len(self.networks)

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Uniform numbers for dropout in ``shape`` states: [K, *shape, hidden]; [K, *shape, 0] without dropout."""
        size = self.hidden if self.dropout else 0
        return torch.rand((self.members, *shape, size), generator=generator, device=generator.device)

    def forward(self, features: Tensor, action: Tensor, noise: Tensor | None = None) -> Distribution:
        """Each member's distribution over the return: [K, ...].

        Args:
            features: [..., Z].
            action: [..., A] taken there.
            noise: from ``noise``, for dropout; None, as in evaluation, drops nothing.
        """
        networks = cast("Sequence[nn.Sequential]", self.networks)  # the type of a ModuleList's items is only nn.Module
        inputs = torch.cat([features, action], dim=-1)
        if noise is None or not self.dropout:
            return self.output(side_by_side(networks, inputs))
        kernels, rest = zip(*((_part(network, 0, 1), _part(network, 1, None)) for network in networks), strict=True)
        kept = side_by_side(kernels, inputs) * (noise >= self.dropout) / (1 - self.dropout)  # [K, ..., hidden]
        return self.output(each_on_its_own(rest, kept))


def _network(inputs: int, outputs: int, *, hidden: int, layers: int, style: Style, first: Style) -> nn.Sequential:
    network = nn.Sequential(
        *first.trunk(inputs, hidden=hidden, layers=1),
        *mlp(hidden, outputs, hidden=hidden, layers=layers - 1, style=style),
    )
    zero_last(network)
    return network


def _part(network: nn.Sequential, start: int, stop: int | None) -> nn.Sequential:
    return nn.Sequential(*list(network)[start:stop])


def drawn_members(members: int, generator: torch.Generator, *, count: int = 2) -> Tensor:
    """The numbers of ``count`` different members, drawn at random: [count]; all members if there are fewer."""
    return torch.randperm(members, generator=generator, device=generator.device)[:count]


def minimum_of_drawn(values: Tensor, index: Tensor) -> Tensor:
    """The least value of the members in ``index`` [n], for targets that must not be too high: [...] from [K, ...]."""
    return values.index_select(0, index).amin(0)


def mean_of_drawn(values: Tensor, index: Tensor) -> Tensor:
    """The mean value of the members in ``index`` [n]: [...] from [K, ...]."""
    return values.index_select(0, index).mean(0)


class TargetCopy(nn.Module):
    """A slow copy of a network: after updates ``every``, 2 * ``every``, ... it moves by ``rate`` towards the network.

    No optimiser trains the copy, and it is always in evaluation mode. The owner keeps the network and hands it in.
    """

    updates: Tensor

    def __init__(self, network: nn.Module, *, rate: float = 0.01, every: int = 1) -> None:
        super().__init__()
        self.copy = deepcopy(network).requires_grad_(False).eval()
        self.rate = rate
        self.every = every
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(self, *inputs: Tensor) -> Any:
        """What the copy computes; a gradient reaches only ``inputs``."""
        return self.copy(*inputs)

    def train(self, mode: bool = True) -> "TargetCopy":
        """Sets the mode of this module only: the copy stays in evaluation mode."""
        self.training = mode
        return self

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """copy <- (1 - rate) copy + rate network, in every ``every``-th call; buffers are copied."""
        self.updates += 1
        if self.every > 1 and int(self.updates) % self.every:
            return
        for slow, fast in zip(self.copy.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, self.rate)
        for kept, new in zip(self.copy.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
