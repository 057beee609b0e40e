"""The base classes of behaviour learners and reward functions, and the experience that they learn from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol

import torch
from torch import Tensor, nn

from dreamset.behaviors.controller import ActorController
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.core.capabilities import Controller, Dynamics, FeaturePolicy, Representation, S
from dreamset.core.parameters import OptimizerFactory
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.core.spec import ActionSpec
from dreamset.core.states import map_state
from dreamset.models.distributions import noise_of_kind
from dreamset.models.imagination import imagine


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Recorded actions, each with the state in which it was taken."""

    features: Tensor  # [B, T - 1, F] of rows 0 to T - 2
    action: Tensor  # [B, T - 1, A] in [-1, 1] or one-hot, taken in these states: the actions of rows 1 to T - 1
    known: Tensor  # [B, T - 1] bool: the next row belongs to the same episode, which is a demonstration


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of recorded rows: rewards, true ends and whether the next row is recorded."""

    reward: Tensor  # [B, T] on arrival
    goes_on: Tensor  # [B, T] bool: the row is no true end
    known: Tensor  # [B, T] bool: row t + 1 belongs to the same episode, or row t is a true end

    @classmethod
    def of(cls, batch: SequenceBatch) -> "Outcomes":
        """The outcomes of the batch; unknown at a time limit and, unless it is a true end, at a window's last row."""
        has_next = torch.zeros_like(batch.is_first)
        has_next[:, :-1] = ~batch.is_first[:, 1:]
        return cls(batch.reward, ~batch.is_terminal, has_next | batch.is_terminal)


@dataclass(frozen=True)
class Experience(Generic[S]):
    """A recorded batch with the states of a frozen world model, aligned by the time rule."""

    states: S  # [B, T, ...] after each row's observation
    features: Tensor  # [B, T, F] of the states
    action: Tensor  # [B, T, A] in [-1, 1] or one-hot; action[:, t] led to row t
    is_first: Tensor  # [B, T] bool
    outcomes: Outcomes | None = None  # None if the learner needs only actions
    batch: SequenceBatch | None = None  # the recorded rows themselves

    @classmethod
    def of(cls, model: Representation[S], batch: SequenceBatch, generator: torch.Generator) -> "Experience[S]":
        """The batch with the states that ``model`` computes for it."""
        with torch.no_grad():
            rollout = model.observe(batch, generator)
        action = model.spec.action.normalize(batch.action)
        return cls(rollout.states, rollout.features, action, batch.is_first, Outcomes.of(batch), batch)

    @property
    def starts(self) -> S:
        """Every state as a start of imagination: [B * T, ...]."""
        return map_state(lambda value: value.flatten(0, 1), self.states)

    @property
    def trajectory(self) -> ImaginedTrajectory[S]:
        """The recorded rows in the form of an imagined trajectory: [T, B, ...]."""
        return ImaginedTrajectory.recorded(self.states, self.features, self.action)

    @property
    def recorded_outcomes(self) -> Outcomes:
        """The outcomes, for those who need them.

        Raises:
            ValueError: if they are missing.
        """
        if self.outcomes is None:
            raise ValueError("learning from recorded rewards and ends needs experience with outcomes")
        return self.outcomes

    @property
    def acted(self) -> Tensor:
        """[B, T] bool: the episode has actions."""
        return self._marked(None if self.batch is None else self.batch.acted)

    @property
    def demonstration(self) -> Tensor:
        """[B, T] bool: the episode is worth imitating."""
        return self._marked(None if self.batch is None else self.batch.demonstration)

    def _marked(self, mark: Tensor | None) -> Tensor:
        return torch.ones_like(self.is_first) if mark is None else mark

    @property
    def demonstrations(self) -> Demonstrations:
        """The recorded actions with their states: action[t] was taken in row t - 1, unless row t begins an episode.

        Actions are known only in episodes that have actions and are demonstrations. With goals, only the actions of a
        window's last episode are known to lead to the goal.
        """
        known = ~self.is_first[:, 1:]
        if self.batch is not None and self.batch.goal is not None:
            later = self.is_first[:, 1:].flip(1).cumsum(1).flip(1)  # [B, T - 1] episodes that begin at or after a row
            known = later == 0
        known = known & self.acted[:, 1:] & self.demonstration[:, 1:]
        return Demonstrations(self.features[:, :-1], self.action[:, 1:], known)


