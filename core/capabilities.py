"""What a part may ask of a world model, of a controller and of a reward: protocols, each as small as its users allow.

A world model offers some of these capabilities. Its state ``S`` is opaque: only the model itself knows what is in it,
and everybody else handles it with ``core.states``. A learner, an objective or a reward names what it needs, and
``require`` refuses a model that does not offer it in one line.

============== ============================================== ===========================================
capability     lets one                                       needed by
============== ============================================== ===========================================
Representation observe, filter, read features                 cloning, probes, Q-learning on features
Dynamics       step from a state under an action; ends        imagination, planning
RewardModel    ask what a trajectory pays                     the task's reward in imagination
Uncertain      ask an ensemble what it predicts               pessimism, exploration
Trainable      compute losses and figures, name the parts     the stage ``train_world_model``
Prunable       drop what acting does not need                 export
============== ============================================== ===========================================

Actions in these protocols are in [-1, 1] or one-hot (``ActionSpec.normalize``), except where it says "in the
environment's units".
"""

from collections.abc import Callable, Mapping, Sequence
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
    """Turns what was observed into states."""

    spec: DataSpec

    @property
    def feature_size(self) -> int:
        """F, the length of the features."""

    @property
    def embedding_size(self) -> int:
        """E, the length of ``Rollout.embedding``; 0 where observations have none."""

    @property
    def noise_distribution(self) -> str:
        """What ``noise`` draws: ``normal``, ``gumbel`` or ``none``."""

    def initial(self, count: int) -> S:
        """The state before any observation, [N, ...]."""

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """The randomness of as many steps as ``shape`` says, [*shape, ...]; [*shape, 0] where nothing is drawn."""

    def features(self, state: S) -> Tensor:
        """What heads, probes and behaviours read: [..., F]."""

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: S | None = None) -> Rollout[S]:
        """States of recorded sequences; ``start`` is the state before row 0, ``initial`` unless given."""

    def filter(
        self, state: S, action: Tensor, observations: Mapping[str, Tensor], is_first: Tensor, noise: Tensor
    ) -> S:
        """The state of one more row.

        Free of loops over data and of branches on values, so that it can be traced.

        Args:
            state: of the row before, [N, ...].
            action: [N, A] that led here, in the environment's units.
            observations: [N, ...] by name.
            is_first: [N] bool; action and state are forgotten there, whatever they hold.
            noise: [N, ...] as ``noise`` draws it.
        """


@runtime_checkable
class Dynamics(Representation[S], Protocol[S]):
    """Predicts the next state: enough for imagination and for planning towards a goal."""

    @property
    def predicts_ends(self) -> bool:
        """Whether ``continuation`` is learned; otherwise it is one everywhere."""

    def step(self, state: S, action: Tensor, noise: Tensor) -> S:
        """A state [N, ...] that follows ``state`` under ``action`` [N, A]."""

    def continuation(self, trajectory: ImaginedTrajectory[S]) -> Tensor:
        """Probability that the episode goes on after arriving at every row, [H + 1, N]."""


@runtime_checkable
class RewardModel(Protocol[S]):
    """Knows what trajectories pay."""

    def reward(self, trajectory: ImaginedTrajectory[S]) -> Tensor:
        """Expected reward on arrival at every row, [H + 1, N].

        A model whose reward looks at a state and the action taken there gives it to the row that the action leads to,
        and zero to row 0.
        """


class MemberPredictions(Protocol):
    """What the K members of an ensemble predict, and what the model itself drew; computed when asked for."""

    def mean(self) -> Tensor:
        """Each member's expectation, [K, ..., Z]."""

    def variance(self) -> Tensor:
        """Each member's own variance of every element, [K, ..., Z]."""

    def log_prob(self) -> Tensor:
        """ln p_k of what was drawn, in nats, [K, ...]."""


@runtime_checkable
class Uncertain(Protocol[S]):
    """Has an ensemble whose members disagree where the data do not say what happens next."""

    def members(self, trajectory: ImaginedTrajectory[S]) -> MemberPredictions:
        """The ensemble's view of every row, [K, H + 1, N, ...].

        Raises:
            UserError: if this model was trained without an ensemble.
        """


@runtime_checkable
class Trainable(Representation[S], Protocol[S]):
    """Can be trained by the stage ``train_world_model``."""

    headline: str  # the figure that stands for the others beside a progress bar

    def parts(self) -> Mapping[str, nn.Module | None]:
        """The networks by name, for learning rates and freezing; None where an optional one is left out."""

    def watchers(self) -> Sequence[str]:
        """Parts that learn from the others' states and never change them; their gradients are clipped apart."""

    def losses(self, rollout: Rollout[S], batch: SequenceBatch) -> dict[str, Loss]:
        """What all objectives share: [B, T] each."""

    def figures(self, rollout: Rollout[S], batch: SequenceBatch) -> dict[str, Tensor]:
        """The model's own held-out figures: scalars by name."""

    def state_dict(self) -> dict[str, Any]:
        """Every weight by name, as of any ``nn.Module``."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """The inverse of ``state_dict``."""

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What these figures say that a person should know before using the model: a line each."""


@runtime_checkable
class Prunable(Protocol):
    """Can leave out what acting does not need."""

    def for_acting(self) -> nn.Module:
        """A copy that can ``filter`` and read ``features``, with no other weights."""


@runtime_checkable
class Controller(Protocol[M]):
    """How something acts: an actor, a planner, a queue of planned actions. Its memory is handed in and out."""

    spec: DataSpec  # what it observes and how it acts

    def initial(self, count: int) -> M:
        """The memory before any observation, for ``count`` episodes side by side."""

    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: M, generator: torch.Generator
    ) -> tuple[Tensor, M]:
        """What to do in this row, [N, A] in the environment's units, and the memory for the next.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; memory of what came before is dropped there.
            memory: of the row before, [N, ...].
            generator: source of every random number.
        """


@runtime_checkable
class Exportable(Controller[M], Protocol[M]):
    """A controller whose step is a function of tensors, so that it can be traced into a program."""

    @property
    def noise_distribution(self) -> str:
        """What ``noise`` draws: ``normal``, ``gumbel`` or ``none``."""

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """The randomness of one row of ``count`` episodes, [N, ...]."""

    def step(self, observations: Mapping[str, Tensor], is_first: Tensor, memory: M, noise: Tensor) -> tuple[Tensor, M]:
        """``act`` with its randomness handed in."""


def require(model: object, *capabilities: type, by: str) -> None:
    """Whether ``model`` offers what ``by`` needs.

    Raises:
        UserError: naming what is missing.
    """
    missing = [capability for capability in capabilities if not isinstance(model, capability)]
    if missing:
        said = "; ".join(f"{capability.__name__}: {_first_line(capability)}" for capability in missing)
        raise UserError(f"{by} needs a world model that offers more than {type(model).__name__} does ({said})")


def _first_line(capability: Any) -> str:
    return str(capability.__doc__).partition("\n")[0].rstrip(".")
