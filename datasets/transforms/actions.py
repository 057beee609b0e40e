"""Transforms of actions: join several steps into one, convert integers to one-hot rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.transforms.base import EpisodeTransform

# [blocks, repeat, A] -> [blocks, ...]
COMBINE: Mapping[str, Callable[[NDArray[np.float32]], Array]] = {
    "first": lambda actions: actions[:, 0],
    "mean": lambda actions: actions.mean(axis=1),
    "concatenate": lambda actions: actions.reshape(len(actions), -1),
}


@dataclass(frozen=True)
class FoldActions(EpisodeTransform):
    """Joins ``repeat`` transitions into one: keeps every ``repeat``-th observation and sums the rewards.

    ``combine`` selects the joint action: the ``first`` (exact for data recorded with action repeat), the ``mean``, or
    all of them (``concatenate``: the action has ``repeat`` times as many numbers). A remainder at the end becomes a
    shorter block whose last action is repeated, so that the end of the episode is kept.
    """

    repeat: int
    combine: str = "first"

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise UserError(f"FoldActions: repeat is {self.repeat}; allowed: 1 or more")
        if self.combine not in COMBINE:
            raise UserError(f"FoldActions: combine is {self.combine!r}; allowed: {', '.join(COMBINE)}")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """The same columns, with a longer action if ``combine`` is ``concatenate``."""
        action = description.action
        if action.discrete and self.combine != "first":
            raise UserError(
                f"FoldActions: combine is {self.combine!r}, but the actions are discrete; set combine to 'first'"
            )
        if self.combine != "concatenate":
            return description
        size, low, high = action.size * self.repeat, action.low * self.repeat, action.high * self.repeat
        return replace(description, action=ActionSpec(size, False, low, high))

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The shorter episode."""
        transitions = len(raw.rewards)
        rows = np.minimum(np.arange(0, transitions + self.repeat, self.repeat), transitions)
        taken = np.minimum(rows[:-1, None] + np.arange(self.repeat), transitions - 1)  # [blocks, repeat]
        return replace(
            raw,
            observations={name: values[rows] for name, values in raw.observations.items()},
            privileged={name: values[rows] for name, values in raw.privileged.items()},
            actions=COMBINE[self.combine](raw.actions.astype(np.float32)[taken]).astype(np.float32),
            rewards=np.add.reduceat(raw.rewards.astype(np.float64), rows[:-1]),
        )


@dataclass(frozen=True)
class OneHotActions(EpisodeTransform):
    """Converts actions stored as one number from 0 to ``size - 1`` to one-hot rows of ``size``."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"OneHotActions: size is {self.size}; allowed: 1 or more")

    def columns(self, description: SourceDescription) -> SourceDescription:
        """A discrete action."""
        if description.action.size != 1 or description.action.discrete:
            raise UserError(
                f"OneHotActions needs an action of one number, but the source has {description.action.size}"
                f"{' choices already' if description.action.discrete else ''}; remove the transform"
            )
        return replace(description, action=ActionSpec(self.size, True, (0.0,) * self.size, (1.0,) * self.size))

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with one-hot actions [N, size].

        Raises:
            UserError: if an action is not a whole number within the range.
        """
        numbers = raw.actions.reshape(len(raw.actions)).astype(np.float64)
        wrong = np.flatnonzero(~np.isin(numbers, np.arange(self.size)))
        if wrong.size:
            step = int(wrong[0])
            raise UserError(
                f"{raw.name}: actions is {numbers[step]:g} at step {step}; allowed: whole numbers from 0 to "
                f"{self.size - 1}; fix the episode or the size of OneHotActions"
            )
        rows = np.zeros((len(numbers), self.size), np.float32)
        rows[np.arange(len(numbers)), numbers.astype(np.int64)] = 1
        return replace(raw, actions=rows)
