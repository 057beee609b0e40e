"""A world model with a goal beside its state, so that every learner and every planner can act towards goals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic

import torch
from torch import Tensor, nn

from dreamset.core.capabilities import (
    ActionFree,
    Dynamics,
    FeatureParts,
    MemberPredictions,
    Prunable,
    Representation,
    RewardModel,
    S,
    Uncertain,
)
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.spec import GOAL_PREFIX, DataSpec


@dataclass(frozen=True)
class GoalState(Generic[S]):
    """The world model's state, and the goal of the episode."""

    state: S  # [..., ...]
    goal: Tensor  # [..., F] the features of the goal


class GoalConditioned(nn.Module, Generic[S]):
    """The state of a world model beside a goal: its features are those of the state and those of the goal, [..., 2F].

    The goal is what would be observed there: the observations ``goal.NAME`` for every observation ``NAME`` that the
    world model reads. It is encoded as the beginning of an episode, with the mode of the model's random choices, and
    stays the same until the next episode begins. Build one with ``goal_conditioned``, which adds the capabilities of
    the world model. ``Valued`` and ``Proposing`` are left out: the model's own critic and policy know nothing of goals.

    Args:
        model: the world model.
        rows: for how many rows the goal is observed, without acting, before its features are taken. A model with a
            memory, such as an RSSM, then knows that nothing moves at the goal.

    Raises:
        UserError: if ``rows`` is not positive, or the model observes goals already.
    """

    def __init__(self, model: Representation[S], *, rows: int = 1) -> None:
        super().__init__()
        if rows < 1:
            raise UserError(f"goals.rows is {rows}; allowed: 1 or more; change it")
        self.model = model
        self.rows = rows
        self.observed: Sequence[str] = list(getattr(model, "reads", model.spec.observations))  # some read only a part
        self.reads = [*self.observed, *(GOAL_PREFIX + name for name in self.observed)]
        self.spec = with_goals(model.spec, self.observed)
        self.own_size = model.feature_size
        self.feature_size = 2 * model.feature_size
        self.embedding_size = model.embedding_size
        self.noise_distribution = model.noise_distribution
        device = model.features(model.initial(1)).device
        self.noise_size = model.noise((), torch.Generator(device)).shape[-1]

    def initial(self, count: int) -> GoalState[S]:
        """The model's initial state, without a goal."""
        state = self.model.initial(count)
        return GoalState(state, torch.zeros_like(self.model.features(state)))

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """That of the model; the goal needs none."""
        return self.model.noise(shape, generator)

    def features(self, state: GoalState[S]) -> Tensor:
        """[..., 2F]."""
        return torch.cat([self.model.features(state.state), state.goal], dim=-1)

    def halves(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the state and those of the goal, [..., F] each; the inverse of ``features``."""
        state, goal = features.split(self.own_size, dim=-1)
        return state, goal

    def observe(
        self, batch: SequenceBatch, generator: torch.Generator, start: GoalState[S] | None = None
    ) -> Rollout[GoalState[S]]:
        """The model's states of recorded sequences, each with the goal of its sequence.

        The goal is that of the batch or, if it has none, the observations ``goal.NAME`` of its first rows, or else that
        of ``start``.

        Raises:
            UserError: if there is no goal.
        """
        goal = self._goal_of(batch, start)
        rollout = self.model.observe(batch, generator, None if start is None else start.state)
        goals = goal[:, None].expand(-1, rollout.features.shape[1], -1)
        features = torch.cat([rollout.features, goals], dim=-1)
        return Rollout(GoalState(rollout.states, goals), features, rollout.embedding, rollout.details)

    def _goal_of(self, batch: SequenceBatch, start: GoalState[S] | None) -> Tensor:
        """[B, F]."""
        if batch.goal is not None:
            return self.encoded(batch.goal)
        if all(GOAL_PREFIX + name in batch.observations for name in self.observed):
            return self.encoded(goals_of({name: rows[:, 0] for name, rows in batch.observations.items()}))
        if start is not None:
            return start.goal
        raise UserError(
            "the batch has no goals, but the behaviour acts towards goals; draw them with the sampler's argument goals"
        )

    def filter(
        self,
        state: GoalState[S],
        action: Tensor,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        noise: Tensor,
    ) -> GoalState[S]:
        """The model's state after one more row; the goal is that of the episode's first row."""
        own = {name: observations[name] for name in self.observed}
        filtered = self.model.filter(state.state, action, own, is_first, noise)
        # a program cannot ask whether an episode begins, so it encodes the goal in every row
        if torch.compiler.is_exporting() or bool(is_first.any()):
            goal = torch.where(is_first[:, None], self.encoded(goals_of(observations)), state.goal)
            return GoalState(filtered, goal)
        return GoalState(filtered, state.goal)

    def encoded(self, goal: Mapping[str, Tensor]) -> Tensor:
        """The features of goals, [N, F], from their observations [N, ...] by name, without the prefix."""
        own = {name: goal[name] for name in self.observed}
        count = next(iter(own.values())).shape[0]  # len would make it a constant of a program
        state = self.model.initial(count)
        like = self.model.features(state)
        action = rest(self.model.spec, like).expand(count, -1)
        noise = like.new_zeros(count, self.noise_size)
        first = torch.ones(count, dtype=torch.bool, device=like.device)
        for row in range(self.rows):
            state = self.model.filter(state, action, own, first if row == 0 else ~first, noise)
        return self.model.features(state)

    def own(self, trajectory: ImaginedTrajectory[GoalState[S]]) -> ImaginedTrajectory[S]:
        """The trajectory in the states of the model, without the goal."""
        rows = [row.state for row in trajectory.rows]
        return ImaginedTrajectory(rows, self.halves(trajectory.features)[0], trajectory.action)


class _WithDynamics(GoalConditioned[S]):
    """The capability ``Dynamics``; a step does not move the goal."""

    model: Dynamics[S]

    @property
    def predicts_ends(self) -> bool:
        return self.model.predicts_ends

    def step(self, state: GoalState[S], action: Tensor, noise: Tensor) -> GoalState[S]:
        return replace(state, state=self.model.step(state.state, action, noise))

    def continuation(self, trajectory: ImaginedTrajectory[GoalState[S]]) -> Tensor:
        return self.model.continuation(self.own(trajectory))


class _WithReward(GoalConditioned[S]):
    """The capability ``RewardModel``: the dataset's reward, which knows nothing of the goal."""

    model: Any

    def reward(self, trajectory: ImaginedTrajectory[GoalState[S]]) -> Tensor:
        reward: Tensor = self.model.reward(self.own(trajectory))
        return reward


class _WithMembers(GoalConditioned[S]):
    """The capability ``Uncertain``."""

    model: Any

    def members(self, trajectory: ImaginedTrajectory[GoalState[S]]) -> MemberPredictions:
        members: MemberPredictions = self.model.members(self.own(trajectory))
        return members


class _WithParts(GoalConditioned[S]):
    """The capability ``FeatureParts``: state and goal have the same parts."""

    model: Any

    @property
    def feature_parts(self) -> Mapping[str, int]:
        parts: Mapping[str, int] = self.model.feature_parts
        return parts


class _WithoutActions(GoalConditioned[S]):
    """The capability ``ActionFree``; a goal is encoded without actions, too."""

    uses_unacted = True


class _WithPruning(GoalConditioned[S]):
    """The capability ``Prunable``."""

    model: Any

    def for_acting(self) -> nn.Module:
        return goal_conditioned(self.model.for_acting(), rows=self.rows)


CAPABILITIES: Mapping[Any, type[GoalConditioned[Any]]] = {
    Dynamics: _WithDynamics,
    RewardModel: _WithReward,
    Uncertain: _WithMembers,
    FeatureParts: _WithParts,
    Prunable: _WithPruning,
    ActionFree: _WithoutActions,
}


def goal_conditioned(model: Representation[S], *, rows: int = 1) -> GoalConditioned[S]:
    """``GoalConditioned`` with exactly those capabilities of ``CAPABILITIES`` that ``model`` has."""
    bases = tuple(part for capability, part in CAPABILITIES.items() if isinstance(model, capability))
    return _class_of(bases, type(model).__name__)(model, rows=rows)


@cache
def _class_of(bases: tuple[type[GoalConditioned[Any]], ...], model: str) -> Callable[..., GoalConditioned[Any]]:
    return type(f"{model} with goals", (*bases, GoalConditioned), {"__doc__": GoalConditioned.__doc__})


def with_goals(spec: DataSpec, names: Sequence[str]) -> DataSpec:
    """The specification with ``goal.NAME`` beside the observations ``names``.

    Raises:
        UserError: if the data have such observations already.
    """
    taken = sorted(name for name in spec.observations if name.startswith(GOAL_PREFIX))
    if taken:
        raise UserError(
            f"the world model observes {', '.join(taken)}, but a goal is given to the behaviour only; leave "
            f"{GOAL_PREFIX}* out of dataset.source.observations and train the world model again"
        )
    goals = {GOAL_PREFIX + name: spec.observations[name] for name in names}
    statistics = {GOAL_PREFIX + name: spec.statistics[name] for name in names if name in spec.statistics}
    return replace(spec, observations={**spec.observations, **goals}, statistics={**spec.statistics, **statistics})


def goals_of(observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The observations at the goal, by their names without the prefix."""
    return {
        name.removeprefix(GOAL_PREFIX): value for name, value in observations.items() if name.startswith(GOAL_PREFIX)
    }


def rest(spec: DataSpec, like: Tensor) -> Tensor:
    """The action zero, or the nearest within the bounds: [A] in the environment's units."""
    low, high = like.new_tensor(spec.action.low), like.new_tensor(spec.action.high)
    return like.new_zeros(spec.action.size).clamp(low, high)
