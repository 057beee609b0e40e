"""The records that the folders exchange, the time rule and the shape legend.

Shape legend, used in every comment of the project::

    B batch    T time          H imagination horizon   N number of imagined trajectories
    A action   E embedding     D deterministic state   Z stochastic state
    P parameters of a latent distribution              F features = D + Z

Time rule. Row ``t`` of a sequence is *arrival at time t*, as in the papers' p(s_t | s_{t-1}, a_{t-1}, o_t) and
p(r_t | s_t)::

    row              0           1           2
    observation     o_0         o_1         o_2
    action           0          a_0         a_1      the action that LED TO the observation of the same row
    reward           0          r_1         r_2      received on arrival at that row
    is_first        True       False       False
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dreamset.core.states import map_state, stack_states

S = TypeVar("S")  # a world model's state: the model's own frozen dataclass of tensors


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """A batch of recorded windows, aligned by the time rule.

    Image observations stay ``uint8`` until a model reads them. ``privileged`` holds the dataset's ground truth about
    the state; only probes use it, and it is never an input of a model.
    """

    observations: Mapping[str, Tensor]  # name -> [B, T, ...]
    action: Tensor  # [B, T, A] float32, in the environment's units
    reward: Tensor  # [B, T] float32
    is_first: Tensor  # [B, T] bool
    is_last: Tensor  # [B, T] bool
    is_terminal: Tensor  # [B, T] bool: a true end, never a time limit
    privileged: Mapping[str, Tensor]  # name -> [B, T, ...]
    row: Tensor  # [B, T] int64: the row's number in the dataset, the same each time the row is sampled
    goal: Mapping[str, Tensor] | None = None  # name -> [B, ...]: what was observed in a later row of the same episode
    acted: Tensor | None = None  # [B, T] bool: the episode has actions, else they are zeros; None: all have
    demonstration: Tensor | None = None  # [B, T] bool: the episode is worth imitating; None: all are

    def map(self, function: Callable[[Tensor], Tensor]) -> "SequenceBatch":
        """A batch with ``function`` applied to every tensor."""
        return SequenceBatch(
            observations={name: function(value) for name, value in self.observations.items()},
            action=function(self.action),
            reward=function(self.reward),
            is_first=function(self.is_first),
            is_last=function(self.is_last),
            is_terminal=function(self.is_terminal),
            privileged={name: function(value) for name, value in self.privileged.items()},
            row=function(self.row),
            goal=None if self.goal is None else {name: function(value) for name, value in self.goal.items()},
            acted=None if self.acted is None else function(self.acted),
            demonstration=None if self.demonstration is None else function(self.demonstration),
        )

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same batch on ``device``."""
        return self.map(lambda value: value.to(device, non_blocking=True))

    def slice_time(self, start: int, stop: int) -> "SequenceBatch":
        """Rows ``start`` to ``stop`` of every sequence; the goals stay as they are."""
        return replace(replace(self, goal=None).map(lambda value: value[:, start:stop]), goal=self.goal)


@dataclass(frozen=True)
class Rollout(Generic[S]):
    """The states that a world model computed from a ``SequenceBatch``."""

    states: S  # [B, T, ...] after the row's observation
    features: Tensor  # [B, T, F] of the states
    embedding: Tensor  # [B, T, E] of the observations; E is 0 if the model has no embedding
    details: object = None  # further values that only the model's own losses and figures read


@dataclass(frozen=True)
class ImaginedTrajectory(Generic[S]):
    """Imagined states; row 0 is the start, and ``action[h]`` leads to row ``h + 1``.

    Recorded rows take this form too: their states in order and the actions between them.
    """

    rows: Sequence[S]  # H + 1 states [N, ...]
    features: Tensor  # [H + 1, N, F]
    action: Tensor  # [H, N, A] in [-1, 1], or one-hot

    @classmethod
    def recorded(cls, states: S, features: Tensor, action: Tensor) -> "ImaginedTrajectory[S]":
        """Recorded rows in this form.

        Args:
            states: [B, T, ...].
            features: [B, T, F] of the states.
            action: [B, T, A] in [-1, 1] or one-hot; ``action[:, t]`` led to row t.
        """
        rows = [map_state(lambda value, t=t: value[:, t], states) for t in range(features.shape[1])]
        return cls(rows, features.transpose(0, 1), action[:, 1:].transpose(0, 1))

    @property
    def states(self) -> S:
        """All rows stacked into one state, [H + 1, N, ...]; a copy."""
        return stack_states(self.rows)


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss with its own weight, so that no global table of weights is needed."""

    value: Tensor  # [B, T] unweighted
    weight: float = 1.0

    def weighted(self, weight: float) -> "Loss":
        """The same values with another weight."""
        return replace(self, weight=weight)


def total_loss(losses: Mapping[str, Loss]) -> Tensor:
    """The scalar to minimise: the weighted sum of the means of all losses.

    Raises:
        ValueError: if a loss is not shaped [B, T] like the others.
    """
    shapes = {name: tuple(loss.value.shape) for name, loss in losses.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"every loss must have the same shape [B, T], got {shapes}; sum each over its event axes")
    return torch.stack([loss.weight * loss.value.mean() for loss in losses.values()]).sum()
