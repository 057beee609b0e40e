"""A store's rows as d3rlpy's episodes. Nothing here needs d3rlpy.

Our row t holds observation t with the action and the reward that led there. In d3rlpy, index t holds observation t with
the action taken there and the reward that this action earns, and whether an episode's last index is a transition
depends on how the episode ended (``Episode.transition_count``):

- after a true end it is one, and what follows it is never looked at: N transitions are N indices;
- after a time limit it only says what the last transition led to: N transitions are N + 1 indices, and the last
  action and reward are never looked at. They are zero here.

So an episode of N + 1 rows is N transitions in both, none of which crosses to another episode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, DataSpec
from dreamset.datasets.episode import Array


@dataclass(frozen=True, slots=True)
class PeerEpisode:
    """The arguments of ``d3rlpy.dataset.Episode``; L is N after a true end and N + 1 after a time limit."""

    observations: Array  # [L, S] float32 or [L, C, H, W] uint8
    actions: Array  # [L, A] float32 in [-1, 1], or [L, 1] int64
    rewards: NDArray[np.float32]  # [L, 1]
    terminated: bool


def peer_episode(rows: Mapping[str, Array], spec: DataSpec) -> PeerEpisode:
    """An episode as ``Store.read`` returns it.

    Raises:
        UserError: if the observations or the actions are of a kind that d3rlpy has no networks for.
    """
    terminated = bool(rows["is_terminal"][-1])
    observations = peer_observations(rows, spec)
    actions = peer_actions(rows["action"][1:], spec.action)
    rewards = np.asarray(rows["reward"][1:], np.float32)[:, None]
    if terminated:
        return PeerEpisode(observations[:-1], actions, rewards, terminated)
    return PeerEpisode(observations, _with_zero(actions), _with_zero(rewards), terminated)


def peer_observations(observations: Mapping[str, Any], spec: DataSpec) -> NDArray[Any]:
    """All vectors in one [N, S], or the one image as [N, C, H, W].

    Raises:
        UserError: if there are several images or images beside vectors.
    """
    images = [name for name, array in spec.observations.items() if array.is_image]
    if not images:
        return np.concatenate([np.asarray(observations[name], np.float32) for name in spec.observations], axis=-1)
    if len(spec.observations) > 1:
        raise UserError(f"d3rlpy's encoders read vectors or one image, the data hold {sorted(spec.observations)}")
    channels_first: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(observations[images[0]], -1, -3))
    return channels_first


def peer_actions(actions: Array, spec: ActionSpec) -> NDArray[Any]:
    """Rescaled to [-1, 1], or the numbers [N, 1] of one-hot rows.

    Raises:
        UserError: for continuous actions without bounds.
    """
    if spec.discrete:
        return np.argmax(actions, axis=-1).astype(np.int64)[:, None]
    if not spec.bounded:
        raise UserError("d3rlpy's policies act within bounds, the data's actions have none")
    normalized: NDArray[np.float32] = spec.normalize(torch.tensor(actions)).clamp(-1, 1).numpy()
    return normalized


def own_actions(actions: NDArray[Any], spec: ActionSpec) -> NDArray[np.float32]:
    """What a peer's policy returned as the environment takes it: the inverse of ``peer_actions``."""
    if spec.discrete:
        return np.eye(spec.size, dtype=np.float32)[actions.reshape(-1)]
    units: NDArray[np.float32] = spec.denormalize(torch.as_tensor(actions, dtype=torch.float32)).numpy()
    return units


class RecentFrames:
    """Observations stacked with those before, as d3rlpy's ``FrameStackTransitionPicker`` stacks recorded ones."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._frames: list[NDArray[Any]] = []

    def add(self, observations: NDArray[Any], first: NDArray[np.bool_]) -> NDArray[Any]:
        """Oldest first, zeros before an episode's begin.

        Args:
            observations: [N, C, ...], one row per environment.
            first: [N], where an episode begins.

        Returns:
            [N, count * C, ...]
        """
        before = self._frames or [np.zeros_like(observations)] * (self.count - 1)
        alive = ~first.reshape(-1, *[1] * (observations.ndim - 1))
        frames = [*(frame * alive.astype(frame.dtype) for frame in before), observations]
        self._frames = frames[1:]
        return np.concatenate(frames, axis=1)


def _with_zero(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values, np.zeros_like(values[:1])])
