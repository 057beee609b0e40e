"""Acting by planning: the behaviour ``planning``, which learns nothing, and planning with a learned behaviour."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from dreamset.behaviors.base import Experience, Learner, LearnerLosses, RewardFunction
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.behaviors.planning.controller import PlanningController
from dreamset.behaviors.planning.optimizers import PlanOptimizer
from dreamset.behaviors.planning.scores import ReturnScore, TerminalValue
from dreamset.core.capabilities import Dynamics, Proposing, S, Valued
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.spec import ActionSpec


@dataclass(frozen=True, slots=True)
class Planning:
    """How to plan.

    Args:
        optimizer: searches.
        reward: terms of the reward that plans maximise.
        discount: per step, 0 to 1.
        terminal_value: values the last state by a critic, the behaviour's or else the model's; None: no critic.
        proposals: number of plans of a policy, the behaviour's or else the model's, that take part in the search.
        warm_start: whether a search begins at the rest of the previous plan; PlaNet's begins anew.
        last_only: whether only the last state of a plan counts, as in DINO-WM, and not the way to it.
    """

    optimizer: PlanOptimizer
    reward: RewardFunction
    discount: float = 1.0
    terminal_value: TerminalValue | None = None
    proposals: int = 0
    warm_start: bool = True
    last_only: bool = False

    @property
    def needs(self) -> tuple[type, ...]:
        """Capabilities that the world model must have."""
        return (Dynamics, *self.reward.needs)

    def with_reward(self, reward: RewardFunction) -> "Planning":
        """The same planning for another reward."""
        return replace(self, reward=reward)

    def of(self, behavior: Learner) -> "Planned":
        """How ``behavior`` acts by planning."""
        return Planned(self, behavior)

    def controller(self, model: Any, behavior: Any, *, exploration: Exploration = mode) -> PlanningController[Any]:
        """Plans in ``model``, with the critic and the policy of ``behavior``, or of the model if it has none.

        Raises:
            UserError: if neither has the critic or the policy that planning needs, or actions cannot be searched.
        """
        critic = None if self.terminal_value is None else _one_of(Valued, "terminal_value", "null", behavior, model)
        policy = None if not self.proposals else _one_of(Proposing, "proposals", "0", behavior, model)
        score = ReturnScore(
            self.reward.eval(),  # acting must not tune a penalty
            discount=self.discount,
            critic=critic,
            terminal_value=self.terminal_value,
            last_only=self.last_only,
        )
        return PlanningController(
            model,
            self.optimizer,
            score,
            policy=policy,
            proposals=self.proposals,
            exploration=exploration,
            warm_start=self.warm_start,
        )


NEEDED = {"terminal_value": "a critic", "proposals": "a policy"}  # key of ``Planning`` -> what it takes


def _one_of(capability: Any, key: str, off: str, *candidates: object) -> Any:
    """The first candidate with the capability."""
    for candidate in candidates:
        if isinstance(candidate, capability):
            return candidate
    names = " and ".join(type(candidate).__name__ for candidate in candidates)
    raise UserError(
        f"acting.{key} needs {NEEDED[key]}, but {names} have none; set acting.{key}={off}, or choose a behaviour that "
        "learns one"
    )


class ActsByPlanning(ABC):
    """Acts by searching a plan in every row; see ``behaviors.base.Acting``."""

    planning: Planning

    @property
    @abstractmethod
    def learned(self) -> object:
        """Whose critic and policy take part, if it has them."""

    @property
    def acting_needs(self) -> tuple[type, ...]:
        """Those of planning."""
        return self.planning.needs

    def controller(self, model: Dynamics[S], *, exploration: Exploration = mode) -> PlanningController[S]:
        """See ``Planning.controller``."""
        return self.planning.controller(model, self.learned, exploration=exploration)

    def imagine(
        self,
        model: Dynamics[S],
        start: S,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,
    ) -> ImaginedTrajectory[S]:
        """Imagines that it plans in every row."""
        return self.controller(model).imagine(start, horizon=horizon, generator=generator, on_step=on_step)


class Planned(ActsByPlanning):
    """Acts by planning, with the critic and the actor of a learned behaviour."""

    def __init__(self, planning: Planning, behavior: Learner) -> None:
        self.planning = planning
        self.behavior = behavior

    @property
    def learned(self) -> Learner:
        """The behaviour."""
        return self.behavior


class Planner(ActsByPlanning, Learner):
    """Plans in every row and learns nothing (PlaNet; TD-MPC, if the model has critic and policy).

    Args:
        features: F.
        action: must suit the optimiser.
        planning: how to plan.
    """

    needs: ClassVar[tuple[type, ...]] = (Dynamics,)
    headline: ClassVar[str] = "imagination/reward"

    def __init__(self, features: int, action: ActionSpec, *, planning: Planning) -> None:
        super().__init__()
        planning.optimizer.require(action)
        planning.reward.set_up(features, action)
        self.planning = planning
        self.reward = planning.reward  # registered: it moves to a device and is saved with the planner

    @property
    def acting_reward(self) -> RewardFunction:
        """The reward of the plans."""
        return self.planning.reward

    @property
    def learned(self) -> "Planner":
        """Itself, which has neither: they are the model's, if at all."""
        return self

    def networks(self) -> Mapping[str, nn.Module]:
        """None."""
        return {}

    def needed(self, reward: RewardFunction) -> tuple[type, ...]:
        """``Dynamics`` and the capabilities that the reward needs."""
        return (*self.needs, *reward.needs)

    def losses_on(
        self,
        experience: Experience[Any],  # noqa: ARG002
        model: object,  # noqa: ARG002
        reward: RewardFunction,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """None."""
        return LearnerLosses({}, {})
