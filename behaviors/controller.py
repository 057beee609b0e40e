"""Controllers that act with a learned actor, and the agent that runs any controller row by row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from dreamset.behaviors.exploration import Explorable, Exploration, mode
from dreamset.core.capabilities import Controller, Representation, S, acting_spec


@dataclass(frozen=True)
class ActorMemory(Generic[S]):
    """The memory of an ``ActorController`` between two rows."""

    action: Tensor  # [N, A] the action of the previous row, in the environment's units
    state: S  # [N, ...] the world model's state in the previous row


class ActorController(nn.Module, Generic[S]):
    """Infers the state with a world model and chooses the action with an actor.

    Args:
        model: infers the state; needs no dynamics.
        actor: features to a distribution over actions.
        exploration: chooses an action from that distribution; by default its mode.
    """

    def __init__(
        self, model: Representation[S], actor: Callable[[Tensor], Explorable], *, exploration: Exploration = mode
    ) -> None:
        super().__init__()
        self.spec = acting_spec(model)
        self.model = model
        self.actor = actor
        self.exploration = exploration

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples: the model's."""
        return self.model.noise_distribution

    def initial(self, count: int) -> ActorMemory[S]:
        """A zero action and the model's initial state."""
        state = self.model.initial(count)
        like = self.model.features(state)
        return ActorMemory(like.new_zeros(count, self.spec.action.size), state)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers for the states of ``count`` episodes in one row, [N, ...]."""
        return self.model.noise((count,), generator)

    def step(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: ActorMemory[S], noise: Tensor
    ) -> tuple[Tensor, ActorMemory[S]]:
        """Acts with the actor's mode; a function of its arguments without loops over data, so that it can be traced.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; where it is true, ``memory`` is ignored.
            memory: the memory from the previous row.
            noise: [N, ...], drawn by the method ``noise``.
        """
        state = self.infer(observations, is_first, memory, noise)
        action = self.spec.action.denormalize(self.actor(self.model.features(state)).mode)
        return action, ActorMemory(action, state)

    @torch.no_grad()
    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: ActorMemory[S], generator: torch.Generator
    ) -> tuple[Tensor, ActorMemory[S]]:
        """See ``core.capabilities.Controller``."""
        state = self.infer(observations, is_first, memory, self.noise(len(is_first), generator))
        unit_action = self.exploration(self.actor(self.model.features(state)), generator)
        action = self.spec.action.denormalize(unit_action)
        return action, ActorMemory(action, state)

    def infer(self, observations: Mapping[str, Tensor], is_first: Tensor, memory: ActorMemory[S], noise: Tensor) -> S:
        """The model's state of this row; arguments as for ``step``."""
        return self.model.filter(memory.state, memory.action, observations, is_first, noise)


class Agent:
    """Acts row by row with a controller and keeps its memory; parallel episodes may start at different rows."""

    def __init__(self, controller: Controller[Any], *, generator: torch.Generator) -> None:
        self.controller = controller
        self.generator = generator
        self.memory: Any = None  # the memory from the previous row; None before the first row

    def act(self, observations: Mapping[str, Tensor], is_first: Tensor) -> Tensor:
        """The action in this row, [N, A] in the environment's units.

        Args:
            observations: [N, ...] by name; those that the controller does not use are ignored.
            is_first: [N] bool; where it is true, the memory is ignored.
        """
        if self.memory is None:
            self.memory = self.controller.initial(len(is_first))
        inputs = {name: observations[name] for name in self.controller.spec.observations}
        action, self.memory = self.controller.act(inputs, is_first, self.memory, self.generator)
        return action
