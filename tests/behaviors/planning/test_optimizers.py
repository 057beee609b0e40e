"""Plan optimisers on costs with a known optimum, without any model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.behaviors.planning.draws import Generated, Sliced
from dreamset.behaviors.planning.optimizers import (
    CEM,
    MPPI,
    CategoricalCEM,
    ColoredCEM,
    GradientPlanner,
    Plan,
    PlanOptimizer,
)
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec

SEARCH: dict[str, Any] = {"horizon": 4, "candidates": 256, "elites": 24, "iterations": 10}
CONTINUOUS: dict[str, Callable[..., PlanOptimizer]] = {
    "cem": CEM,
    "colored": ColoredCEM,
    "mppi": lambda **search: MPPI(temperature=4.0, **search),
    "gradient": lambda **search: GradientPlanner(**{**search, "iterations": 60, "candidates": 8, "elites": 1}),
}
TARGET = torch.tensor([[0.5, -0.25], [2.0, 0.0], [-0.9, 0.9], [0.1, 0.2]])  # one element lies outside the box


def quadratic(candidates: Tensor) -> Tensor:
    return -(candidates - TARGET).square().sum((-1, -2))


def plan(
    optimizer: PlanOptimizer,
    score: Callable[[Tensor], Tensor] = quadratic,
    *,
    count: int = 3,
    size: int = 2,
    seed: int = 0,
    **more: Any,
) -> Plan:
    draw = Generated(count, TARGET, torch.Generator().manual_seed(seed))
    return optimizer(score, optimizer.initial(draw(), size), draw, **more)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_optimum_of_a_quadratic_is_found_within_the_box(name: str) -> None:
    mean = plan(CONTINUOUS[name](**SEARCH)).mean
    torch.testing.assert_close(mean, TARGET.clamp(-1, 1).expand(3, -1, -1), atol=0.12, rtol=0)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_no_candidate_leaves_the_box_and_equal_noise_gives_equal_plans(name: str) -> None:
    seen: list[Tensor] = []

    def watched(candidates: Tensor) -> Tensor:
        seen.append(candidates.detach())
        return quadratic(candidates)

    optimizer = CONTINUOUS[name](**SEARCH)
    first, second = plan(optimizer, watched), plan(optimizer, watched)
    assert max(float(candidates.abs().max()) for candidates in seen) <= 1
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.elites, second.elites)
    assert not torch.equal(first.mean, plan(optimizer, seed=1).mean)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("score", [lambda c: torch.zeros(c.shape[:2]), lambda c: c.sum((-1, -2)) * torch.nan])
def test_one_elite_equal_scores_and_scores_that_are_nan_give_finite_plans(name: str, score: Any) -> None:
    def graph(candidates: Tensor) -> Tensor:
        return score(candidates) + 0 * candidates.sum((-1, -2))

    found = plan(CONTINUOUS[name](**{**SEARCH, "elites": 1}), graph)
    for tensor in (found.spread, found.elites, found.weights):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_the_spread_shrinks(name: str) -> None:
    spreads = [plan(CONTINUOUS[name](**{**SEARCH, "iterations": count})).spread.mean() for count in (1, 3, 10)]
    assert spreads[0] > spreads[1] > spreads[2]


def test_one_iteration_of_cem_is_the_mean_and_deviation_of_the_best() -> None:
    optimizer = CEM(**{**SEARCH, "iterations": 1})
    noise = torch.randn(3, 256 * 4 * 2, generator=torch.Generator().manual_seed(3))
    found = optimizer(quadratic, torch.full((3, 4, 2), 0.2), Sliced(noise))
    candidates = np.clip(0.2 + noise.double().numpy().reshape(3, 256, 4, 2), -1, 1)
    scores = -((candidates - TARGET.double().numpy()) ** 2).sum((-1, -2))
    for state in range(3):
        best = candidates[state][np.argsort(-scores[state])[:24]]
        np.testing.assert_allclose(found.mean[state], best.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.spread[state], best.std(0), atol=1e-6)


def test_one_iteration_of_mppi_is_the_weighted_mean_and_the_clamped_deviation() -> None:
    optimizer = MPPI(temperature=0.5, min_std=0.3, max_std=2.0, momentum=0.1, **{**SEARCH, "iterations": 1})
    noise = torch.randn(2, 256 * 4 * 2, generator=torch.Generator().manual_seed(3))
    proposals = torch.full((2, 3, 4, 2), 0.4)
    found = optimizer(quadratic, torch.full((2, 4, 2), 0.2), Sliced(noise), proposals)
    candidates = np.clip(0.2 + 2 * noise.double().numpy().reshape(2, 256, 4, 2), -1, 1)
    candidates = np.concatenate([candidates, np.full((2, 3, 4, 2), np.float32(0.4))], 1)
    scores = -((candidates - TARGET.double().numpy()) ** 2).sum((-1, -2))
    for state in range(2):
        order = np.argsort(-scores[state], kind="stable")[:24]
        weights = np.exp(0.5 * (scores[state][order] - scores[state].max()))
        weights /= weights.sum()
        best = candidates[state][order]
        average = np.einsum("k,kha->ha", weights, best)
        deviation = np.sqrt(np.einsum("k,kha->ha", weights, (best - average) ** 2))
        np.testing.assert_allclose(found.mean[state], 0.1 * 0.2 + 0.9 * average, atol=1e-6)
        np.testing.assert_allclose(found.spread[state], deviation.clip(0.3, 2), atol=1e-6)
        np.testing.assert_allclose(found.weights[state].sum(), 1, atol=1e-6)


def test_a_perfect_proposal_is_found_at_once() -> None:
    proposals = TARGET.clamp(-1, 1).expand(3, 1, 4, 2)
    found = plan(CEM(**{**SEARCH, "elites": 1, "iterations": 1}), proposals=proposals)
    torch.testing.assert_close(found.mean, proposals[:, 0])


def test_the_rest_of_a_plan_is_the_next_guess() -> None:
    mean = torch.arange(8.0).reshape(1, 4, 2)
    assert CEM(**SEARCH).shifted(mean)[0].tolist() == [[2, 3], [4, 5], [6, 7], [6, 7]]


def test_states_plan_independently() -> None:
    optimizer = CEM(**SEARCH)
    noise = torch.randn(3, 10 * 256 * 4 * 2, generator=torch.Generator().manual_seed(0))
    guess = optimizer.initial(noise, 2)
    together = optimizer(quadratic, guess, Sliced(noise)).mean
    alone = optimizer(quadratic, guess[1:2], Sliced(noise[1:2])).mean
    torch.testing.assert_close(together[1:2], alone)


def test_colored_noise_has_unit_variance_and_the_spectrum() -> None:
    optimizer = ColoredCEM(beta=2.0, **{**SEARCH, "horizon": 16})
    matrix = optimizer.filter(torch.zeros(1, dtype=torch.float64)).numpy()
    np.testing.assert_allclose((matrix**2).sum(1), 1, atol=1e-12)  # the variance of every step
    power = np.abs(np.fft.rfft(matrix[0])) ** 2
    frequency = np.arange(1, 9)
    np.testing.assert_allclose(power[1:] / power[1], frequency[0] ** 2 / frequency**2.0, rtol=1e-9)
    white = ColoredCEM(beta=0.0, **SEARCH).filter(torch.zeros(1)).numpy()
    np.testing.assert_allclose(white, np.eye(4), atol=1e-6)


def test_categorical_cem_finds_the_best_choice_of_every_step() -> None:
    best = torch.nn.functional.one_hot(torch.tensor([2, 0, 1, 2]), 3).float()
    found = plan(CategoricalCEM(**SEARCH), lambda candidates: (candidates * best).sum((-1, -2)), size=3)
    assert torch.equal(found.mean, best.expand(3, 4, 3))
    torch.testing.assert_close(found.spread.sum(-1), torch.ones(3, 4))
    assert (found.spread >= 0.1 / 3 - 1e-6).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CEM(**{**SEARCH, "elites": 257}), "elites is 257; allowed: 1 to 256"),
        (lambda: CEM(**{**SEARCH, "horizon": 0}), "horizon is 0; allowed: 1 or more"),
        (lambda: ColoredCEM(beta=-1.0, **SEARCH), "beta is -1.0"),
        (lambda: CategoricalCEM(smoothing=2.0, **SEARCH), "smoothing is 2.0"),
        (lambda: CEM(**SEARCH).require(ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3)), "CEM searches continuous actions"),
        (lambda: CEM(**SEARCH).require(ActionSpec(1, False, (0.0,), (np.inf,))), "actions have none"),
        (lambda: CategoricalCEM(**SEARCH).require(ActionSpec(1, False, (-1.0,), (1.0,))), "searches discrete actions"),
    ],
)
def test_wrong_settings_and_actions_are_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()
