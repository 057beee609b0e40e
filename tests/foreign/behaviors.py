"""A way of acting that is no actor, and a reward with a network of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamset.behaviors.base import Experience, Learner, LearnerLosses, RewardFunction
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.core.capabilities import Controller, Representation
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec, DataSpec


@dataclass(frozen=True)
class Position:
    """How many actions of the queue were taken, [N]."""

    taken: Tensor


class QueueController(nn.Module):
    """Takes planned actions one after the other, and begins anew with every episode."""

    noise_distribution = "none"

    def __init__(self, spec: DataSpec, queue: Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("queue", queue)

    def initial(self, count: int) -> Position:
        return Position(torch.zeros(count, dtype=torch.long))

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(count, 0)

    def step(
        self,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        memory: Position,
        noise: Tensor,
    ) -> tuple[Tensor, Position]:
        taken = memory.taken.masked_fill(is_first, 0)
        return self.spec.action.denormalize(self.queue[taken % len(self.queue)]), Position(taken + 1)

    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: Position, generator: torch.Generator
    ) -> tuple[Tensor, Position]:
        return self.step(observations, is_first, memory, self.noise(len(is_first), generator))


class PlannedActions(Learner):
    """Knows what to do before it has seen anything: nothing to learn, and no actor."""

    needs: ClassVar[tuple[type, ...]] = (Representation,)
    headline = "none"

    def __init__(self, features: int, action: ActionSpec, *, length: int = 5) -> None:
        super().__init__()
        plan = torch.linspace(-1, 1, length)[:, None].expand(length, action.size)
        self.register_buffer("queue", plan.clone())

    def networks(self) -> Mapping[str, nn.Module]:
        return {}

    def losses_on(
        self,
        experience: Experience[Any],
        model: Any,
        reward: RewardFunction,
        generator: torch.Generator,
    ) -> LearnerLosses:
        return LearnerLosses({}, {})

    def controller(self, model: Any, *, exploration: Exploration = mode) -> Controller[Any]:
        return QueueController(model.spec, self.queue)


class SuccessReward(RewardFunction):
    """sigmoid(f(features)): a classifier of rows with a high recorded reward, trained beside the policy."""

    def __init__(self, *, features: int, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.classifier = nn.Linear(features, 1)

    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:
        return {"success": torch.sigmoid(self.classifier(trajectory.features)[..., 0])}

    def networks(self) -> Mapping[str, nn.Module]:
        return {"classifier": self.classifier}

    def losses_on(
        self,
        experience: Experience[Any],
        model: Any,
        generator: torch.Generator,
    ) -> LearnerLosses:
        assert experience.outcomes is not None
        target = (experience.outcomes.reward > self.threshold).float()
        logits = self.classifier(experience.features)[..., 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        return LearnerLosses({"classifier": loss}, {"reward/success_rate": target.mean()})
