"""Noise schedule, loss and sampling against closed forms, in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.behaviors.diffusion.diffusion import Diffusion, cosine_signal, evenly_spaced
from dreamset.behaviors.planning.draws import Counted, Generated
from dreamset.core.errors import UserError
from tests.builders import seeded

MEAN, STD = 0.2, 0.15


def draws(count: int, seed: int = 0) -> Generated:
    return Generated(count, torch.zeros(0, dtype=torch.float64), seeded(seed))


def of_gaussian(diffusion: Diffusion) -> Callable[[Tensor, Tensor], Tensor]:
    """The best prediction of the noise for data from N(MEAN, STD^2): E[noise | x_k]."""

    def denoise(x: Tensor, step: Tensor) -> Tensor:
        signal = diffusion.signal[step][:, None]
        variance = signal * STD**2 + 1 - signal
        return (1 - signal).sqrt() * (x - signal.sqrt() * MEAN) / variance

    return denoise


def test_signal_is_the_cosine_schedule_with_clipped_betas() -> None:
    steps = 50
    signal = cosine_signal(steps).numpy()

    def kept(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    expected, product = [], 1.0
    for k in range(steps):
        product *= 1 - min(1 - kept((k + 1) / steps) / kept(k / steps), 0.999)
        expected.append(product)
    np.testing.assert_allclose(signal, expected, rtol=1e-12)
    assert (np.diff(signal) < 0).all()
    assert signal[-1] / signal[-2] == pytest.approx(0.001)  # without the limit, the last step would keep nothing
    # before the limit the product telescopes to the cosine itself
    np.testing.assert_allclose(signal[:-1], [kept((k + 1) / steps) / kept(0) for k in range(steps - 1)], rtol=1e-10)


def test_noised_data_have_the_closed_form_mean_and_variance() -> None:
    diffusion = Diffusion(steps=20)
    x, step = torch.full((20_000, 1), 0.7, dtype=torch.float64), torch.full((20_000,), 9)
    noised = diffusion.noised(x, step, torch.randn(x.shape, generator=seeded(), dtype=torch.float64))
    signal = float(diffusion.signal[9])
    assert float(noised.mean()) == pytest.approx(0.7 * math.sqrt(signal), abs=0.02)
    assert float(noised.var()) == pytest.approx(1 - signal, rel=0.05)


def test_errors_are_zero_for_a_network_that_knows_the_noise() -> None:
    diffusion = Diffusion(steps=10)
    x = torch.rand(7, 3, dtype=torch.float64, generator=seeded()) * 2 - 1

    def exact(noised: Tensor, step: Tensor) -> Tensor:
        signal = diffusion.signal[step][:, None]
        return (noised - signal.sqrt() * x) / (1 - signal).sqrt()

    assert float(diffusion.errors(exact, x, seeded()).max()) < 1e-20
    blind = diffusion.errors(lambda noised, _: torch.zeros_like(noised), x.expand(1000, 7, 3), seeded())
    assert float(blind.mean()) == pytest.approx(1, abs=0.05)  # the variance of the noise


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("moves", [1, 2, 7, 20])
def test_with_the_exact_noise_the_sampler_returns_the_data(eta: float, moves: int) -> None:
    diffusion = Diffusion(steps=20, sampling_steps=moves, eta=eta)
    data = torch.rand(5, 2, 3, dtype=torch.float64, generator=seeded()) * 2 - 1

    def exact(x: Tensor, step: Tensor) -> Tensor:
        signal = diffusion.signal[step][:, None, None]
        return (x - signal.sqrt() * data) / (1 - signal).sqrt()

    torch.testing.assert_close(diffusion.sample(exact, (2, 3), draws(5)), data, rtol=0, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_of_a_gaussian_have_its_mean_and_variance(eta: float) -> None:
    diffusion = Diffusion(steps=400, eta=eta)
    count = 4000
    samples = diffusion.sample(of_gaussian(diffusion), (1,), draws(count))
    assert float(samples.mean()) == pytest.approx(MEAN, abs=4 * STD / math.sqrt(count))
    assert float(samples.std()) == pytest.approx(STD, rel=0.06)


def test_implicit_sampling_maps_quantiles_to_quantiles() -> None:
    diffusion = Diffusion(steps=400, eta=0.0)
    start = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    samples = diffusion.sample(of_gaussian(diffusion), (1,), lambda *_: start)
    torch.testing.assert_close(samples, MEAN + STD * start, rtol=0, atol=0.006)


def test_a_move_has_mean_and_variance_of_the_posterior() -> None:
    """Ancestral sampling: the textbook form in alphas and betas, for neighbouring steps."""
    diffusion = Diffusion(steps=30)
    step, guess = 12, 0.3
    x = torch.tensor([[0.9]], dtype=torch.float64)
    signal, before = (float(diffusion.signal[k]) for k in (step, step - 1))
    alpha = signal / before
    beta = 1 - alpha
    noise = (x - math.sqrt(signal) * guess) / math.sqrt(1 - signal)

    def moved(normal: float) -> float:
        return float(diffusion._moved(x, noise, step, step - 1, lambda: torch.full_like(x, normal)))

    mean = (math.sqrt(before) * beta * guess + math.sqrt(alpha) * (1 - before) * 0.9) / (1 - signal)
    assert moved(0.0) == pytest.approx(mean, abs=1e-12)
    assert moved(1.0) - moved(0.0) == pytest.approx(math.sqrt(beta * (1 - before) / (1 - signal)), abs=1e-12)


def test_samples_are_clipped_to_the_bounds() -> None:
    diffusion = Diffusion(steps=10, eta=0.0)
    samples = diffusion.sample(lambda x, _: -5 * torch.ones_like(x), (4,), draws(50))
    assert float(samples.abs().max()) == 1.0


@pytest.mark.parametrize(("eta", "numbers"), [(0.0, 6), (1.0, 6 * 5)])
def test_implicit_sampling_draws_only_the_start(eta: float, numbers: int) -> None:
    diffusion = Diffusion(steps=9, sampling_steps=5, eta=eta)
    needed = Counted(torch.zeros(1))
    diffusion.sample(lambda x, _: x, (2, 3), needed)
    assert needed.total == numbers


def test_visited_steps_are_distinct_and_include_both_ends() -> None:
    for steps in (2, 5, 100):
        for count in range(2, steps + 1):
            visited = evenly_spaced(steps, count)
            assert (visited[0], visited[-1], len(set(visited))) == (steps - 1, 0, count)
            assert visited == sorted(visited, reverse=True)
    assert evenly_spaced(100, 1) == [99]


@pytest.mark.parametrize("wrong", [{"sampling_steps": 11}, {"sampling_steps": 0}, {"eta": 1.5}])
def test_impossible_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"diffusion.{next(iter(wrong))} is .*allowed"):
        Diffusion(steps=10, **wrong)
