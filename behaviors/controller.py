"""Acting with a learned behaviour: filter the observations, ask the actor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.core.capabilities import Controller, Representation, S


@dataclass(frozen=True)
class ActorMemory(Generic[S]):
    """What an actor carries from row to row."""

    action: Tensor  # [N, A] that leads to the next row, in the environment's units
    state: S  # [N, ...] of the world model, in the row that was acted in


class ActorController(nn.Module, Generic[S]):
    """A controller that asks an actor what to do in the state that a world model infers.

    Args:
        model: infers the state; needs no dynamics.
        actor: features to a distribution over actions.
        exploration: how an action is chosen from that distribution; its mode unless given.
    """

    def __init__(self, model: Representation[S], actor: Actor, *, exploration: Exploration = mode) -> None:
        super().__init__()
        self.spec = model.spec
        self.model = model
        self.actor = actor
        self.exploration = exploration

    @property
    def noise_distribution(self) -> str:
        """What the model's draws are made of."""
        return self.model.noise_distribution

    def initial(self, count: int) -> ActorMemory[S]:
        """No action and the model's first state."""
        state = self.model.initial(count)
        like = self.model.features(state)
        return ActorMemory(like.new_zeros(count, self.spec.action.size), state)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """The randomness of the state's draws in one row of ``count`` episodes, [N, ...]."""
        return self.model.noise((count,), generator)

    def step(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: ActorMemory[S], noise: Tensor
    ) -> tuple[Tensor, ActorMemory[S]]:
        """The actor's mode; a function of nothing but its arguments, free of loops over data, so that it can be traced.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; the memory is dropped there.
            memory: of the row before.
            noise: [N, ...] as ``noise`` draws it.
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
        chosen = self.exploration(self.actor(self.model.features(state)), generator)
        action = self.spec.action.denormalize(chosen)
        return action, ActorMemory(action, state)

    def infer(self, observations: Mapping[str, Tensor], is_first: Tensor, memory: ActorMemory[S], noise: Tensor) -> S:
        """The model's state of this row; arguments as for ``step``."""
        return self.model.filter(memory.state, memory.action, observations, is_first, noise)


class Agent:
    """Acts row by row with a controller and keeps its memory; episodes may start at different times."""

    def __init__(self, controller: Controller[Any], *, generator: torch.Generator) -> None:
        self.controller = controller
        self.generator = generator
        self.memory: Any = None  # of the row before; None before the first

    def act(self, observations: Mapping[str, Tensor], is_first: Tensor) -> Tensor:
        """What to do, [N, A] in the environment's units.

        Args:
            observations: [N, ...] by name; more than the controller looks at are ignored.
            is_first: [N] bool; memory of what came before is dropped there.
        """
        if self.memory is None:
            self.memory = self.controller.initial(len(is_first))
        seen = {name: observations[name] for name in self.controller.spec.observations}
        action, self.memory = self.controller.act(seen, is_first, self.memory, self.generator)
        return action
