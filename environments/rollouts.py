"""Rollouts of a policy: one episode for recording, several environments in parallel for evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.environments.wrappers import Action, Environment, Observation, time_limit

# (observations [N, ...] by name, is_first [N]) -> actions [N, A]
BatchPolicy = Callable[[dict[str, NDArray[Any]], NDArray[np.bool_]], NDArray[np.float32]]
# (observation, info) -> action. A policy serves one episode and may have memory; info["state"] is the true state.
Policy = Callable[[Observation, Mapping[str, Any]], Action]
# (environment after reset, generator of the episode) -> policy of that episode
PolicyFactory = Callable[[Environment, np.random.Generator], Policy]


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode of N transitions; the action follows the observation of the same row."""

    seed: int
    observations: dict[str, NDArray[Any]]  # [N + 1, ...]
    infos: dict[str, NDArray[Any]]  # [N + 1, ...]; "state" is the true state
    actions: NDArray[np.float32]  # [N, A]
    rewards: NDArray[np.float64]  # [N]
    terminated: bool
    limit: int | None = None  # agent steps until the time limit, if a wrapper of the environment has one

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())


class EpisodeRecorder:
    """Collects one episode, step by step."""

    def __init__(self, environment: Environment, seed: int) -> None:
        self.environment = environment
        self.seed = seed
        observation, info = environment.reset(seed=seed)
        self.observations, self.infos = [observation], [info]
        self.actions: list[Action] = []
        self.rewards: list[float] = []
        self.terminated = self.done = False

    def step(self, action: Action) -> None:
        """Acts once."""
        observation, reward, self.terminated, truncated, info = self.environment.step(action)
        self.observations.append(observation)
        self.infos.append(info)
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.done = self.terminated or truncated

    def finish(self) -> RecordedEpisode:
        """The episode so far, which has one step or more."""
        names = self.observations[0]
        informed = {name: self._info(name) for name in self.infos[-1]}
        return RecordedEpisode(
            seed=self.seed,
            observations={name: np.stack([row[name] for row in self.observations]) for name in names},
            infos=informed,
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, np.float64),
            terminated=self.terminated,
            limit=time_limit(self.environment),
        )

    def _info(self, name: str) -> NDArray[Any]:
        """An info of all rows; infos that exist only after a step are zero in the first row."""
        rows = [info[name] for info in self.infos[1:]]
        return np.stack([self.infos[0].get(name, np.zeros_like(rows[0])), *rows])


def record_episode(
    environment: Environment, make_policy: PolicyFactory, *, generator: np.random.Generator, seed: int
) -> RecordedEpisode:
    """Records one episode with a new policy."""
    recorder = EpisodeRecorder(environment, seed)
    policy = make_policy(environment, generator)
    while not recorder.done:
        recorder.step(policy(recorder.observations[-1], recorder.infos[-1]))
    return recorder.finish()


def run_side_by_side(
    make: Callable[[], Environment],
    policy: BatchPolicy,
    *,
    seeds: Sequence[int],
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """One episode per seed, in lockstep, so that the policy acts for all of them in one batch."""
    environments: list[Environment] = []
    try:
        environments += (make() for _ in seeds)
        recorders = [EpisodeRecorder(env, seed) for env, seed in zip(environments, seeds, strict=True)]
        first = np.ones(len(seeds), bool)
        while not all(recorder.done for recorder in recorders):
            rows = [recorder.observations[-1] for recorder in recorders]
            actions = policy({name: np.stack([row[name] for row in rows]) for name in rows[0]}, first)
            for recorder, action in zip(recorders, actions, strict=True):
                if not recorder.done:
                    recorder.step(action)
            first = np.zeros(len(seeds), bool)
            on_step()
        return [recorder.finish() for recorder in recorders]
    finally:
        for environment in environments:
            environment.close()
