"""Plan optimisers on costs with a known optimum, without any model."""

import math
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


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "equal": lambda candidates: 0 * candidates.sum((-1, -2)),
    "nan": lambda candidates: torch.nan * candidates.sum((-1, -2)),
    "half nan": lambda candidates: candidates[..., 0, 0] / (candidates[..., 0, 0] > 0),
    "infinite": lambda candidates: candidates[..., 0, 0] / 0.0,
}


@pytest.mark.parametrize("name", [*CONTINUOUS, "categorical"])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("elites", [1, 8])
def test_equal_and_invalid_scores_give_finite_plans_in_the_box(name: str, score: str, elites: int) -> None:
    search = {**SEARCH, "candidates": 8, "elites": elites, "iterations": 2}
    optimizer = (CONTINUOUS | {"categorical": CategoricalCEM})[name](**search)
    found = plan(optimizer, SCORES[score])
    for tensor in (found.mean, found.spread, found.elites, found.weights, optimizer.next_guess(found)):
        assert torch.isfinite(tensor).all()
    assert found.mean.abs().max() <= 1
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3))


def test_a_score_that_is_nan_is_the_worst() -> None:
    def half(candidates: Tensor) -> Tensor:
        first = candidates[..., 0, 0]
        return torch.where(first > 0, -first, torch.nan)

    found = plan(CEM(**{**SEARCH, "iterations": 1}), half)
    assert (found.elites[..., 0] > 0).all()


def test_the_gradient_planner_climbs_the_expected_score() -> None:
    """The score -(a - noise)^2 has its expected optimum at 0; each outcome of the noise has another one."""
    generator = torch.Generator().manual_seed(1)

    def noisy(candidates: Tensor) -> Tensor:
        return -(candidates[..., 0, 0] - 0.8 * torch.randn(candidates.shape[:2], generator=generator).sign()).square()

    optimizer = GradientPlanner(horizon=1, candidates=2, elites=2, iterations=300, lr=0.01, initial_std=0.5)
    assert plan(optimizer, noisy, count=20, size=1).mean.abs().mean() < 0.15  # with fixed noise about 0.4


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
    steps, other = torch.arange(8.0).reshape(1, 4, 2), torch.ones(1, 4, 2)
    rest = [[2, 3], [4, 5], [6, 7], [6, 7]]
    assert CEM(**SEARCH).next_guess(Plan(steps, other, other, other))[0].tolist() == rest
    assert CategoricalCEM(**SEARCH).next_guess(Plan(other, steps, other, other))[0].tolist() == rest  # probabilities


def test_states_plan_independently() -> None:
    optimizer = CEM(**SEARCH)
    noise = torch.randn(3, 10 * 256 * 4 * 2, generator=torch.Generator().manual_seed(0))
    guess = optimizer.initial(noise, 2)
    together = optimizer(quadratic, guess, Sliced(noise)).mean
    alone = optimizer(quadratic, guess[1:2], Sliced(noise[1:2])).mean
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("horizon", [1, 2, 7, 16])
def test_colored_noise_has_unit_variance_and_the_spectrum(horizon: int) -> None:
    matrix = np.array(ColoredCEM(beta=2.0, **{**SEARCH, "horizon": horizon}).filter)
    np.testing.assert_allclose((matrix**2).sum(1), 1, atol=1e-12)  # the variance of every step
    power = np.abs(np.fft.rfft(matrix[0])) ** 2
    expected = np.maximum(np.arange(len(power)), 1) ** -2.0
    np.testing.assert_allclose(power / power[0], expected, rtol=1e-9)
    assert np.allclose(ColoredCEM(beta=0.0, **{**SEARCH, "horizon": horizon}).filter, np.eye(horizon), atol=1e-12)


