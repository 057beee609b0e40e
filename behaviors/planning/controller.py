"""A controller that plans in every row, as model predictive control does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor, nn

from dreamset.behaviors.exploration import Exploration, mode
from dreamset.behaviors.planning.draws import Counted, Generated, Sliced
from dreamset.behaviors.planning.optimizers import Draw, Plan, PlanOptimizer
from dreamset.core.capabilities import Dynamics, Proposing, S, acting_spec
from dreamset.core.records import ImaginedTrajectory
from dreamset.core.states import map_state, state_count
from dreamset.models.distributions import noise_of_kind
from dreamset.models.imagination import unroll


@dataclass(frozen=True)
class PlanningMemory(Generic[S]):
    """The memory of a ``PlanningController`` between two rows."""

    action: Tensor  # [N, A] the action of the previous row, in the environment's units
    state: S  # [N, ...] the world model's state in the previous row
    plan: Tensor  # [N, H, A] where the search of this row begins


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """The first action of a plan, as a distribution to explore with."""

    plan: Plan
    optimizer: PlanOptimizer

    @property
    def mode(self) -> Tensor:
        """The mean of the search, [N, A]; the published planners of TD-MPC sample even in evaluation."""
        return self.plan.mean[:, 0]

    def noise(self, generator: torch.Generator) -> Tensor:
        """Standard normal numbers for ``sample``, [N, 1 + A]."""
        count, _, size = self.plan.mean.shape
        return Generated(count, self.plan.mean, generator)(1 + size)

    def sample(self, noise: Tensor) -> Tensor:
        """See ``PlanOptimizer.sample``."""
        return self.optimizer.sample(self.plan, noise)


class PlanningController(nn.Module, Generic[S]):
    """Infers the state, searches a plan from it, and takes the plan's first action.

    The start is inferred once per row. All candidates are imagined in one batch, each with random numbers of its own.
    The search of the next row begins at the rest of the plan, unless an episode begins there or ``warm_start`` is off.

    Args:
        model: the world model.
        optimizer: searches.
        score: rates imagined trajectories, [N].
        policy: the policy whose imagined plans take part in the search; None: none.
        proposals: number of these plans; the first follows the policy's mode.
        exploration: chooses an action; by default the mean of the search.
        warm_start: whether a search begins at the rest of the previous plan; PlaNet's begins anew.
    """

    def __init__(
        self,
        model: Dynamics[S],
        optimizer: PlanOptimizer,
        score: Callable[[ImaginedTrajectory[S], Dynamics[S]], Tensor],
        *,
        policy: Proposing | None = None,
        proposals: int = 0,
        exploration: Exploration = mode,
        warm_start: bool = True,
    ) -> None:
        super().__init__()
        optimizer.require(model.spec.action)
        self.spec = acting_spec(model)
        self.model, self.optimizer, self.score = model, optimizer, score
        self.policy, self.proposals = policy, proposals
        self.exploration = exploration
        self.warm_start = warm_start
        device = self.model.features(model.initial(1)).device
        self.state_noise = model.noise((), torch.Generator(device)).shape[-1]

    @property
    def noise_distribution(self) -> str:
        """The distribution that ``noise`` samples; others are computed from it."""
        return "normal"

    def initial(self, count: int) -> PlanningMemory[S]:
        """A zero action, the model's initial state and no plan."""
        state = self.model.initial(count)
        like, size = self.model.features(state), self.spec.action.size
        return PlanningMemory(like.new_zeros(count, size), state, self.optimizer.initial(like, size))

    @torch.no_grad()
    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Random numbers for one row of ``count`` episodes, [N, ...]."""
        memory = self.initial(1)
        needed = Counted(memory.plan)
        self._noise(needed)
        self.search(memory.state, memory.plan, needed)
        return torch.randn(count, needed.total, generator=generator, device=generator.device)

    def step(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: PlanningMemory[S], noise: Tensor
    ) -> tuple[Tensor, PlanningMemory[S]]:
        """Acts with the mean of the search; a function of its arguments with loops of fixed length.

        Args:
            observations: [N, ...] by name.
            is_first: [N] bool; where it is true, ``memory`` is ignored.
            memory: the memory from the previous row.
            noise: [N, ...], drawn by the method ``noise``.
        """
        state, plan = self.plan(observations, is_first, memory, Sliced(noise))
        return self._acted(plan.mean[:, 0], state, plan)

    @torch.no_grad()
    def act(
        self,
        observations: Mapping[str, Tensor],
        is_first: Tensor,
        memory: PlanningMemory[S],
        generator: torch.Generator,
    ) -> tuple[Tensor, PlanningMemory[S]]:
        """See ``core.capabilities.Controller``."""
        state, plan = self.plan(observations, is_first, memory, Generated(len(is_first), memory.plan, generator))
        return self._acted(self.exploration(PlannedAction(plan, self.optimizer), generator), state, plan)

    def plan(
        self, observations: Mapping[str, Tensor], is_first: Tensor, memory: PlanningMemory[S], draw: Draw
    ) -> tuple[S, Plan]:
        """The state of this row and the plan from it; arguments as for ``step``."""
        state = self.model.filter(memory.state, memory.action, observations, is_first, self._noise(draw))
        without = self.optimizer.initial(memory.plan, self.spec.action.size)
        return state, self.search(state, torch.where(is_first[:, None, None], without, memory.plan), draw)

    def search(self, state: S, guess: Tensor, draw: Draw) -> Plan:
        """The plan from ``state`` [N, ...]; ``guess`` [N, H, A] is where the search begins."""
        proposed = None if self.policy is None else self._proposed(self.policy, state, draw)
        return self.optimizer(lambda candidates: self._rated(state, candidates, draw), guess, draw, proposed)

    @torch.no_grad()
    def imagine(
        self, start: S, *, horizon: int, generator: torch.Generator, on_step: Callable[[], None] = lambda: None
    ) -> ImaginedTrajectory[S]:
        """Imagines ``horizon`` steps from ``start`` [N, ...], with a new search in every one."""
        guess = self.initial(state_count(start)).plan
        draw = Generated(len(guess), guess, generator)
        states, features, actions = [start], [self.model.features(start)], []
        for _ in range(horizon):
            plan = self.search(states[-1], guess, draw)
            guess = self._next_guess(plan)
            actions.append(plan.mean[:, 0])
            states.append(self.model.step(states[-1], actions[-1], self._noise(draw)))
            features.append(self.model.features(states[-1]))
            on_step()
        return ImaginedTrajectory(states, torch.stack(features), torch.stack(actions))

    def _acted(self, unit_action: Tensor, state: S, plan: Plan) -> tuple[Tensor, PlanningMemory[S]]:
        action = self.spec.action.denormalize(unit_action)
        return action, PlanningMemory(action, state, self._next_guess(plan))

    def _next_guess(self, plan: Plan) -> Tensor:
        """Where the search of the next row begins, [N, H, A]."""
        if self.warm_start:
            return self.optimizer.next_guess(plan)
        return self.optimizer.initial(plan.mean, self.spec.action.size)

    def _rated(self, state: S, candidates: Tensor, draw: Draw) -> Tensor:
        """[N, J] from candidates [N, J, H, A]."""
        many, horizon = candidates.shape[1:3]
        actions = candidates.flatten(0, 1).transpose(0, 1)  # [H, N * J, A]
        imagined = self._unrolled(state, many, horizon, lambda h, _: actions[h], draw)
        scores: Tensor = self.score(imagined, self.model).unflatten(0, (-1, many))
        return scores

    def _proposed(self, policy: Proposing, state: S, draw: Draw) -> Tensor:
        """Plans of the policy, [N, P, H, A]."""
        many, horizon, size = self.proposals, self.optimizer.horizon, self.spec.action.size
        noise = draw(many, horizon, size)
        noise = torch.cat([torch.zeros_like(noise[:, :1]), noise[:, 1:]], dim=1)  # the first one follows the mode
        rows = noise.flatten(0, 1).transpose(0, 1)  # [H, N * P, A]
        imagined = self._unrolled(state, many, horizon, lambda h, features: policy.propose(features, rows[h]), draw)
        plans: Tensor = imagined.action.transpose(0, 1).unflatten(0, (-1, many))
        return plans

    def _unrolled(
        self, state: S, many: int, horizon: int, policy: Callable[[int, Tensor], Tensor], draw: Draw
    ) -> ImaginedTrajectory[S]:
        """``many`` trajectories from every state, neighbours in the axis [N * many]."""
        start = map_state(lambda value: value.repeat_interleave(many, dim=0), state)
        noise = self._noise(draw, many, horizon).flatten(0, 1).transpose(0, 1)  # [H, N * many, ...]
        return unroll(self.model, start, policy, noise)

    def _noise(self, draw: Draw, *sizes: int) -> Tensor:
        """Random numbers for steps of the model, [N, *sizes, ...]."""
        return noise_of_kind(self.model.noise_distribution, draw(*sizes, self.state_noise))
