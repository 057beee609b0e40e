"""Slow critics: copies of the critic that stabilise learning from its own bootstrap targets."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dreamset.models.distributions import Distribution

Critic = Callable[[Tensor], Distribution]  # features [..., F] -> a distribution over returns [...]


class SlowCritic(nn.Module):
    """Uses a slow copy of the critic for targets, baseline or loss; this base class uses none.

    Methods get the critic as an argument and do not keep it; the learner trains and saves it.
    """

    def target(self, critic: Critic) -> Critic:
        """The network whose values are the bootstrap targets."""
        return critic

    def baseline(self, prediction: Distribution, features: Tensor) -> Tensor:  # noqa: ARG002
        """REINFORCE's baseline v(s_t), [H, N], without gradient; ``prediction`` is the critic's at ``features``."""
        return prediction.mean.detach()

    def log_likelihood(self, prediction: Distribution, returns: Tensor, features: Tensor) -> Tensor:  # noqa: ARG002
        """The critic's objective in every state, imagined or recorded, to be maximised: [...]."""
        return prediction.log_prob(returns)

    def update(self, critic: Critic) -> None:
        """Called after every update of the critic."""


class NoSlowCritic(SlowCritic):
    """The critic's bootstrap targets are its own values (Dreamer v1)."""

    def __init__(self, critic: Critic) -> None:  # noqa: ARG002 - the other slow critics copy it
        super().__init__()


class HardUpdate(SlowCritic):
    """Targets and baseline come from a copy that is replaced every ``every`` updates (Dreamer v2, "Critic loss")."""

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
        """The copy's mean."""
        mean: Tensor = self.copy(features).mean
        return mean.detach()

    def update(self, critic: Critic) -> None:
        """Replaces the copy after updates ``every``, 2 * ``every``, ..."""
        self.updates += 1
        if int(self.updates) % self.every == 0:
            assert isinstance(critic, nn.Module)
            self.copy.load_state_dict(critic.state_dict())


class EMACritic(SlowCritic):
    """Regularises the critic towards a moving average of its weights (Dreamer v3, "Critic learning").

    Its bootstrap targets are its own values. Besides ln p(R) it maximises ``regularise`` ln p(v_slow), where v_slow
    is the moving average's mean in the same state.
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
    """A copy of the network whose weights no optimiser changes."""
    assert isinstance(critic, nn.Module)
    return deepcopy(critic).requires_grad_(False)
