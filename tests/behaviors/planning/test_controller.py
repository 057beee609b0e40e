"""The planning controller in worlds whose best plans are known, and in real models."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from dreamset.behaviors.exploration import Exploration, GaussianNoise, Sampled, UniformChoice
from dreamset.behaviors.planning import controller as module
from dreamset.behaviors.planning.controller import PlanningController, PlanningMemory
from dreamset.behaviors.planning.draws import Generated, Sliced
from dreamset.behaviors.planning.optimizers import (
    CEM,
    MPPI,
    CategoricalCEM,
    ColoredCEM,
    Draw,
    GradientPlanner,
    Plan,
    PlanOptimizer,
    Score,
)
from dreamset.behaviors.planning.scores import ReturnScore
from dreamset.behaviors.rewards import PredictedReward
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.core.states import map_state, named_tensors
from tests.behaviors.planning.points import CHOICES, CONTINUOUS, Line, Point
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_model

SEARCH: dict[str, Any] = {"horizon": 3, "candidates": 64, "elites": 8, "iterations": 6}
OPTIMIZERS: dict[str, PlanOptimizer] = {
    "cem": CEM(**SEARCH),
    "colored": ColoredCEM(beta=0.5, **SEARCH),
    "mppi": MPPI(temperature=20.0, **SEARCH),
    "gradient": GradientPlanner(**{**SEARCH, "candidates": 4, "elites": 1, "iterations": 60}),
}
SMALL: dict[str, Any] = {"horizon": 3, "candidates": 5, "elites": 2, "iterations": 2}


def planner(world: Any, optimizer: PlanOptimizer | None = None, **settings: Any) -> PlanningController[Any]:
    return PlanningController(world, optimizer or CEM(**SMALL), ReturnScore(PredictedReward()), **settings)


def at(*x: float) -> dict[str, Tensor]:
    return {"x": torch.tensor(x)[:, None]}


def firsts(*values: bool) -> Tensor:
    return torch.tensor(values)


@dataclass(frozen=True, kw_only=True)
class Recorder(PlanOptimizer):
    """Plans 0, 0.1, 0.2, ... from wherever it starts, and remembers where that was."""

    guesses: list[Tensor] = field(default_factory=list)

    def __call__(
        self,
        score: Score,  # noqa: ARG002
        guess: Tensor,
        draw: Draw,  # noqa: ARG002
        proposals: Tensor | None = None,  # noqa: ARG002
    ) -> Plan:
        self.guesses.append(guess)
        steps = 0.1 * torch.arange(self.horizon)[:, None].expand_as(guess)
        return Plan(steps, steps, steps[:, :1], steps[:, 0])


class Policy:
    """Goes halfway to the goal; noise is added to that."""

    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        return (-0.5 * features + noise).clamp(-1, 1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_best_action_is_planned_and_converted_to_the_environments_units(name: str) -> None:
    controller = planner(Line(), OPTIMIZERS[name])
    start = (0.4, -0.7, 3.0)
    action, _ = controller.act(at(*start), firsts(True, True, True), controller.initial(3), seeded())
    expected = 2 * -torch.tensor(start)[:, None].clamp(-1, 1)  # x + a = 0, or as near as one action goes
    torch.testing.assert_close(action, expected, atol=0.2, rtol=0)  # 0.1 of a policy's units


def test_the_best_choice_is_planned_in_a_discrete_world() -> None:
    controller = planner(Line(action=CHOICES), CategoricalCEM(**SEARCH))
    action, memory = controller.act(at(2.0, 0.0, -1.0), firsts(True, True, True), controller.initial(3), seeded())
    assert torch.equal(action, torch.eye(3)[[0, 1, 2]])  # left, stay, right
    action, _ = controller.act(at(1.0, 0.0, 0.0), firsts(False, False, False), memory, seeded())
    assert torch.equal(action, torch.eye(3)[[0, 1, 1]])


def test_a_row_is_filtered_once_and_all_candidates_of_an_iteration_are_one_batch() -> None:
    world = Line()
    controller = planner(world, policy=Policy(), proposals=4)
    world.stepped.clear()
    controller.act(at(0.1, 0.2), firsts(True, True), controller.initial(2), seeded())
    assert world.filtered == 1
    proposed, searched = [2 * 4] * 3, [2 * (5 + 4)] * (2 * 3)  # H steps; I x H steps, N x (J + P) states each
    assert world.stepped == proposed + searched


def test_the_plan_is_shifted_and_forgotten_where_an_episode_begins() -> None:
    optimizer = Recorder(**SMALL)
    controller = planner(Line(), optimizer)
    memory = controller.initial(2)
    rows = [firsts(True, True), firsts(False, False), firsts(False, True), firsts(False, False)]
    for row in rows:
        _, memory = controller.act(at(0.0, 0.0), row, memory, seeded())
    rest, nothing = [0.1, 0.2, 0.2], [0.0, 0.0, 0.0]
    found = [guess[..., 0] for guess in optimizer.guesses]
    expected = [[nothing, nothing], [rest, rest], [rest, nothing], [rest, rest]]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected))


def test_memory_is_ignored_in_the_first_row_of_an_episode() -> None:
    controller = planner(Line())
    nan = map_state(lambda value: torch.full_like(value, torch.nan), controller.initial(2))
    first = firsts(True, True)
    with_nan, _ = controller.act(at(0.3, -0.2), first, nan, seeded())
    without, _ = controller.act(at(0.3, -0.2), first, controller.initial(2), seeded())
    assert torch.equal(with_nan, without)
    later, _ = controller.act(at(0.3, -0.2), firsts(False, True), controller.initial(2), seeded())
    assert torch.equal(later[1], without[1])
    assert not torch.equal(later[0], without[0])


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_step_with_the_numbers_that_act_draws_gives_the_same_action(
    monkeypatch: pytest.MonkeyPatch, sigma: float
) -> None:
    drawn: list[Tensor] = []

    class Remembered(Generated):
        def __call__(self, *sizes: int) -> Tensor:
            drawn.append(super().__call__(*sizes))
            return drawn[-1]

    monkeypatch.setattr(module, "Generated", Remembered)
    controller = planner(Line(sigma=sigma), policy=Policy(), proposals=2)
    observed, first, memory = at(0.3, -0.2, 0.9), firsts(True, False, True), controller.initial(3)
    by_act, after_act = controller.act(observed, first, memory, seeded())
    noise = torch.cat([numbers.flatten(1) for numbers in drawn], dim=1)
    by_step, after_step = controller.step(observed, first, memory, noise)
    assert torch.equal(by_act, by_step)
    assert all(map(torch.equal, named_tensors(after_act).values(), named_tensors(after_step).values()))
    assert controller.noise(3, seeded()).shape == noise.shape


def test_noise_has_exactly_the_numbers_that_step_takes() -> None:
    controller = planner(Line(sigma=0.1), policy=Policy(), proposals=2)
    numbers = Sliced(controller.noise(2, seeded()))
    controller.plan(at(0.0, 1.0), firsts(True, True), controller.initial(2), numbers)
    assert numbers.used == numbers.numbers.shape[1]
    filtered, proposed = 1, 2 * 3 * (1 + 1)  # P x H actions and states
    assert numbers.used == filtered + proposed + 2 * (5 * 3 + (5 + 2) * 3)  # I x (J x H actions, (J + P) x H states)
    assert numbers.numbers.mean().abs() < 0.5
    assert controller.noise_distribution == "normal"


def test_equal_candidates_of_a_stochastic_model_see_different_futures() -> None:
    seen: list[Tensor] = []

    @dataclass(frozen=True, kw_only=True)
    class EqualCandidates(Recorder):
        def __call__(self, score: Score, guess: Tensor, draw: Draw, proposals: Tensor | None = None) -> Plan:
            seen.append(score(torch.zeros(2, 5000, 3, 1)))
            return super().__call__(score, guess, draw, proposals)

    controller = planner(Line(sigma=0.5), EqualCandidates(**SMALL))
    controller.act(at(0.0, 0.0), firsts(True, True), controller.initial(2), seeded())
    scores = seen[-1]
    assert len(scores.unique()) > 9000  # neither candidates nor states share numbers
    expected = -(0.5**2) * (1 + 2 + 3)  # the variances of three steps of a random walk
    torch.testing.assert_close(scores.mean(1), torch.full((2,), expected), atol=0.08, rtol=0)


def test_states_plan_independently_of_their_neighbours() -> None:
    controller = planner(Line(sigma=0.2), policy=Policy(), proposals=2)
    noise, observed = controller.noise(3, seeded()), at(0.3, -0.8, 0.1)
    together, _ = controller.step(observed, firsts(True, True, True), controller.initial(3), noise)
    for n in range(3):
        row = {"x": observed["x"][n : n + 1]}
        alone, _ = controller.step(row, firsts(True), controller.initial(1), noise[n : n + 1])
        torch.testing.assert_close(alone, together[n : n + 1])


def test_equal_generators_give_equal_plans() -> None:
    controller = planner(Line(sigma=0.2))
    actions = [
        controller.act(at(0.3), firsts(True), controller.initial(1), seeded(seed))[0].item() for seed in (0, 0, 1)
    ]
    assert actions[0] == actions[1] != actions[2]


@pytest.mark.parametrize("optimizer", [CEM(**{**SMALL, "elites": 1}), MPPI(**SMALL), GradientPlanner(**SMALL)])
@pytest.mark.parametrize("x", [torch.nan, torch.inf, 1e30])
def test_states_that_cannot_be_rated_give_finite_actions_within_the_bounds(optimizer: PlanOptimizer, x: float) -> None:
    controller = planner(Line(), optimizer)
    action, memory = controller.act(at(x, 0.0), firsts(True, True), controller.initial(2), seeded())
    assert action.isfinite().all()
    assert action.abs().max() <= 2
    assert memory.plan.isfinite().all()


@pytest.mark.parametrize(
    ("action", "optimizer", "said"),
    [
        (CHOICES, CEM(**SMALL), "CEM searches continuous actions.*acting/optimizer=categorical_cem"),
        (ActionSpec(1, False, (-1.0,), (torch.inf,)), MPPI(**SMALL), "MPPI searches between bounds"),
        (CONTINUOUS, CategoricalCEM(**SMALL), "CategoricalCEM searches discrete actions"),
    ],
)
def test_actions_that_an_optimizer_cannot_search_are_refused(
    action: ActionSpec, optimizer: PlanOptimizer, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        planner(Line(action=action), optimizer)


def test_imagining_a_planner_equals_acting_in_an_environment_that_is_the_model() -> None:
    world = Line()
    controller = planner(world)
    world.stepped.clear()
    start = torch.tensor([[2.5], [-0.4]])
    imagined = controller.imagine(Point(start), horizon=4, generator=seeded())
    assert len(world.stepped) == 4 * (2 * 3) + 4  # a search of I x H steps before each step
    assert imagined.features.shape == (5, 2, 1)
    x, memory, generator = start, controller.initial(2), seeded()
    for row in range(4):
        torch.testing.assert_close(imagined.features[row], x)
        action, memory = controller.act({"x": x}, torch.full((2,), row == 0), memory, generator)
        torch.testing.assert_close(imagined.action[row], CONTINUOUS.normalize(action))
        x = x + CONTINUOUS.normalize(action)


@pytest.mark.parametrize("exploration", [Sampled(), GaussianNoise(0.5)])
def test_explored_actions_stay_within_the_bounds_and_are_remembered(exploration: Exploration) -> None:
    controller, plain = planner(Line(), MPPI(**SMALL), exploration=exploration), planner(Line(), MPPI(**SMALL))
    observed, first, memory = at(*[0.9] * 50), torch.ones(50, dtype=torch.bool), plain.initial(50)
    action, after = controller.act(observed, first, memory, seeded())
    best, plan = plain.act(observed, first, memory, seeded())
    assert action.abs().max() <= 2
    assert torch.equal(after.action, action)
    assert torch.equal(after.plan, plan.plan)  # exploration changes the action, not the plan
    assert not torch.allclose(action, best)


@pytest.mark.parametrize("exploration", [Sampled(), UniformChoice(0.5)])
def test_explored_choices_are_one_hot(exploration: Exploration) -> None:
    controller = planner(Line(action=CHOICES), CategoricalCEM(**SMALL), exploration=exploration)
    first = torch.ones(50, dtype=torch.bool)
    action, _ = controller.act(at(*[0.0] * 50), first, controller.initial(50), seeded())
    assert torch.equal(action.sort(dim=-1).values, torch.tensor([0.0, 0.0, 1.0]).expand(50, 3))
    assert len(action.unique(dim=0)) > 1


def test_a_traced_planner_takes_any_number_of_rows() -> None:
    controller = planner(Line(sigma=0.1), policy=Policy(), proposals=2)

    class Step(torch.nn.Module):
        def forward(self, x: Tensor, first: Tensor, action: Tensor, state: Tensor, plan: Tensor, noise: Tensor) -> Any:
            return controller.step({"x": x}, first, PlanningMemory(action, Point(state), plan), noise)[0]

    def arguments(count: int) -> tuple[Tensor, ...]:
        memory = named_tensors(controller.initial(count)).values()
        return torch.ones(count, 1), torch.arange(count) % 2 == 0, *memory, controller.noise(count, seeded())

    batch = Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(Step(), arguments(2), dynamic_shapes=({0: batch},) * 6, strict=False).module()
        for count in (1, 5):
            torch.testing.assert_close(program(*arguments(count)), Step()(*arguments(count)))


@pytest.mark.parametrize("world_model", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
@pytest.mark.parametrize("optimizer", [CEM(**SMALL), MPPI(**SMALL), GradientPlanner(**SMALL)], ids=lambda o: str(o)[:4])
def test_recurrent_models_plan_row_by_row(world_model: str, optimizer: PlanOptimizer) -> None:
    controller = planner(tiny_model(f"world_model={world_model}"), optimizer)
    batch, memory = tiny_batch(3, 2), controller.initial(3)
    for t in range(2):
        row = {name: value[:, t] for name, value in batch.observations.items()}
        action, memory = controller.act(row, batch.is_first[:, t], memory, seeded())
        assert ((action >= torch.tensor(LOW)) & (action <= torch.tensor(HIGH))).all()
        assert not any(tensor.requires_grad for tensor in named_tensors(memory).values())
    assert memory.plan.shape == (3, 3, 2)
    assert memory.plan.any()


def test_choices_are_planned_in_a_recurrent_model() -> None:
    spec = DataSpec({"image": ArraySpec((16, 16, 3), "uint8")}, CHOICES, {}, {})
    controller = planner(tiny_model("world_model=dreamer_v2", spec=spec), CategoricalCEM(**SMALL))
    observed = {"image": tiny_batch(3, 1).observations["image"][:, 0]}
    action, _ = controller.act(observed, torch.ones(3, dtype=torch.bool), controller.initial(3), seeded())
    assert torch.equal(action.sort(dim=-1).values, torch.tensor([0.0, 0.0, 1.0]).expand(3, 3))


@pytest.mark.parametrize("world_model", ["dreamer_v1", "dreamer_v3"])
def test_gradients_through_a_recurrent_model_raise_the_return_while_none_are_recorded(world_model: str) -> None:
    model = tiny_model(f"world_model={world_model}")
    climb = GradientPlanner(horizon=3, candidates=1, elites=1, iterations=20, initial_std=0.0)
    controller = planner(model, climb)
    state = map_state(lambda value: value + 0.1, model.initial(4))

    def same(*sizes: int) -> Tensor:
        return torch.zeros(4, *sizes)

    score: Callable[[Tensor], Tensor] = lambda plans: controller._rated(state, plans[:, None], same)[:, 0]  # noqa: E731
    guess = torch.zeros(4, 3, 2)
    with torch.no_grad():
        found = controller.search(state, guess, same).mean
        assert (score(found) > score(guess)).all()
    assert all(parameter.grad is None for parameter in model.parameters())
