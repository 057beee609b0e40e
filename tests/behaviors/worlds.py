"""Closed-form replacements of a world model, and actors for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamset.behaviors.actor_critic.actors import ActorFactory, OneHotActor, TruncatedNormalActor
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec

ONE = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))
CHOICE = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)


class World:
    """The common base: no noise and, by default, no ends."""

    predicts_ends = False

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.zeros(*shape, 0)

    def continuation(self, trajectory: ImaginedTrajectory) -> Tensor:
        return torch.ones_like(trajectory.features[..., 0])


@dataclass(frozen=True)
class Row:
    """The number of steps so far, [N]."""

    number: Tensor


@dataclass
class GivenTrajectory(World):
    """A world with fixed features [H + 1, N, F]; the last feature is the continuation."""

    given: Tensor

    def features(self, state: Row) -> Tensor:
        return self.given[int(state.number[0])]

    def step(self, state: Row, action: Tensor, noise: Tensor) -> Row:  # noqa: ARG002
        return Row(state.number + 1)

    def continuation(self, trajectory: ImaginedTrajectory) -> Tensor:
        return trajectory.features[..., -1]


def nowhere(count: int) -> Row:
    return Row(torch.zeros(count, dtype=torch.long))


@dataclass(frozen=True)
class Line:
    """The content of a delay line: the newer action x and the older action y, [N, A] each."""

    x: Tensor
    y: Tensor

    @property
    def features(self) -> Tensor:
        return torch.cat([self.x, self.y], dim=-1)


class DelayLine(World):
    """Features (x, y) of A numbers each: x' = action, y' = x. Rewards depend on y, two steps after the action."""

    def features(self, state: Line) -> Tensor:
        return state.features

    def step(self, state: Line, action: Tensor, noise: Tensor) -> Line:  # noqa: ARG002
        return Line(action, state.x)


def truncated_normal_actor() -> ActorFactory:
    return lambda features, action: TruncatedNormalActor(features, action, hidden=16, layers=1, min_std=0.1)


def one_hot_actor(*, unimix: float = 0.0) -> ActorFactory:
    return lambda features, action: OneHotActor(features, action, hidden=16, layers=1, unimix=unimix)
