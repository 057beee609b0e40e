"""Transforms of actions: clip, rescale, join several steps into one, convert integers to one-hot rows.

Episodes without actions stay without.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets.episode import Array, RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
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
            actions=None if raw.actions is None else self._combined(raw.actions[taken]),
            rewards=np.add.reduceat(raw.rewards.astype(np.float64), rows[:-1]),
        )

    def _combined(self, actions: Array) -> Array:
        return COMBINE[self.combine](actions.astype(np.float32)).astype(np.float32)


@dataclass(frozen=True)
class ClipActions(EpisodeTransform):
    """Clips continuous actions to ``low`` and ``high``, one number or one per element, as many environments do.

    By default, the bounds are those of the action space. Place the transform first: every other transform refuses
    actions beyond the bounds.
    """

    low: float | Sequence[float] | None = None
    high: float | Sequence[float] | None = None

    def columns(self, description: SourceDescription) -> SourceDescription:
        """An action with the bounds to which it is clipped."""
        return replace(description, action=self._clipped(description.action))

    def accepts(self, description: SourceDescription) -> SourceDescription:
        """Any finite action."""
        return replace(description, action=_between(description.action, -np.inf, np.inf, self))

    def __call__(self, source: Source) -> Source:
        """The source with clipped actions; its provenance has the bounds.

        Raises:
            UserError: if a bound is missing that the action space does not have either.
        """
        action = self._clipped(source.describe().action)
        if not action.bounded:
            raise UserError("ClipActions: the actions of the source have no bounds; set low and high of the transform")
        return super(ClipActions, replace(self, low=action.low, high=action.high)).__call__(source)

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with clipped actions; NaN stays NaN, so that the check reports it."""
        if raw.actions is None:
            return raw
        return replace(raw, actions=np.clip(raw.actions.astype(np.float64), self.low, self.high).astype(np.float32))

    def _clipped(self, action: ActionSpec) -> ActionSpec:
        low = action.low if self.low is None else self.low
        high = action.high if self.high is None else self.high
        return _between(action, low, high, self)


@dataclass(frozen=True)
class RescaleActions(EpisodeTransform):
    """Maps actions between ``low`` and ``high``, one number or one per element, linearly to -1 and 1.

    Actions beyond these bounds are refused; clip them first with ``ClipActions`` and the same bounds.
    """

    low: float | Sequence[float]
    high: float | Sequence[float]

    def columns(self, description: SourceDescription) -> SourceDescription:
        """An action between -1 and 1."""
        return replace(description, action=_between(description.action, -1.0, 1.0, self))

    def accepts(self, description: SourceDescription) -> SourceDescription:
        """An action within the bounds."""
        return replace(description, action=_between(description.action, self.low, self.high, self))

    def apply(self, raw: RawEpisode) -> RawEpisode:
        """The episode with rescaled actions, computed in float64 and rounded once."""
        if raw.actions is None:
            return raw
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        actions = (raw.actions.astype(np.float64) - low) / (high - low) * 2 - 1
        return replace(raw, actions=actions.astype(np.float32))


def _between(
    action: ActionSpec, low: float | Sequence[float], high: float | Sequence[float], transform: EpisodeTransform
) -> ActionSpec:
    """A continuous action with these bounds.

    Raises:
        UserError: if the action is discrete, or the bounds do not fit it.
    """
    name = type(transform).__name__
    if action.discrete:
        raise UserError(f"{name}: the action is discrete; remove the transform")
    lows, highs = (np.asarray(bound, np.float64) for bound in (low, high))
    if any(bound.shape not in ((), (action.size,)) for bound in (lows, highs)) or not (lows < highs).all():
        raise UserError(
            f"{name} from {low} to {high}: expected one number or {action.size} for each bound, low below high; fix "
            f"the transform"
        )
    size = (action.size,)
    return ActionSpec(
        action.size, False, tuple(np.broadcast_to(lows, size).tolist()), tuple(np.broadcast_to(highs, size).tolist())
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
        if raw.actions is None:
            return raw
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
