"""Targets over several steps: equations, cuts and closed forms."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.latent_sac.targets import retrace, traces

Array = NDArray[np.float64]


def draws(*names: str, shape: tuple[int, int] = (3, 5)) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape) for name in names}


def run(arrays: dict[str, Array]) -> Array:
    return retrace(**{name: torch.from_numpy(value) for name, value in arrays.items()}).numpy()


def test_retrace_equals_its_sum_over_temporal_differences() -> None:
    arrays = draws("reward", "value", "taken") | {
        name: np.random.default_rng(1).uniform(0, 1, (3, 5)) for name in ("discount", "trace")
    }
    expected = np.zeros((3, 5))
    for b in range(3):
        for t in range(5):
            factor, total = 1.0, arrays["taken"][b, t]
            for k in range(t, 5):
                if k > t:
                    factor *= arrays["discount"][b, k - 1] * arrays["trace"][b, k]
                following = arrays["discount"][b, k] * arrays["value"][b, k]
                total += factor * (arrays["reward"][b, k] + following - arrays["taken"][b, k])
            expected[b, t] = total
    np.testing.assert_allclose(run(arrays), expected, rtol=1e-12)


def test_without_trace_the_target_is_that_of_one_step_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value, taken = (torch.randn(4, 7, generator=generator) for _ in range(3))
    discount = torch.full((4, 7), 0.97)
    none = traces(value, taken, torch.ones(4, 7, dtype=torch.bool), lambda_=0.0)
    assert torch.equal(retrace(reward, discount, value, taken, none), reward + discount * value)


def test_full_trace_of_the_recorded_policy_gives_the_return_until_the_window_ends() -> None:
    """If pi = mu takes one action in every state, V of a row is Q of its action, and every correction cancels."""
    arrays = draws("reward", "taken")
    arrays["value"] = np.concatenate([arrays["taken"][:, 1:], np.full((3, 1), 2.5)], axis=1)
    arrays["discount"], arrays["trace"] = np.full((3, 5), 0.9), np.ones((3, 5))
    for t in range(5):
        total = sum(0.9 ** (k - t) * arrays["reward"][:, k] for k in range(t, 5)) + 0.9 ** (5 - t) * 2.5
        np.testing.assert_allclose(run(arrays)[:, t], total, rtol=1e-12)


def test_nothing_after_a_border_or_a_true_end_reaches_a_target() -> None:
    arrays = draws("reward", "value", "taken") | {"discount": np.full((3, 5), 0.9), "trace": np.ones((3, 5))}
    arrays["trace"][0, 2] = 0.0  # transition 2 is of another episode than transition 1, or unknown
    arrays["discount"][1, 1] = 0.0  # the arrival of transition 1 is a true end
    before = run(arrays)
    arrays["reward"][:, 2:] += 1.0
    changed = np.abs(run(arrays) - before) > 1e-9
    assert changed[:, :2].tolist() == [[False, False], [False, False], [True, True]]
    assert changed[:, 2:].all()


def test_trace_is_the_clipped_ratio_of_probabilities() -> None:
    own, recorded = torch.tensor([0.2, 0.9, 0.5]).log(), torch.tensor([0.8, 0.3, 0.1]).log()
    known = torch.tensor([True, True, False])
    torch.testing.assert_close(traces(own, recorded, known, lambda_=0.5), torch.tensor([0.125, 0.5, 0.0]))


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_trace_of_impossible_actions_is_finite(gap: float) -> None:
    trace: Tensor = traces(torch.tensor([gap]), torch.tensor([0.0]), torch.tensor([True]), lambda_=1.0)
    assert trace.tolist() == [float(gap > 0)]
