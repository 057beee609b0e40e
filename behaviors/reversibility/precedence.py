"""Estimators of irreversibility: of two states, and of an action in a state."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.behaviors.reversibility.pairs import Pairs
from dreamset.behaviors.windows import mean_of_known
from dreamset.models.layers import ELU, Style, mlp


class Precedence(nn.Module):
    """psi(a, b): the probability that, of two states of one episode, a comes before b under the behaviour policy.

    psi(a, b) = sigmoid(g(a, b) - g(b, a)), where g reads the embeddings of both states, computed by one encoder. So
    psi(a, b) + psi(b, a) = 1 and psi(a, a) = 1/2 hold exactly. The published network learns this from shuffled pairs;
    its linear layer g only ranks states, and no ranking describes a loop that is passed in one direction.

    Args:
        features: F.
        hidden: units of all layers, and size of an embedding.
        layers: hidden layers of the encoder; g has one.
        style: of all layers.
    """

    def __init__(self, features: int, *, hidden: int, layers: int, style: Style = ELU) -> None:
        super().__init__()
        self.encoder = mlp(features, hidden, hidden=hidden, layers=layers, style=style)
        self.head = mlp(2 * hidden, 1, hidden=hidden, layers=1, style=style)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The logit of psi(first, second): [...] from features [..., F]."""
        one, other = self.encoder(first), self.encoder(second)
        difference = self.head(torch.cat([one, other], dim=-1)) - self.head(torch.cat([other, one], dim=-1))
        logit: Tensor = difference.squeeze(-1)
        return logit

    def irreversibility(self, before: Tensor, after: Tensor) -> Tensor:
        """psi(before, after), [...]: near 1 if recorded episodes never come back, 1/2 if they do as often as not."""
        return torch.sigmoid(self(before, after))

    def reversibility(self, before: Tensor, after: Tensor) -> Tensor:
        """psi(after, before), [...]: the empirical reversibility, at least half the probability of coming back."""
        return torch.sigmoid(self(after, before))

    def loss(self, pairs: Pairs) -> Tensor:
        """-mean ln psi(earlier, later): by antisymmetry, the cross-entropy of pairs in either order."""
        return mean_of_known(F.softplus(-self(pairs.earlier, pairs.later)), pairs.known)


class ActionIrreversibility(nn.Module):
    """phi(s, a): the expected irreversibility psi(s, s') of the transition from s by the action a.

    Args:
        features: F.
        actions: A, the size of an action in [-1, 1], or the number of discrete actions.
        hidden: units of a hidden layer.
        layers: number of hidden layers.
        style: of all layers.
    """

    def __init__(self, features: int, actions: int, *, hidden: int, layers: int, style: Style = ELU) -> None:
        super().__init__()
        self.layers = mlp(features + actions, 1, hidden=hidden, layers=layers, style=style)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """The logit of phi: [...] from features [..., F] and actions [..., A]."""
        logit: Tensor = self.layers(torch.cat([features, action], dim=-1)).squeeze(-1)
        return logit

    def irreversibility(self, features: Tensor, action: Tensor) -> Tensor:
        """phi(s, a) from 0 to 1, [...]."""
        return torch.sigmoid(self(features, action))

    def loss(self, features: Tensor, action: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """The mean cross-entropy of phi(s, a) and the irreversibility that was estimated for the transition.

        Args:
            features: [..., F] of the states in which the actions were taken.
            action: [..., A].
            target: [...] psi(s, s'), without a gradient.
            known: [...] bool: whether the transition was recorded.
        """
        logit = self(features, action)
        return mean_of_known(F.binary_cross_entropy_with_logits(logit, target, reduction="none"), known)