def test_candidates_of_colored_cem_are_the_filtered_noise() -> None:
    optimizer = ColoredCEM(beta=1.0, initial_std=0.2, **{**SEARCH, "iterations": 1})
    noise = torch.randn(3, 256 * 4 * 2, generator=torch.Generator().manual_seed(3))
    seen: list[Tensor] = []

    def watched(candidates: Tensor) -> Tensor:
        seen.append(candidates)
        return quadratic(candidates)

    optimizer(watched, torch.zeros(3, 4, 2), Sliced(noise))
    expected = np.einsum("st,njta->njsa", np.array(optimizer.filter), noise.double().numpy().reshape(3, 256, 4, 2))
    np.testing.assert_allclose(seen[0], np.clip(0.2 * expected, -1, 1), atol=1e-6)


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
        (lambda: CEM(initial_std=math.nan, **SEARCH), "initial_std is nan; allowed: above 0"),
        (lambda: CEM(min_std=-1.0, **SEARCH), "min_std is -1.0; allowed: 0 or more"),
        (lambda: MPPI(temperature=0.0, **SEARCH), "temperature is 0.0; allowed: above 0"),
        (lambda: MPPI(min_std=3.0, **SEARCH), "min_std is 3.0; allowed: 0 to max_std, 2.0"),
        (lambda: MPPI(max_std=math.inf, **SEARCH), "max_std is inf"),
        (lambda: MPPI(momentum=1.0, **SEARCH), "momentum is 1.0; allowed: 0 to below 1"),
        (lambda: GradientPlanner(lr=0.0, **SEARCH), "lr is 0.0"),
        (lambda: GradientPlanner(initial_std=-1.0, **SEARCH), "initial_std is -1.0"),
        (lambda: CategoricalCEM(smoothing=2.0, **SEARCH), "smoothing is 2.0"),
        (lambda: CategoricalCEM(smoothing=0.0, **SEARCH), "smoothing is 0.0; allowed: above 0"),
        (lambda: CEM(**SEARCH).require(ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3)), "CEM searches continuous actions"),
        (lambda: CEM(**SEARCH).require(ActionSpec(1, False, (0.0,), (np.inf,))), "actions have none"),
        (lambda: CategoricalCEM(**SEARCH).require(ActionSpec(1, False, (-1.0,), (1.0,))), "searches discrete actions"),
    ],
)
def test_wrong_settings_and_actions_are_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_a_sample_is_an_elite_by_weight_plus_noise_of_the_spread() -> None:
    count = 20_000
    elites = torch.tensor([[-0.5], [0.25], [0.6]]).expand(count, 3, 1)
    weights = torch.tensor([0.2, 0.5, 0.3]).expand(count, 3)
    spread = torch.full((count, 2, 1), 0.01)
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    action = CEM(**SEARCH).sample(Plan(spread, spread, elites, weights), noise)
    nearest = (action - elites[:, :, 0]).abs().argmin(1)
    shares = torch.bincount(nearest, minlength=3) / count
    torch.testing.assert_close(shares, weights[0], atol=0.015, rtol=0)
    distance = action[:, 0] - elites[0, nearest, 0]
    assert float(distance.std()) == pytest.approx(0.01, rel=0.05)


def test_samples_stay_in_the_box_and_choices_stay_one_hot() -> None:
    noise = 5 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    elites, weights = torch.eye(3).expand(50, 3, 3), torch.full((50, 3), 1 / 3)
    found = Plan(elites, torch.ones(50, 3, 3), elites, weights)
    assert CEM(**SEARCH).sample(found, noise).abs().max() == 1
    choices = CategoricalCEM(**SEARCH).sample(found, noise)
    assert torch.equal(choices.sort(dim=-1).values, torch.tensor([0.0, 0.0, 1.0]).expand(50, 3))


def test_the_spread_of_mppi_never_exceeds_its_maximum() -> None:
    ends = torch.tensor([-1.0, 1.0]).repeat(12)[None, :, None, None].expand(3, -1, 4, 2)  # equal scores, far apart
    found = plan(
        MPPI(max_std=0.1, min_std=0.05, **SEARCH), lambda plans: -(1 - plans.abs()).sum((-1, -2)), proposals=ends
    )
    torch.testing.assert_close(found.spread, torch.full_like(found.spread, 0.1))
