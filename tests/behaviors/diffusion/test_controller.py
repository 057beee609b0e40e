"""The controller: its queue of planned actions, on known plans."""

import pytest
import torch
from torch import Tensor, nn

from dreamset.behaviors.diffusion.controller import RecedingController
from dreamset.behaviors.diffusion.diffusion import Draw
from dreamset.behaviors.diffusion.plans import LatentPlanner
from dreamset.behaviors.exploration import GaussianNoise, Sampled
from dreamset.behaviors.planning.draws import Counted, Sliced
from tests.behaviors.diffusion.toys import ONE, learner, trained
from tests.behaviors.planning.points import CONTINUOUS, Line
from tests.builders import seeded

EXECUTE = 3


class Numbered(nn.Module):
    """A planner whose plan from x is x / 100, x / 100 + 0.1, x / 100 + 0.2; it needs two random numbers."""

    execute = EXECUTE

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[list[float]] = []  # the latents of each call

    def latent(self, features: Tensor) -> Tensor:
        return features

    def plan(self, latent: Tensor, draw: Draw) -> Tensor:
        draw(2)
        self.planned.append(latent[:, 0].tolist())
        return (latent[:, None] / 100) + 0.1 * torch.arange(EXECUTE)[:, None]


class Seen(Line):
    """Its state is the observation."""

    def filter(self, state, action, observations, is_first, noise):  # noqa: ARG002
        return type(state)(observations["x"])


def followed(firsts: list[list[bool]], xs: list[list[float]], *, traced: bool = False) -> tuple[list, Numbered]:
    """The unit actions of parallel episodes, row by row."""
    plans = Numbered()
    controller = RecedingController(Seen(), plans)
    memory, actions = controller.initial(len(firsts[0])), []
    for first, x in zip(firsts, xs, strict=True):
        inputs = {"x": torch.tensor(x)[:, None]}, torch.tensor(first), memory
        if traced:
            action, memory = controller.step(*inputs, controller.noise(len(first), seeded()))
        else:
            action, memory = controller.act(*inputs, seeded())
        actions.append((CONTINUOUS.normalize(action)[:, 0] * 100).round().int().tolist())
    return actions, plans


FIRSTS = [[True, True], [False, False], [False, True], [False, False], [False, False], [False, False]]
XS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0], [11.0, 12.0]]


@pytest.mark.parametrize("traced", [False, True])
def test_each_episode_executes_its_own_plan_and_forgets_it_at_its_start(traced: bool) -> None:
    actions, _ = followed(FIRSTS, XS, traced=traced)
    # the first episode plans in rows 0 and 3; the second in row 0, at its new start in row 2, and in row 5
    assert actions == [[1, 2], [11, 12], [21, 6], [7, 16], [17, 26], [27, 12]]


def test_only_episodes_with_an_empty_queue_plan() -> None:
    _, plans = followed(FIRSTS, XS)
    assert plans.planned == [[1.0, 2.0], [6.0], [7.0], [12.0]]


def test_memory_has_tensors_of_fixed_sizes() -> None:
    controller = RecedingController(Seen(), Numbered())
    memory = controller.initial(4)
    _, after = controller.act({"x": torch.zeros(4, 1)}, torch.ones(4, dtype=torch.bool), memory, seeded())
    assert (memory.queue.shape, memory.left.shape) == (after.queue.shape, after.left.shape) == ((4, EXECUTE, 1), (4,))
    assert memory.left.tolist() == [0] * 4
    assert after.left.tolist() == [EXECUTE - 1] * 4


def test_exploration_changes_the_action_but_not_the_queue() -> None:
    def rows(exploration: object) -> list[float]:
        controller = RecedingController(Seen(), Numbered(), exploration=exploration)
        memory, generator, actions = controller.initial(1), seeded(), []
        for row in range(EXECUTE):
            action, memory = controller.act({"x": torch.zeros(1, 1)}, torch.tensor([row == 0]), memory, generator)
            actions.append(float(CONTINUOUS.normalize(action)))
        return actions

    assert rows(Sampled()) == pytest.approx([0.0, 0.1, 0.2], abs=1e-6)
    noisy = rows(GaussianNoise(std=0.05))
    assert noisy != pytest.approx([0.0, 0.1, 0.2], abs=1e-3)
    assert noisy == pytest.approx([0.0, 0.1, 0.2], abs=0.25)


def real_plans() -> LatentPlanner:
    return trained(learner(), ONE, updates=20).plans()


def test_noise_is_exactly_what_a_step_uses() -> None:
    controller = RecedingController(Line(sigma=0.5), real_plans())
    noise = controller.noise(3, seeded())
    needed, used = Counted(torch.zeros(1, 1)), Sliced(noise)
    needed(1)  # of the model's state
    controller.plans.plan(torch.zeros(1, 1), needed)
    assert noise.shape == (3, needed.total)
    state = controller.infer({"x": torch.zeros(3, 1)}, torch.ones(3, dtype=torch.bool), controller.initial(3), used)
    controller._planned(state, used)
    assert used.used == needed.total


def test_equal_random_numbers_give_equal_actions_and_others_give_others() -> None:
    controller = RecedingController(Line(), real_plans())
    inputs = {"x": torch.ones(2, 1)}, torch.ones(2, dtype=torch.bool), controller.initial(2)
    one, again, other = (controller.act(*inputs, seeded(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert (one.abs() <= 2).all()


def test_imagination_follows_the_queue_and_plans_again_when_it_is_empty() -> None:
    plans, model = Numbered(), Line()
    controller = RecedingController(model, plans)
    steps: list[int] = []
    start = model.filter(model.initial(1), torch.zeros(1, 1), {"x": torch.tensor([[5.0]])}, torch.tensor([True]), None)
    imagined = controller.imagine(start, horizon=4, generator=seeded(), on_step=lambda: steps.append(1))
    first = [0.05, 0.15, 0.25]
    assert imagined.action[:3, 0, 0].tolist() == pytest.approx(first)
    reached = 5 + sum(first)
    assert plans.planned == [[5.0], [pytest.approx(reached)]]
    assert float(imagined.action[3]) == pytest.approx(reached / 100)
    assert imagined.features.shape == (5, 1, 1)
    assert len(steps) == 4
