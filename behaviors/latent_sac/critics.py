"""Ensembles of Q networks on features, evaluated at several actions of every state."""

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.models.heads import SquaredErrorOutput
from dreamset.models.layers import RELU, Style, mlp, side_by_side, zero_last
from dreamset.models.told.critics import QEnsemble

CriticsFactory = Callable[[int, ActionSpec], nn.Module]


def critics_for(
    features: int, action: ActionSpec, *, members: int = 2, hidden: int, layers: int, style: Style = RELU
) -> nn.Module:
    """K critics for the dataset's kind of actions; every first value is zero.

    They map features [..., F] and actions [..., C, A] to values [K, ..., C].

    Args:
        features: F.
        action: the dataset's actions.
        members: K; targets take the minimum over them.
        hidden: units of a hidden layer.
        layers: hidden layers, at least one.
        style: of the hidden layers.

    Raises:
        UserError: without a hidden layer.
    """
    if layers < 1:
        raise UserError(f"behavior.critic.layers is {layers}; allowed: 1 or more; set it")
    kind = ChoiceCritics if action.discrete else ActionCritics
    return kind(features, action.size, members=members, hidden=hidden, layers=layers, style=style)


class ActionCritics(nn.Module):
    """Q_k(f, a) of continuous actions, which are inputs beside the features."""

    def __init__(self, features: int, action: int, *, members: int, hidden: int, layers: int, style: Style) -> None:
        super().__init__()
        self.ensemble = QEnsemble(
            features, action, members=members, hidden=hidden, layers=layers, output=SquaredErrorOutput(), style=style
        )

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[K, ..., C] from features [..., F] and actions [..., C, A]."""
        repeated = features[..., None, :].expand(*action.shape[:-1], features.shape[-1])
        values: Tensor = self.ensemble(repeated, action).mean
        return values


class ChoiceCritics(nn.Module):
    """Q_k(f, a) of discrete actions: a network has one output for each action."""

    def __init__(self, features: int, action: int, *, members: int, hidden: int, layers: int, style: Style) -> None:
        super().__init__()
        networks = [mlp(features, action, hidden=hidden, layers=layers, style=style) for _ in range(members)]
        for network in networks:
            zero_last(network)
        self.networks = nn.ModuleList(networks)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[K, ..., C] from features [..., F] and one-hot actions [..., C, A]."""
        networks = cast("Sequence[nn.Sequential]", self.networks)  # the type of a ModuleList's items is only nn.Module
        values = side_by_side(networks, features)  # [K, ..., A]
        return (values[..., None, :] * action).sum(-1)
