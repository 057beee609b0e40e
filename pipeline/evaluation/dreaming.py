"""Dreams: what a world model predicts after its last observation, under recorded actions or under a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.base import Acting
from dreamset.behaviors.controller import Agent
from dreamset.core.capabilities import Dynamics, FeaturePolicy, acting_spec
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import GOAL_PREFIX, DataSpec
from dreamset.core.states import map_state
from dreamset.environments.rollouts import EpisodeRecorder
from dreamset.environments.wrappers import Environment
from dreamset.models.imagination import imagine
from dreamset.models.probes import recorded_trajectory

Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Reality:
    """Rows that happened, aligned by the time rule."""

    observations: Mapping[str, NDArray[Any]]  # name -> [R, ...]
    action: Rows  # [R, A] in the environment's units, led to the observation of its row; row 0 is zero
    reward: Rows  # [R] on arrival

    @classmethod
    def of(cls, recorder: EpisodeRecorder, spec: DataSpec) -> "Reality":
        """The rows of an episode that is being played, with all that is known of its goal if the model has goals."""
        goals = [name for name in recorder.observations[0] if name.startswith(GOAL_PREFIX)]
        has_goals = any(name in spec.observations for name in goals)
        known = [name for name in spec.observations if name in recorder.observations[0]]
        names = dict.fromkeys([*known, *(goals if has_goals else [])])
        return cls(
            {name: np.stack([row[name] for row in recorder.observations]) for name in names},
            np.stack([np.zeros(spec.action.size, np.float32), *recorder.actions]),
            np.asarray([0.0, *recorder.rewards], np.float32),
        )

    def first(self, rows: int) -> "Reality":
        """The first rows."""
        return Reality(
            {name: values[:rows] for name, values in self.observations.items()}, self.action[:rows], self.reward[:rows]
        )

    def with_goal(self, later: "Reality") -> "Reality":
        """These rows with the last row of ``later`` as their goal."""
        count = len(self.reward)
        goal = {GOAL_PREFIX + name: np.stack([rows[-1]] * count) for name, rows in later.observations.items()}
        return Reality({**self.observations, **goal}, self.action, self.reward)

    def batch(self, spec: DataSpec, device: torch.device) -> SequenceBatch:
        """All rows as one window, [1, R, ...], with the observations that a model reads."""
        first = torch.arange(len(self.reward), device=device)[None] == 0
        never = torch.zeros_like(first)
        return SequenceBatch(
            observations={name: _tensor(self.observations[name], device)[None] for name in spec.observations},
            action=_tensor(self.action, device)[None],
            reward=_tensor(self.reward, device)[None],
            is_first=first,
            is_last=never,
            is_terminal=never,
            privileged={},
            row=torch.arange(len(self.reward), device=device)[None],
        )


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    kept = values if values.dtype == np.uint8 else values.astype(np.float32)
    return torch.as_tensor(np.array(kept), device=device)


def recorded_actions(model: Dynamics[Any], reality: Reality, *, context: int, device: torch.device) -> FeaturePolicy:
    """A policy that takes the actions after the context; see ``given_actions``."""
    return given_actions(model.spec.action.normalize(_tensor(reality.action[context:], device)))


def given_actions(action: Tensor) -> FeaturePolicy:
    """A policy that takes these actions [H, A] one after the other, whatever the state: the same in every dream."""
    rows = iter(action)
    return lambda features: next(rows).expand(len(features), -1)


@torch.no_grad()
def dream_on(
    model: Dynamics[Any],
    observed: SequenceBatch,
    policy: FeaturePolicy,
    *,
    horizon: int,
    samples: int,
    generator: torch.Generator,
) -> ImaginedTrajectory[Any]:
    """Observes a window [1, context, ...], then imagines ``horizon`` rows: [context + horizon, samples, ...].

    Every sample draws its own states, those of the observed rows included.
    """
    seen = _observed(model, observed, samples, generator)
    return _continued(seen, imagine(model, seen.rows[-1], policy, horizon=horizon, generator=generator))


@torch.no_grad()
def dream_of_acting(
    model: Dynamics[Any],
    observed: SequenceBatch,
    acting: Acting,
    *,
    horizon: int,
    samples: int,
    generator: torch.Generator,
) -> ImaginedTrajectory[Any]:
    """As ``dream_on``: the first sample acts as ``acting`` does, and the others take its actions.

    Raises:
        UserError: if it can act only in an environment.
    """
    seen = _observed(model, observed, samples, generator)
    first, others = (map_state(lambda value, part=part: value[part], seen.rows[-1]) for part in (_FIRST, _OTHERS))
    ahead = acting.imagine(model, first, horizon=horizon, generator=generator)
    if ahead is None:
        raise UserError(
            f"{type(acting).__name__} needs more than the model's features, so it cannot act in a dream; leave out the "
            "policy to dream of recorded episodes"
        )
    if samples == 1:
        return _continued(seen, ahead)
    follow = given_actions(ahead.action[:, 0])
    rest = imagine(model, others, follow, horizon=horizon, generator=generator)
    both = ImaginedTrajectory(
        [map_state(lambda *parts: torch.cat(parts), *pair) for pair in zip(ahead.rows, rest.rows, strict=True)],
        torch.cat([ahead.features, rest.features], dim=1),
        torch.cat([ahead.action, rest.action], dim=1),
    )
    return _continued(seen, both)


_FIRST, _OTHERS = slice(None, 1), slice(1, None)


def _observed(
    model: Dynamics[Any], observed: SequenceBatch, samples: int, generator: torch.Generator
) -> ImaginedTrajectory[Any]:
    several = observed.map(lambda value: value.expand(samples, *value.shape[1:]))
    return recorded_trajectory(model, model.observe(several, generator), several)


def _continued(seen: ImaginedTrajectory[Any], ahead: ImaginedTrajectory[Any]) -> ImaginedTrajectory[Any]:
    """Both, one after the other; ``ahead`` begins at the last row of ``seen``."""
    return ImaginedTrajectory(
        [*seen.rows, *ahead.rows[1:]],
        torch.cat([seen.features, ahead.features[1:]]),
        torch.cat([seen.action, ahead.action]),
    )


def act_and_dream(
    model: Dynamics[Any],
    acting: Acting,
    environment: Environment,
    *,
    seed: int,
    context: int,
    horizon: int,
    samples: int,
    generator: torch.Generator,
) -> tuple[Reality, ImaginedTrajectory[Any]]:
    """The policy acts during the context; then the model imagines it, and its actions are really taken.

    Reality ends with the episode, the dream does not.

    Raises:
        UserError: if the episode ends within the context, or the policy can act only in an environment.
    """
    device = generator.device
    spec = acting_spec(model)
    agent, play = Agent(acting.controller(model), generator=generator), EpisodeRecorder(environment, seed)
    while (rows := len(play.observations)) < context:
        if play.done:
            raise UserError(
                f"{environment}: the episode with seed {seed} ends after {rows} rows; choose --context {rows} or less"
            )
        seen = {name: _tensor(play.observations[-1][name][None], device) for name in spec.observations}
        first = torch.tensor([rows == 1], device=device)
        play.step(agent.act(seen, first)[0].cpu().numpy())
    observed = Reality.of(play, spec).batch(spec, device)
    dream = dream_of_acting(model, observed, acting, horizon=horizon, samples=samples, generator=generator)
    for action in model.spec.action.denormalize(dream.action[context - 1 :, 0]).cpu().numpy():
        if play.done:
            break
        play.step(action)
    return Reality.of(play, model.spec), dream  # with what the model does not read, too
