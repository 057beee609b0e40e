"""Capabilities: small protocols that say what a world model or a controller can do.

A world model implements some of these protocols. Its state ``S`` is opaque: only the model reads its fields, and all
other code uses the functions of ``core.states``. A learner, an objective or a reward function names the capabilities
that it needs. ``require`` refuses a model that lacks one, in one line.

============== ============================================== ===========================================
capability     the model can                                  needed by
============== ============================================== ===========================================
Representation observe, filter, compute features              cloning, probes, Q-learning on features
Dynamics       predict the next state and the continuation    imagination, planning
RewardModel    predict the rewards of a trajectory            the task's reward in imagination
Uncertain      predict with every member of an ensemble       pessimism, exploration
Valued         value the last state of a trajectory           planning with a terminal value
Proposing      propose actions                                planning with proposals
Trainable      compute losses and figures, name its parts     the stage ``train_world_model``
Staged         learn in two steps per update                  networks that learn from others' new weights
Prunable       leave out the weights that acting ignores      export
FeatureParts   name the parts of its features                 distances that weight them
GoalReaching   compare its state with a goal                  the reward of being near a goal
ActionFree     compute states without actions                 episodes without actions, inverse dynamics
Spatial        keep the patches of an image apart             decoding images for display
Selective      read only some of the observations             acting without the others
============== ============================================== ===========================================

Actions are in [-1, 1] or one-hot (``ActionSpec.normalize``), except where a docstring says "in the environment's
units".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, Loss, Rollout, SequenceBatch
from dreamset.core.spec import DataSpec

S = TypeVar("S")
M = TypeVar("M")

FeaturePolicy = Callable[[Tensor], Tensor]  # features [N, F] -> action [N, A] in [-1, 1]


@runtime_checkable
class Representation(Protocol[S]):
    """Turns observations into states."""

    spec: DataSpec

    @property
    def feature_size(self) -> int:
        """F, the length of the features."""

    @property
    def embedding_size(self) -> int:
        """E, the length of ``Rollout.embedding``; 0 if the model has no embedding."""

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples: ``normal``, ``gumbel`` or ``none``."""

    def initial(self, count: int) -> S:
        """The state before any observation, [N, ...]."""

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Random numbers for a batch of steps of this shape, [*shape, ...]; [*shape, 0] if steps are deterministic."""

    def features(self, state: S) -> Tensor:
        """The vector that heads, probes and behaviours read: [..., F]."""

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: S | None = None) -> Rollout[S]:
        """States of recorded sequences; ``start`` is the state before row 0, by default ``initial``."""

    def filter(
        self, state: S, action: Tensor, observations: Mapping[str, Tensor], is_first: Tensor, noise: Tensor
    ) -> S:
        """The state after one more row.

        It has no loop over data and no branch on a value, so that it can be traced.

        Args:
            state: the state of the previous row, [N, ...].
            action: the action that led to this row, [N, A], in the environment's units.
            observations: [N, ...] by name.
            is_first: [N] bool; where it is true, ``action`` and ``state`` are ignored.
            noise: [N, ...], drawn by the method ``noise``.
        """


@runtime_checkable
class Dynamics(Representation[S], Protocol[S]):
    """Predicts the next state: enough for imagination and for planning towards a goal."""

    @property
    def predicts_ends(self) -> bool:
        """Whether the model learns ``continuation``; otherwise it is one everywhere."""

    def step(self, state: S, action: Tensor, noise: Tensor) -> S:
        """A sample of the next state [N, ...], given ``state`` and ``action`` [N, A]."""

    def continuation(self, trajectory: ImaginedTrajectory[S]) -> Tensor:
        """Probability that the episode continues after the arrival at each row, [H + 1, N]."""


@runtime_checkable
class RewardModel(Protocol[S]):
    """Predicts the reward of every row of a trajectory."""

    def reward(self, trajectory: ImaginedTrajectory[S]) -> Tensor:
        """Expected reward on arrival at each row, [H + 1, N].

        A model whose reward depends on a state and the action taken there assigns it to the row that the action
        leads to. Row 0 is then zero.
        """


class MemberPredictions(Protocol):
    """The predictions of an ensemble's K members for the states that the model sampled; computed on demand."""

    def mean(self) -> Tensor:
        """Each member's predicted mean, [K, ..., Z]."""

    def variance(self) -> Tensor:
        """Each member's predicted variance of every element, [K, ..., Z]."""

    def log_prob(self) -> Tensor:
        """ln p_k of the sampled state, in nats, [K, ...]."""


@runtime_checkable
class Uncertain(Protocol[S]):
    """Has an ensemble whose members disagree where the data do not determine the next state."""

    def members(self, trajectory: ImaginedTrajectory[S]) -> MemberPredictions:
        """The members' predictions of every row, [K, H + 1, N, ...].

        Raises:
            UserError: if this model was trained without an ensemble.
        """


@runtime_checkable
class Valued(Protocol[S]):
    """Estimates the return of the rest of an episode; a behaviour with a critic can do it, too."""

    def values(self, trajectory: ImaginedTrajectory[S], reward: Tensor) -> Tensor:
        """Each member's expected return from the last row on, with the reward on arrival there: [K, N].

        Args:
            trajectory: of N episodes.
            reward: [N] expected on arrival at the last row. A critic whose values exclude it adds it.
        """