@dataclass(frozen=True, slots=True)
class LearnerLosses:
    """Scalars to minimise, one for each network by name, and figures to report."""

    losses: Mapping[str, Tensor]
    figures: Mapping[str, Tensor]


class RewardFunction(nn.Module, ABC):
    """The reward that a learner maximises on imagined trajectories. All of its memory is in its ``state_dict``.

    It can have its own networks, such as a novelty head or a success classifier. They are trained on the same recorded
    batches as the learner's networks and saved with the policy.
    """

    needs: tuple[type, ...] = ()  # capabilities of the world model
    rows: int = 1  # the fewest rows of a recorded window from which its networks can learn

    def set_up(self, features: int, action: ActionSpec) -> None:
        """Creates the networks whose sizes depend on the world model; called once, before all other methods.

        Args:
            features: the number of features.
            action: of the dataset.
        """

    @abstractmethod
    def forward(self, trajectory: ImaginedTrajectory[Any], model: Any) -> Mapping[str, Tensor]:
        """The reward's terms by name, on arrival at every row, [H + 1, N] each; the learner maximises their sum."""

    def recorded(self, experience: Experience[Any], model: Any) -> dict[str, Tensor]:
        """The reward's terms on arrival in every recorded row, [B, T] each; ``reward`` is the recorded one.

        Raises:
            ValueError: if the experience has no outcomes.
        """
        recorded = experience.recorded_outcomes.reward
        terms = self(experience.trajectory, model)  # [T, B] each
        return {name: recorded if name == "reward" else term.t() for name, term in terms.items()}

    @property
    def recorded_needs(self) -> tuple[type, ...]:
        """Capabilities of the world model that ``recorded`` needs."""
        return self.needs

    def calibrate(self, recorded: Iterable[Experience[Any]], model: Any) -> None:
        """Computes constants, such as the weight of a penalty, from recorded batches; by default there are none.

        It is called before the first update, and again when a training resumes. Constants are computed once: a later
        call, also after ``load_state_dict``, changes nothing. ``recorded`` is endless, and drawn on demand.
        """

    def networks(self) -> Mapping[str, nn.Module]:
        """The networks to train, each by the optimiser of its name; by default none."""
        return {}

    def optimizers(self) -> Mapping[str, OptimizerFactory]:
        """The optimisers of its networks, unless ``behavior_training.optimizers`` has others of the same names."""
        return {}

    def losses_on(
        self,
        experience: Experience[Any],  # noqa: ARG002
        model: Any,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> LearnerLosses:
        """The losses of its networks on a recorded batch, one for each network."""
        return LearnerLosses({}, {})

    def warnings(self, figures: Mapping[str, float]) -> list[str]:  # noqa: ARG002
        """Problems that the last figures of a training reveal and that a user should know of: one line each."""
        return []


class Acting(Protocol):
    """How a behaviour acts in the states of a world model."""

    @property
    def acting_needs(self) -> tuple[type, ...]:
        """Capabilities that the world model must have for acting."""

    def controller(self, model: Any, *, exploration: Exploration = mode) -> Controller[Any]:
        """A controller that acts in an environment."""

    def imagine(
        self,
        model: Any,
        start: Any,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,
    ) -> ImaginedTrajectory[Any] | None:
        """Imagines ``horizon`` steps from ``start`` [N, ...]; None if it can act only in an environment.

        A way of acting that takes long calls ``on_step`` after every step.
        """


class WayOfActing(Protocol):
    """A way in which learned behaviours can act, instead of their own: by planning, or with a filter of actions."""

    def __hash__(self) -> int:
        """So that models which are loaded to act in this way can be kept."""

    @property
    def reward(self) -> RewardFunction | None:
        """The reward function whose terms or networks it uses; None: the one with which the behaviour was learned."""

    def with_reward(self, reward: RewardFunction) -> "WayOfActing":
        """The same way with another reward function."""

    def of(self, behavior: "Learner") -> Acting:
        """How ``behavior`` acts in this way.

        Raises:
            UserError: if the behaviour or the reward function lack what it needs.
        """


class Learner(nn.Module, ABC):
    """Learns a behaviour from a world model and recorded experience.

    The constructor's first arguments are the number of features and the ``ActionSpec``; it raises a ``UserError`` if
    the learner does not support such actions. All of its memory is in its ``state_dict``.
    """

    needs: ClassVar[tuple[type, ...]] = (Representation,)  # capabilities of the world model, for acting and learning
    uses_unacted: ClassVar[bool] = False  # whether it learns from episodes without actions, too: ``batch.acted``
    headline: ClassVar[str]  # the one figure that the progress bar shows

    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks to train, each by the optimiser of its name; empty if the behaviour needs no training."""

    def needed(self, reward: RewardFunction) -> tuple[type, ...]:  # noqa: ARG002 - only some learners use it
        """The capabilities that the world model must have for learning with ``reward``."""
        return self.needs

    @abstractmethod
    def losses_on(
        self, experience: Experience[Any], model: Any, reward: RewardFunction, generator: torch.Generator
    ) -> LearnerLosses:
        """The losses of one update.

        Args:
            experience: a recorded batch: starts of imagination, demonstrations, outcomes.
            model: the frozen world model with the capabilities of ``needs``; no parameter may require gradients.
            reward: the reward to maximise in imagination.
            generator: source of every random number.
        """

    @abstractmethod
    def controller(self, model: Any, *, exploration: Exploration = mode) -> Controller[Any]:
        """A controller that acts with the learned behaviour in the states of ``model``."""

    @property
    def acting_needs(self) -> tuple[type, ...]:
        """Capabilities that the world model must have for acting; by default ``Representation``."""
        return (Representation,)

    @property
    def acting_reward(self) -> RewardFunction | None:
        """The reward that it acts for, which is then also the one to learn with; None if acting needs no reward."""
        return None

    def imagination_policy(self) -> FeaturePolicy | None:
        """The policy in imagined states, without exploration; None if it needs more than features."""
        return None

    def imagine(
        self,
        model: Any,
        start: Any,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,  # noqa: ARG002 - a policy takes no time
    ) -> ImaginedTrajectory[Any] | None:
        """Imagines the policy without exploration; None if it needs more than features or the model has no dynamics."""
        policy = self.imagination_policy()
        return None if policy is None else imagined(policy, model, start, horizon=horizon, generator=generator)

    def after_update(self) -> None:
        """Called after every update of all networks, for slow critics and schedules."""

    def calibrate(self, recorded: Iterable[Experience[Any]], model: Any) -> None:
        """Computes constants, such as the range of the features; see ``RewardFunction.calibrate``."""

    def held_out(
        self,
        recorded: Iterable[Experience[Any]],  # noqa: ARG002
        model: Any,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Figures of the trained behaviour on held-out rows; by default none. ``recorded`` is endless, on demand."""
        return {}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:  # noqa: ARG002
        """Problems that the last figures of a training reveal and that a user should know of: one line each."""
        return []


def imagined(
    policy: FeaturePolicy, model: Any, start: Any, *, horizon: int, generator: torch.Generator
) -> ImaginedTrajectory[Any] | None:
    """Imagines a policy on features from ``start`` [N, ...]; None if the model has no dynamics."""
    if not isinstance(model, Dynamics):
        return None
    return imagine(model, start, policy, horizon=horizon, generator=generator)


class ActorLearner(Learner):
    """A learner that trains an actor on features."""

    actor: Any  # an ``Actor`` that is a module

    def controller(self, model: Representation[S], *, exploration: Exploration = mode) -> Controller[Any]:
        """A controller that filters the observations with ``model`` and acts with the actor."""
        return ActorController(model, self.actor, exploration=exploration)

    def imagination_policy(self) -> FeaturePolicy:
        """The actor's mode."""
        return lambda features: self.actor(features).mode

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """A sample of the actor, [N, A]; see ``core.capabilities.Proposing``."""
        distribution = self.actor(features)
        sample = distribution.sample(noise_of_kind(distribution.noise_kind, noise))
        silent = (noise == 0).all(-1, keepdim=True)  # the median of a truncated normal is not its mode
        return torch.where(silent, distribution.mode, sample).clamp(-1, 1)
