"""The state of TD-MPC, and what one update computes from a batch before its losses."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LatentState:
    """A latent vector and nothing else: the model has no memory."""

    latent: Tensor  # [..., Z]


@dataclass(frozen=True)
class Draws:
    """All random numbers of one update, so that losses are functions of their arguments."""

    target_action: Tensor  # [B, T, A] standard normal, for the policy's actions in the value target
    policy_action: Tensor  # [B, T, A] standard normal, for the policy's own loss
    target_members: Tensor  # [2] the members whose values the target takes
    policy_members: Tensor  # [2] the members that the policy maximises
    critic_dropout: Tensor  # see ``QEnsemble.noise``, for the rows 1 to T - 1
    policy_dropout: Tensor  # for all rows


@dataclass(frozen=True)
class Window:
    """The details of a ``Rollout``: each window predicted from its first row alone."""

    latents: Tensor  # [B, T, Z]: z_0 = h(o_0), then z_t = d(z_{t-1}, a_t)
    action: Tensor  # [B, T, A] in [-1, 1]
    known: Tensor  # [B, T]: 1 in the rows of row 0's episode, and 0 from the start of the next episode on
    draws: Draws
