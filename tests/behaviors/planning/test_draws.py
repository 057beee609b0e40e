"""Random numbers of a search, and their conversion to other distributions."""

import math

import pytest
import torch

from dreamset.behaviors.planning.draws import Counted, Generated, Sliced
from dreamset.models.distributions import noise_of_kind
from tests.builders import seeded

NORMAL = torch.tensor([-10.0, -6.0, -3.0, -1.0, 0.0, 0.5, 2.0, 6.0, 10.0])
PHI = [0.5 * (1 + math.erf(float(x) / math.sqrt(2))) for x in NORMAL]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "uniform", "gumbel", "none"])
def test_converted_noise_is_finite_and_increasing_up_to_ten_standard_deviations(kind: str, dtype: torch.dtype) -> None:
    noise = noise_of_kind(kind, NORMAL.to(dtype))
    assert noise.isfinite().all()
    assert (noise.diff() >= 0).all()
    assert noise.dtype == dtype


def test_converted_noise_has_the_quantiles_of_its_distribution() -> None:
    inner, phi = NORMAL[2:-2].double(), PHI[2:-2]
    assert noise_of_kind("uniform", inner).tolist() == pytest.approx(phi)
    gumbel = noise_of_kind("gumbel", inner)
    assert (-(-gumbel).exp()).exp().tolist() == pytest.approx(phi)  # its distribution function is exp(-exp(-g))
    assert torch.equal(noise_of_kind("normal", inner), inner)


def test_uniform_noise_stays_between_zero_and_one() -> None:
    uniform = noise_of_kind("uniform", NORMAL)
    assert uniform.min() > 0
    assert uniform.max() < 1


def test_slices_are_taken_in_the_order_of_the_calls_and_never_twice() -> None:
    numbers = torch.arange(22.0).reshape(2, 11)
    draw = Sliced(numbers)
    parts = [draw(2, 3), draw(1), draw(4)]
    assert [part.shape for part in parts] == [(2, 2, 3), (2, 1), (2, 4)]
    assert torch.equal(torch.cat([part.flatten(1) for part in parts], 1), numbers)
    assert draw.used == 11


def test_counted_numbers_are_those_that_slices_take() -> None:
    counted = Counted(torch.zeros(2, 5, dtype=torch.float64))
    assert counted(2, 3).shape == (2, 2, 3)
    assert counted(4, 0).shape == (2, 4, 0)
    counted(7)
    assert counted.total == 13


def test_generated_numbers_are_new_in_every_call_and_for_every_state() -> None:
    draw = Generated(3, torch.zeros(1, dtype=torch.float64), seeded())
    first, second = draw(1000), draw(1000)
    assert first.dtype == torch.float64
    assert len(torch.cat([first, second]).unique()) == 6000
    assert torch.equal(Generated(3, first, seeded())(1000), first)
