"""Episodes with a policy, several environments side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamset.environments.wrappers import Action, Environment

# (observations [N, ...] by name, is_first [N]) -> actions [N, A]
BatchPolicy = Callable[[dict[str, NDArray[Any]], NDArray[np.bool_]], NDArray[np.float32]]
StatePolicy = Callable[[NDArray[np.floating]], Action]


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode of N transitions; the action follows the observation of the same row."""

    seed: int
    observations: dict[str, NDArray[Any]]  # [N + 1, ...]
    states: NDArray[Any]  # [N + 1, S] true states from the environment's info
    actions: NDArray[np.float32]  # [N, A]
    rewards: NDArray[np.float64]  # [N]
    terminated: bool

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())


class _Recorder:
    """One episode in the making."""

    def __init__(self, environment: Environment, seed: int) -> None:
        self.environment = environment
        self.seed = seed
        observation, info = environment.reset(seed=seed)
        self.observations, self.infos = [observation], [info]
        self.actions: list[Action] = []
        self.rewards: list[float] = []
        self.terminated = self.done = False

    def step(self, action: Action) -> None:
        observation, reward, self.terminated, truncated, info = self.environment.step(action)
        self.observations.append(observation)
        self.infos.append(info)
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.done = self.terminated or truncated

    def finish(self) -> RecordedEpisode:
        names = self.observations[0]
        return RecordedEpisode(
            seed=self.seed,
            observations={name: np.stack([row[name] for row in self.observations]) for name in names},
            states=np.stack([info["state"] for info in self.infos]),
            actions=np.stack(self.actions),
            rewards=np.asarray(self.rewards, np.float64),
            terminated=self.terminated,
        )


def record_episode(environment: Environment, policy: StatePolicy, *, seed: int) -> RecordedEpisode:
    """One episode with a policy that sees the true state."""
    recorder = _Recorder(environment, seed)
    while not recorder.done:
        recorder.step(policy(recorder.infos[-1]["state"]))
    return recorder.finish()


def run_side_by_side(
    make: Callable[[], Environment],
    policy: BatchPolicy,
    *,
    seeds: Sequence[int],
    on_step: Callable[[], None] = lambda: None,
) -> list[RecordedEpisode]:
    """One episode per seed, in lockstep, so that the policy decides for all of them at once."""
    environments = [make() for _ in seeds]
    try:
        recorders = [_Recorder(env, seed) for env, seed in zip(environments, seeds, strict=True)]
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
