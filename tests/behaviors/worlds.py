"""Worlds in closed form, in place of a world model, and learners of every generation to put into them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.behaviors.actor_critic.actors import ActorFactory, OneHotActor, TruncatedNormalActor
from dreamset.core.records import ImaginedTrajectory, LatentState
from dreamset.core.spec import ActionSpec
from dreamset.models.recurrent.rssm import Policy

ONE = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))
CHOICE = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)


@dataclass(frozen=True)
class GivenTrajectory:
    """A world that always unrolls the same features [H + 1, N, F], whose last one is the probability of going on."""

    features: Tensor

    def imagine(
        self,
        start: LatentState,  # noqa: ARG002
        policy: Policy,
        *,
        horizon: int,
        generator: torch.Generator,  # noqa: ARG002
    ) -> ImaginedTrajectory:
        assert len(self.features) == horizon + 1
        actions = [policy(self.features[row]) for row in range(horizon)]
        return ImaginedTrajectory(self.features, torch.stack(actions))

    def continuation(self, features: Tensor) -> Tensor:
        return features[..., -1]


class DelayLine:
    """Features (x, y) of A numbers each: x' = action, y' = x. Rewards look at y, so an action pays two steps later."""

    def imagine(
        self,
        start: LatentState,
        policy: Policy,
        *,
        horizon: int,
        generator: torch.Generator,  # noqa: ARG002
    ) -> ImaginedTrajectory:
        features, actions = [start.features], []
        for _ in range(horizon):
            actions.append(policy(features[-1]))
            features.append(torch.cat([actions[-1], features[-1][:, : actions[-1].shape[1]]], dim=-1))
        return ImaginedTrajectory(torch.stack(features), torch.stack(actions))

    def continuation(self, features: Tensor) -> Tensor:
        return torch.ones_like(features[..., 0])


def nowhere(count: int) -> LatentState:
    return LatentState(torch.zeros(count, 1), torch.zeros(count, 1))


def truncated_normal_actor() -> ActorFactory:
    return lambda features, action: TruncatedNormalActor(features, action, hidden=16, layers=1, min_std=0.1)


def one_hot_actor(*, unimix: float = 0.0) -> ActorFactory:
    return lambda features, action: OneHotActor(features, action, hidden=16, layers=1, unimix=unimix)
