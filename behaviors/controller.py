"""Acting with a learned behaviour: filter the observations, ask the actor."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dreamset.behaviors.action_distributions import Actor
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.core.records import LatentState
from dreamset.models.recurrent.world_model import WorldModel


class PolicyStep(nn.Module):
    """One row of acting as a function of nothing but its arguments: what is evaluated, recorded with and exported.

    The state before this row and the action that led here become the posterior state of this row, and the actor says
    what to do in it. Whoever calls keeps the state and draws the noise.
    """

    def __init__(self, model: WorldModel, actor: Actor) -> None:
        super().__init__()
        self.spec = model.spec
        self.encoder = model.encoder
        self.dynamics = model.dynamics
        self.actor = actor

    def initial(self, count: int) -> tuple[Tensor, LatentState]:
        """Action and state before any observation: zeros, [N, A] and [N, ...]."""
        state = self.dynamics.initial(count)
        return state.deterministic.new_zeros(count, self.spec.action.size), state

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """The randomness of the posterior's draws in one row of ``count`` episodes, [N, Z]."""
        return self.dynamics.latent.noise((count,), generator)

    def forward(
        self, observations: Mapping[str, Tensor], action: Tensor, state: LatentState, is_first: Tensor, noise: Tensor
    ) -> tuple[Tensor, LatentState]:
        """The actor's mode, in the environment's units, and the state in which it acts.

        Free of loops and of branches on values, so that it can be traced.

        Args:
            observations: [N, ...] by name.
            action: [N, A] that led here, in the environment's units; of a choice, a one-hot row.
            state: of the row before, [N, ...].
            is_first: [N] bool; action and state are forgotten there, whatever they hold.
            noise: [N, Z] as ``noise`` draws it.
        """
        state = self.infer(observations, action, state, is_first, noise)
        return self.spec.action.denormalize(self.actor(state.features).mode), state

    def infer(
        self, observations: Mapping[str, Tensor], action: Tensor, state: LatentState, is_first: Tensor, noise: Tensor
    ) -> LatentState:
        """The posterior state of this row; arguments as for ``forward``."""
        forget = is_first[:, None]
        action = self.spec.action.normalize(action).masked_fill(forget, 0)
        before = state.map(lambda value: value.masked_fill(forget, 0))
        return self.dynamics.filter(before, action, self.encoder(observations), noise)


class LatentPolicy:
    """A policy over observations for several episodes side by side, which may start at different times."""

    def __init__(
        self, model: WorldModel, actor: Actor, *, generator: torch.Generator, exploration: Exploration = mode
    ) -> None:
        self.step = PolicyStep(model, actor)
        self.generator = generator
        self.exploration = exploration
        self._memory: tuple[Tensor, LatentState] | None = None  # the action that leads to the next row, and the state

    @torch.no_grad()
    def act(self, observations: Mapping[str, Tensor], is_first: Tensor) -> Tensor:
        """What to do, in the environment's units: the actor's mode, unless there is to be explored.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; memory of what came before is dropped there.
        """
        action, state = self._memory or self.step.initial(len(is_first))
        noise = self.step.noise(len(is_first), self.generator)
        state = self.step.infer(observations, action, state, is_first, noise)
        chosen = self.exploration(self.step.actor(state.features), self.generator)
        self._memory = self.step.spec.action.denormalize(chosen), state
        return self._memory[0]