@runtime_checkable
class Proposing(Protocol):
    """Proposes actions; a behaviour with an actor can do it, too."""

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """An action of its policy, [N, A] in [-1, 1], or one-hot.

        Args:
            features: [N, F].
            noise: [N, A] standard normal; zero gives the policy's mode.
        """


@runtime_checkable
class Trainable(Representation[S], Protocol[S]):
    """Can be trained by the stage ``train_world_model``."""

    headline: str  # the one figure that the progress bar shows

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name, for learning rates and freezing; None if an optional network is left out."""

    def watchers(self) -> Sequence[str]:
        """Names of parts that learn from the states and never change them; their gradients are clipped separately."""

    def losses(self, rollout: Rollout[S], batch: SequenceBatch) -> dict[str, Loss]:
        """The losses that all objectives share, [B, T] each."""

    def figures(self, rollout: Rollout[S], batch: SequenceBatch) -> dict[str, Tensor]:
        """The model's own held-out figures: scalars by name."""

    def state_dict(self) -> dict[str, Any]:
        """Every weight by name, as in ``nn.Module``."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Sets every weight: the inverse of ``state_dict``."""

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """Problems that these figures reveal and that a user should know of: one line each."""


@runtime_checkable
class Staged(Protocol[S]):
    """Learns in two steps per update: the second one sees the weights that the first one changed."""

    def later_losses(self, rollout: Rollout[S]) -> dict[str, Loss]:
        """Losses of the second step on the same rollout, [B, T] each; they train parts of ``watchers`` only."""

    def after_update(self) -> None:
        """Called after both steps, for target networks."""


@runtime_checkable
class Prunable(Protocol):
    """Can leave out the weights that acting does not need."""

    def for_acting(self) -> nn.Module:
        """A copy with only the weights that ``filter`` and ``features`` need."""


@runtime_checkable
class FeatureParts(Protocol):
    """Names the parts of its features."""

    @property
    def feature_parts(self) -> Mapping[str, int]:
        """The number of features of each part, in order; their sum is F."""


@runtime_checkable
class GoalReaching(Protocol):
    """Has a goal beside its state, as every world model has with goals=future."""

    def halves(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the state and those of the goal, [..., F] each, from [..., 2F]; both have the same parts."""


@runtime_checkable
class ActionFree(Protocol):
    """Has states that do not depend on actions, so that it observes and learns from episodes without actions, too."""

    uses_unacted: bool  # true


@runtime_checkable
class LabelsActions(Protocol):
    """Estimates the action between two consecutive rows: an inverse dynamics model."""

    def label(self, before: Tensor, after: Tensor, generator: torch.Generator) -> Tensor:
        """The action that led from one row to the next, [N, A] in [-1, 1], or one-hot.

        Args:
            before: features [N, F] of the first row.
            after: features [N, F] of the row that follows.
            generator: source of every random number.
        """


@runtime_checkable
class Spatial(Protocol):
    """Its features begin with those of the patches of an image, row by row."""

    @property
    def map_shape(self) -> tuple[int, int]:
        """The number of patches and of the features of each."""


@runtime_checkable
class Selective(Protocol):
    """Reads some of the data's observations only; the others are targets of its training."""

    @property
    def reads(self) -> Sequence[str]:
        """The names of the observations that ``observe`` and ``filter`` read."""


def acting_spec(model: Representation[Any]) -> DataSpec:
    """The data specification of a controller with this model: only with the observations that the model reads."""
    if not isinstance(model, Selective):
        return model.spec
    read = {name: array for name, array in model.spec.observations.items() if name in model.reads}
    return replace(model.spec, observations=read)


@runtime_checkable
class Controller(Protocol[M]):
    """Chooses actions: an actor, a planner, a queue of planned actions. The caller keeps its memory between rows."""

    spec: DataSpec  # its observations and actions

    def initial(self, count: int) -> M:
        """The memory before any observation, for ``count`` parallel episodes."""

    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: M, generator: torch.Generator
    ) -> tuple[Tensor, M]:
        """The action in this row, [N, A] in the environment's units, and the memory for the next row.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; where it is true, ``memory`` is ignored.
            memory: the memory from the previous row, [N, ...].
            generator: source of every random number.
        """


@runtime_checkable
class Exportable(Controller[M], Protocol[M]):
    """A controller whose step is a function of tensors, so that it can be traced into a program."""

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples: ``normal``, ``gumbel`` or ``none``."""

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers for one row of ``count`` episodes, [N, ...]."""

    def step(self, observations: Mapping[str, Tensor], is_first: Tensor, memory: M, noise: Tensor) -> tuple[Tensor, M]:
        """``act`` with its random numbers as an argument."""


def uses_unacted(*parts: object) -> bool:
    """Whether all of these world models, objectives and learners can use episodes without actions."""
    return all(getattr(part, "uses_unacted", False) for part in parts)


def require(model: object, *capabilities: type, by: str) -> None:
    """Checks that ``model`` has the capabilities that ``by`` needs.

    Raises:
        UserError: if a capability is missing; the message names every missing one.
    """
    missing = [capability for capability in capabilities if not isinstance(model, capability)]
    if missing:
        listed = "; ".join(f"{capability.__name__}: {_first_line(capability)}" for capability in missing)
        raise UserError(f"{by} needs a world model with capabilities that {type(model).__name__} lacks ({listed})")


def _first_line(capability: Any) -> str:
    return str(capability.__doc__).partition("\n")[0].rstrip(".")
