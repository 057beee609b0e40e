"""Converts a store's rows to d3rlpy's episodes; does not import d3rlpy.

In a store, row t has observation t and the action and reward that led there. In d3rlpy, index t has observation t, the
action taken there and the reward for it. Whether the last index is a transition depends on the end of the episode
(``Episode.transition_count``):

- After a true end it is a transition, whose next observation is never read: N transitions are N indices.
- After a time limit it is only the arrival of the last transition: N transitions are N + 1 indices. Its action and
  reward are never read; here they are zero.

An episode of N + 1 rows therefore has N transitions in both, and no transition crosses episodes.
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
    """Converts an episode of ``Store.read``.

    Raises:
        UserError: if d3rlpy has no networks for the kind of observations or actions.
    """
    terminated = bool(rows["is_terminal"][-1])
    observations = peer_observations(rows, spec)
    actions = peer_actions(rows["action"][1:], spec.action)
    rewards = np.asarray(rows["reward"][1:], np.float32)[:, None]
    if terminated:
        return PeerEpisode(observations[:-1], actions, rewards, terminated)
    return PeerEpisode(observations, _with_zero(actions), _with_zero(rewards), terminated)


def peer_observations(observations: Mapping[str, Any], spec: DataSpec) -> NDArray[Any]:
    """All vectors concatenated, [N, S], or the single image, [N, C, H, W].

    Raises:
        UserError: if there are several images, or images and vectors.
    """
    images = [name for name, array in spec.observations.items() if array.is_image]
    if not images:
        return np.concatenate([np.asarray(observations[name], np.float32) for name in spec.observations], axis=-1)
    if len(spec.observations) > 1:
        raise UserError(
            f"d3rlpy supports vectors or a single image, the dataset has {sorted(spec.observations)}; omit the task"
        )
    channels_first: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(observations[images[0]], -1, -3))
    return channels_first


def peer_actions(actions: Array, spec: ActionSpec) -> NDArray[Any]:
    """Actions scaled to [-1, 1], or integers [N, 1] of one-hot rows.

    Raises:
        UserError: if continuous actions have no bounds.
    """
    if spec.discrete:
        return np.argmax(actions, axis=-1).astype(np.int64)[:, None]
    if not spec.bounded:
        raise UserError("d3rlpy needs bounded actions, the dataset's actions have no bounds; omit the task")
    normalized: NDArray[np.float32] = spec.normalize(torch.tensor(actions)).clamp(-1, 1).numpy()
    return normalized


def own_actions(actions: NDArray[Any], spec: ActionSpec) -> NDArray[np.float32]:
    """Actions of a d3rlpy policy in the environment's units: the inverse of ``peer_actions``."""
    if spec.discrete:
        return np.eye(spec.size, dtype=np.float32)[actions.reshape(-1)]
    units: NDArray[np.float32] = spec.denormalize(torch.as_tensor(actions, dtype=torch.float32)).numpy()
    return units


class RecentFrames:
    """Stacks recent observations like d3rlpy's ``FrameStackTransitionPicker``."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._frames: list[NDArray[Any]] = []

    def add(self, observations: NDArray[Any], first: NDArray[np.bool_]) -> NDArray[Any]:
        """Adds observations and returns the stack, oldest first, with zeros before the start of an episode.

        Args:
            observations: [N, C, ...], one row per environment.
            first: [N] whether an episode begins.

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
