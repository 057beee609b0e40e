"""What keeps a critic that learns from its own predictions from running away: a slow copy of it."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dreamset.models.distributions import Distribution

Critic = Callable[[Tensor], Distribution]  # features [..., F] -> a distribution over returns [...]


class SlowCritic(nn.Module):
    """How a slow copy enters the targets, the baseline and the critic's loss; unless overridden, not at all.

    The critic itself is handed in and never kept: it is trained and saved by its owner.
    """

    def target(self, critic: Critic) -> Critic:
        """The network whose values stand in the returns."""
        return critic

    def baseline(self, prediction: Distribution, features: Tensor) -> Tensor:  # noqa: ARG002
        """v(s_t) [H, N] that REINFORCE subtracts, without gradient; ``prediction`` is the critic's at ``features``."""
        return prediction.mean.detach()

    def log_likelihood(self, prediction: Distribution, returns: Tensor, features: Tensor) -> Tensor:  # noqa: ARG002
        """What the critic maximises in every state, imagined or recorded: [...]."""
        return prediction.log_prob(returns)

    def update(self, critic: Critic) -> None:
        """Called after every update of the critic."""


class NoSlowCritic(SlowCritic):
    """The critic teaches itself (Dreamer v1)."""

    def __init__(self, critic: Critic) -> None:  # noqa: ARG002 - made like the others, but there is nothing to copy
        super().__init__()


class HardUpdate(SlowCritic):
    """Targets and baseline come from a copy that is renewed every ``every`` updates (Dreamer v2, "Critic loss")."""

    updates: Tensor

    def __init__(self, critic: Critic, *, every: int = 100) -> None:
        super().__init__()
        self.copy = frozen_copy(critic)
        self.every = every
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def target(self, critic: Critic) -> Critic:  # noqa: ARG002
        """The copy."""
        return self.copy

    def baseline(self, prediction: Distribution, features: Tensor) -> Tensor:  # noqa: ARG002
        """The copy's expectation."""
        mean: Tensor = self.copy(features).mean
        return mean.detach()

    def update(self, critic: Critic) -> None:
        """Renews the copy after updates ``every``, 2 * ``every``, ..."""
        self.updates += 1
        if int(self.updates) % self.every == 0:
            assert isinstance(critic, nn.Module)
            self.copy.load_state_dict(critic.state_dict())


class EMACritic(SlowCritic):
    """The critic teaches itself, but is held near a moving average of its weights (Dreamer v3, "Critic learning").

    Besides ln p(R) it maximises ``regularise`` ln p(v_slow), v_slow the average's expectation in the same state.
    """

    def __init__(self, critic: Critic, *, decay: float = 0.98, regularise: float = 1.0) -> None:
        super().__init__()
        self.copy = frozen_copy(critic)
        self.decay = decay
        self.regularise = regularise

    def log_likelihood(self, prediction: Distribution, returns: Tensor, features: Tensor) -> Tensor:
        """ln p(returns) + regularise ln p(v_slow)."""
        slow: Tensor = self.copy(features).mean
        return prediction.log_prob(returns) + self.regularise * prediction.log_prob(slow.detach())

    @torch.no_grad()
    def update(self, critic: Critic) -> None:
        """copy <- decay copy + (1 - decay) critic."""
        assert isinstance(critic, nn.Module)
        for slow, fast in zip(self.copy.parameters(), critic.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.decay)


def frozen_copy(critic: Critic) -> nn.Module:
    """The same network with weights of its own that no optimiser changes."""
    assert isinstance(critic, nn.Module)
    return deepcopy(critic).requires_grad_(False)
