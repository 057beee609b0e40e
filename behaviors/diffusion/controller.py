"""A controller that plans a few actions, executes them, and plans again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from dreamset.behaviors.diffusion.diffusion import Draw
from dreamset.behaviors.diffusion.plans import LatentPlanner
from dreamset.behaviors.exploration import Exploration, mode
from dreamset.behaviors.planning.draws import Counted, Generated, Sliced
from dreamset.core.capabilities import Representation, S, acting_spec
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import state_count
from dreamset.models.distributions import noise_of_kind


@dataclass(frozen=True)
class QueueMemory(Generic[S]):
    """The memory of a ``RecedingController`` between two rows. Each episode has a queue of its own."""

    action: Tensor  # [N, A] the action of the previous row, in the environment's units
    state: S  # [N, ...] the world model's state in the previous row
    queue: Tensor  # [N, E, A] planned actions in [-1, 1] or one-hot, the next one first
    left: Tensor  # [N] int64: how many of them remain


@dataclass(frozen=True, slots=True)
class QueuedAction:
    """The next action of a queue, as a distribution to explore with."""

    mode: Tensor  # [N, A]

    def noise(self, generator: torch.Generator) -> Tensor:
        """None."""
        return torch.zeros(len(self.mode), 0, device=generator.device)

    def sample(self, noise: Tensor) -> Tensor:  # noqa: ARG002 - the plan is a sample already
        """The action itself."""
        return self.mode


class RecedingController(nn.Module, Generic[S]):
    """Infers the state in every row, and samples a new plan where an episode begins or its queue is empty.

    Args:
        model: infers the state.
        plans: samples plans.
        exploration: chooses an action; by default the planned one.
    """

    def __init__(self, model: Representation[S], plans: LatentPlanner, *, exploration: Exploration = mode) -> None:
        super().__init__()
        self.spec = acting_spec(model)
        self.model, self.plans, self.exploration = model, plans, exploration
        device = self.model.features(model.initial(1)).device
        self.state_noise = model.noise((), torch.Generator(device)).shape[-1]

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples; others are computed from it."""
        return "normal"

    def initial(self, count: int) -> QueueMemory[S]:
        """A zero action, the model's initial state and an empty queue."""
        state = self.model.initial(count)
        like, size = self.model.features(state), self.spec.action.size
        queue = like.new_zeros(count, self.plans.execute, size)
        return QueueMemory(queue[:, 0], state, queue, like.new_zeros(count, dtype=torch.long))

    @torch.no_grad()
    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers for one row of ``count`` episodes, [N, ...]."""
        state = self.model.initial(1)
        needed = Counted(self.model.features(state))
        self._noise(needed)
        self._planned(state, needed)
        return torch.randn(count, needed.total, generator=generator, device=generator.device)

    def step(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: QueueMemory[S], noise: Tensor
    ) -> tuple[Tensor, QueueMemory[S]]:
        """Acts with the planned action. It plans in every row, so that it has no branch, and uses what is needed.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; where it is true, ``memory`` is ignored.
            memory: the memory from the previous row.
            noise: [N, ...], drawn by the method ``noise``.
        """
        draw = Sliced(noise)
        state = self.infer(observations, is_first, memory, draw)
        empty = is_first | (memory.left == 0)
        queue = torch.where(empty[:, None, None], self._planned(state, draw), memory.queue)
        return self._acted(queue[:, 0], state, queue, self._left(empty, memory))

    @torch.no_grad()
    def act(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: QueueMemory[S], generator: torch.Generator
    ) -> tuple[Tensor, QueueMemory[S]]:
        """See ``core.capabilities.Controller``. Only episodes with an empty queue plan."""
        state = self.infer(observations, is_first, memory, Generated(len(is_first), memory.queue, generator))
        empty = is_first | (memory.left == 0)
        queue = memory.queue
        if empty.any():
            latent = self.plans.latent(self.model.features(state)[empty])
            queue = queue.clone()
            queue[empty] = self.plans.plan(latent, Generated(len(latent), queue, generator))
        chosen = self.exploration(QueuedAction(queue[:, 0]), generator)
        return self._acted(chosen, state, queue, self._left(empty, memory))

    def infer(self, observations: Mapping[str, Tensor], is_first: Tensor, memory: QueueMemory[S], draw: Draw) -> S:
        """The model's state of this row; arguments as for ``step``."""
        return self.model.filter(memory.state, memory.action, observations, is_first, self._noise(draw))

    @torch.no_grad()
    def imagine(
        self,
        start: S,
        *,
        horizon: int,
        generator: torch.Generator,
        on_step: Callable[[], None] = lambda: None,
    ) -> ImaginedTrajectory[S]:
        """Imagines ``horizon`` steps from ``start`` [N, ...], planning again after every E; needs ``Dynamics``."""
        model: Any = self.model
        states, features, actions = [start], [model.features(start)], []
        draw = Generated(state_count(start), features[0], generator)
        for step in range(horizon):
            if step % self.plans.execute == 0:
                queue = self._planned(states[-1], draw)
            actions.append(queue[:, step % self.plans.execute])
            states.append(model.step(states[-1], actions[-1], self._noise(draw)))
            features.append(model.features(states[-1]))
            on_step()
        return ImaginedTrajectory(states, torch.stack(features), torch.stack(actions))

    def _planned(self, state: S, draw: Draw) -> Tensor:
        return self.plans.plan(self.plans.latent(self.model.features(state)), draw)

    def _left(self, empty: Tensor, memory: QueueMemory[S]) -> Tensor:
        """How many actions of the queues remain before the one of this row is taken, [N]."""
        return torch.where(empty, torch.full_like(memory.left, self.plans.execute), memory.left)

    def _acted(self, action: Tensor, state: S, queue: Tensor, left: Tensor) -> tuple[Tensor, QueueMemory[S]]:
        in_units = self.spec.action.denormalize(action)
        return in_units, QueueMemory(in_units, state, queue.roll(-1, dims=1), left - 1)

    def _noise(self, draw: Draw) -> Tensor:
        """Random numbers for a step of the model, [N, ...]."""
        return noise_of_kind(self.model.noise_distribution, draw(self.state_noise))
