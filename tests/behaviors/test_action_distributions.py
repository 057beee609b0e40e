"""Action distributions, compared with densities in NumPy, numerical integrals and finite differences."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.behaviors.action_distributions import ActionDistribution, BoundedNormal, TruncatedNormal
from dreamset.models.distributions import OneHotCategorical, TanhNormal
from tests.builders import seeded

Array = NDArray[np.float64]
PARAMETERS = [(0.0, 0.5), (0.9, 0.3), (-1.0, 0.1), (1.0, 2.1), (-0.4, 1.0)]


def standard_cdf(x: Array) -> Array:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in np.ravel(x)]).reshape(np.shape(x))


def normal_density(x: Array, mean: float, std: float) -> Array:
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def truncated_density(x: Array, location: float, scale: float) -> Array:
    low, high = standard_cdf((np.array([-1.0, 1.0]) - location) / scale)
    return normal_density(x, location, scale) / (high - low)


def centres(low: float, high: float, cells: int = 200_000) -> tuple[Array, float]:
    width = (high - low) / cells
    return low + (np.arange(cells) + 0.5) * width, width


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("location", "scale"), PARAMETERS)
def test_truncated_normal_density_is_the_renormalised_normal_density(location: float, scale: float) -> None:
    x, width = centres(-1, 1)
    expected = truncated_density(x, location, scale)
    assert expected.sum() * width == pytest.approx(1, abs=1e-8)
    got = TruncatedNormal(double(location), double(scale)).log_prob(torch.from_numpy(x)[:, None])
    np.testing.assert_allclose(got.numpy(), np.log(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("location", "scale"), PARAMETERS)
def test_truncated_normal_entropy_matches_the_numerical_integral(location: float, scale: float) -> None:
    x, width = centres(-1, 1)
    density = truncated_density(x, location, scale)
    expected = -(density * np.log(np.maximum(density, 1e-300))).sum() * width
    assert float(TruncatedNormal(double(location), double(scale)).entropy()) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("location", "scale"), [(0.3, 0.5), (5.0, 0.1), (-3.0, 2.0), (0.0, 5.0)])
def test_tanh_normal_entropy_matches_the_numerical_integral(location: float, scale: float) -> None:
    x, width = centres(-12, 12)
    u = location + scale * x
    slope = 2 * (math.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))  # ln(1 - tanh(u)^2), symmetric in u
    normal = math.log(scale) + 0.5 * math.log(2 * math.pi * math.e)
    expected = normal + (normal_density(x, 0, 1) * slope).sum() * width
    got = float(TanhNormal(double(location), double(scale)).entropy())
    assert got == pytest.approx(expected, abs=0.03 if scale == 5 else 2e-4)


def test_bounded_normal_has_the_density_and_entropy_of_a_normal() -> None:
    x, width = centres(-8, 8)
    distribution = BoundedNormal(double(0.4), double(0.7))
    density = normal_density(x, 0.4, 0.7)
    got = distribution.log_prob(torch.from_numpy(x)[:, None]).numpy()
    np.testing.assert_allclose(got, -0.5 * ((x - 0.4) / 0.7) ** 2 - math.log(0.7 * math.sqrt(2 * math.pi)), rtol=1e-12)
    assert float(distribution.entropy()) == pytest.approx(-(density * np.log(density)).sum() * width, abs=1e-8)


@pytest.mark.parametrize("kind", [TruncatedNormal, BoundedNormal, TanhNormal])
def test_log_densities_and_entropies_sum_over_action_elements(kind: type[TruncatedNormal]) -> None:
    location, scale, action = double(0.3, -0.8), double(0.5, 1.5), double(0.1, -0.9)
    both = kind(location, scale)
    each = [kind(location[k : k + 1], scale[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(both.entropy(), each[0].entropy() + each[1].entropy())
    torch.testing.assert_close(both.log_prob(action), each[0].log_prob(action[:1]) + each[1].log_prob(action[1:]))


@pytest.mark.parametrize(("location", "scale"), PARAMETERS)
def test_truncated_normal_samples_are_its_quantiles(location: float, scale: float) -> None:
    x, width = centres(-1, 1)
    cumulative = truncated_density(x, location, scale).cumsum() * width  # at the right edges of the cells
    noise = np.linspace(0.01, 0.99, 99)
    expected = np.interp(noise, cumulative, x + width / 2)
    got = TruncatedNormal(double(location), double(scale)).sample(torch.from_numpy(noise)[:, None])
    np.testing.assert_allclose(got[:, 0].numpy(), expected, atol=2e-5)


def test_truncated_normal_samples_have_the_gradient_of_the_quantile() -> None:
    noise, step = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)[:, None], 1e-6
    values = {"location": 0.6, "scale": 0.8}
    for name in values:
        inputs = {key: double(value).requires_grad_(key == name) for key, value in values.items()}
        sample = TruncatedNormal(**inputs).sample(noise)
        (derivative,) = torch.autograd.grad(sample.sum(), inputs[name])
        shifted = [
            TruncatedNormal(**{key: double(value + (key == name) * sign * step) for key, value in values.items()})
            for sign in (1, -1)
        ]
        difference = (shifted[0].sample(noise) - shifted[1].sample(noise)).sum() / (2 * step)
        assert float(derivative) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize(("location", "scale"), PARAMETERS)
@pytest.mark.parametrize("noise", [0.0, 2.0**-24, 1 - 2.0**-24])
def test_truncated_normal_samples_and_gradients_are_finite_for_all_noise(
    location: float, scale: float, noise: float
) -> None:
    parameters = torch.tensor([location, scale], requires_grad=True)
    distribution = TruncatedNormal(parameters[:1], parameters[1:])
    sample = distribution.sample(torch.tensor([noise]))
    (distribution.log_prob(sample) + sample.sum()).backward()
    assert -1 <= float(sample.detach()) <= 1
    assert torch.isfinite(parameters.grad).all()


DISTRIBUTIONS = [
    TruncatedNormal(torch.tensor([0.5, -0.9]), torch.tensor([0.4, 1.0])),
    BoundedNormal(torch.tensor([0.5, -0.9]), torch.tensor([0.4, 1.0])),
    TanhNormal(torch.tensor([0.5, -0.9]), torch.tensor([0.4, 1.0])),
    OneHotCategorical(torch.tensor([0.5, -0.9]), unimix=0.01),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda value: type(value).__name__)
def test_every_distribution_draws_noise_from_the_given_generator(distribution: ActionDistribution) -> None:
    draws = [distribution.noise(seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert distribution.sample(draws[0]).shape == distribution.mode.shape == (2,)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda value: type(value).__name__)
def test_entropy_is_the_mean_of_minus_log_prob_over_samples(distribution: ActionDistribution) -> None:
    many = type(distribution)(
        *(value.double().expand(50_000, 2) for value in vars_of(distribution)),
        **({"unimix": 0.01} if isinstance(distribution, OneHotCategorical) else {}),
    )
    surprise = -many.log_prob(many.sample(many.noise(seeded()).double()))
    assert float(surprise.mean()) == pytest.approx(
        float(many.entropy()[0]), abs=5 * float(surprise.std()) / 50_000**0.5
    )


def vars_of(distribution: ActionDistribution) -> list[torch.Tensor]:
    values = [getattr(distribution, name) for name in type(distribution).__dataclass_fields__]
    return [value for value in values if isinstance(value, torch.Tensor)]
