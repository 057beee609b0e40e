"""Lambda-returns, compared with the weighted sum of k-step returns in equations 5 and 6 of Dreamer v1.

Returns of recorded rows are compared with their definition, row by row.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.behaviors.actor_critic.returns import lambda_return, replayed_return

Array = NDArray[np.float64]
HORIZON, COUNT = 6, 4


def inputs(seed: int = 0) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    shape = (HORIZON, COUNT)
    return random.normal(size=shape), random.normal(size=shape), random.uniform(0, 1, size=shape)


def computed_return(reward: Array, value: Array, discount: Array, *, lambda_: float) -> Array:
    tensors = (torch.from_numpy(array) for array in (reward, value, discount))
    return lambda_return(*tensors, lambda_=lambda_).numpy()


def k_step_return(reward: Array, value: Array, discount: Array, row: int, k: int) -> Array:
    """V^k = r_t + d_t r_{t+1} + ... + (d_t ... d_{t+k-1}) v_{t+k}; ``value[t]`` is v at row t + 1."""
    total, factor = np.zeros(COUNT), np.ones(COUNT)
    for n in range(row, row + k):
        total = total + factor * reward[n]
        factor = factor * discount[n]
    return total + factor * value[row + k - 1]


def weighted_sum(reward: Array, value: Array, discount: Array, *, lambda_: float) -> Array:
    """(1 - lambda) sum_{k < K} lambda^(k-1) V^k + lambda^(K-1) V^K, K steps to the horizon."""
    rows = []
    for row in range(HORIZON):
        longest = HORIZON - row
        several = [k_step_return(reward, value, discount, row, k) for k in range(1, longest + 1)]
        shares = [(1 - lambda_) * lambda_ ** (k - 1) for k in range(1, longest)] + [lambda_ ** (longest - 1)]
        assert sum(shares) == pytest.approx(1)
        rows.append(sum(share * each for share, each in zip(shares, several, strict=True)))
    return np.stack(rows)


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_lambda_return_is_the_weighted_sum_of_k_step_returns(lambda_: float) -> None:
    arguments = inputs()
    np.testing.assert_allclose(
        computed_return(*arguments, lambda_=lambda_), weighted_sum(*arguments, lambda_=lambda_), rtol=1e-12, atol=1e-13
    )


def test_lambda_zero_gives_one_step_targets() -> None:
    reward, value, discount = inputs()
    got = computed_return(reward, value, discount, lambda_=0)
    np.testing.assert_allclose(got, reward + discount * value, rtol=1e-13)


def test_lambda_one_is_the_discounted_sum_with_a_bootstrap() -> None:
    reward, value, _ = inputs()
    powers = 0.9 ** np.arange(HORIZON)
    expected = (powers[:, None] * reward).sum(axis=0) + 0.9**HORIZON * value[-1]
    got = computed_return(reward, value, np.full_like(reward, 0.9), lambda_=1)
    np.testing.assert_allclose(got[0], expected, rtol=1e-12)
    other = value.copy()
    other[:-1] += 100  # values before the horizon have no effect
    np.testing.assert_array_equal(computed_return(reward, other, np.full_like(reward, 0.9), lambda_=1), got)


def test_zero_discount_removes_later_rewards_and_values() -> None:
    reward, value, discount = inputs()
    discount[2] = 0
    got = computed_return(reward, value, discount, lambda_=0.95)
    np.testing.assert_array_equal(got[2], reward[2])
    later_reward, later_value = reward.copy(), value.copy()
    later_reward[3:] += 50
    later_value[2:] -= 50  # the values of rows 3 and later
    changed = computed_return(later_reward, later_value, discount, lambda_=0.95)
    np.testing.assert_array_equal(changed[:3], got[:3])
    assert (changed[3:] != got[3:]).all()


def test_error_for_different_shapes_names_them() -> None:
    with pytest.raises(ValueError, match=r"\[6, 4\].*\[7, 4\]"):
        lambda_return(torch.zeros(6, 4), torch.zeros(7, 4), torch.zeros(6, 4), lambda_=0.95)


# ---- recorded rows

ROWS = 9
FIRST_ROWS = {0, 4, 7}  # the window holds rows of three episodes
TRUE_ENDS = {3}  # the first episode has a true end, the second a time limit
UNKNOWN = {6, 8}  # the outcomes at the time limit and at the window's last row are unknown


def recorded(seed: int = 0) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Rewards, imagined returns, discounts and whether a row's outcome is known: [ROWS, COUNT]."""
    random = np.random.default_rng(seed)
    discount, known = np.full((ROWS, COUNT), 0.9), np.ones((ROWS, COUNT), bool)
    discount[list(TRUE_ENDS)] = 0
    known[list(UNKNOWN)] = False
    return random.normal(size=(ROWS, COUNT)), random.normal(size=(ROWS, COUNT)), discount, known


def replayed(*arrays: NDArray[np.generic], lambda_: float) -> Array:
    return replayed_return(*(torch.from_numpy(array) for array in arrays), lambda_=lambda_).numpy()


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_replayed_return_follows_its_recursive_definition(lambda_: float) -> None:
    reward, imagined, discount, known = recorded()

    def by_rule(row: int) -> Array:
        if row in TRUE_ENDS:
            return reward[row]
        if row + 1 == ROWS or row + 1 in FIRST_ROWS:
            return imagined[row]
        return reward[row] + 0.9 * ((1 - lambda_) * imagined[row + 1] + lambda_ * by_rule(row + 1))

    expected = np.stack([by_rule(row) for row in range(ROWS)])
    got = replayed(reward, imagined, discount, known, lambda_=lambda_)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_replayed_return_with_lambda_one_sums_only_its_own_episode() -> None:
    reward, imagined, discount, known = recorded()
    got = replayed(reward, imagined, discount, known, lambda_=1.0)
    first = sum(0.9**row * reward[row] for row in range(4))  # no bootstrap after a true end
    second = reward[4] + 0.9 * reward[5] + 0.81 * imagined[6]
    np.testing.assert_allclose(got[[0, 4]], [first, second], rtol=1e-12)


def test_replayed_return_at_a_true_end_is_the_last_reward() -> None:
    reward, imagined, discount, known = recorded()
    discount[-1], known[-1] = 0, True
    got = replayed(reward, imagined, discount, known, lambda_=0.95)
    np.testing.assert_array_equal(got[-1], reward[-1])
    np.testing.assert_allclose(got[-2], reward[-2] + 0.9 * (0.05 * imagined[-1] + 0.95 * reward[-1]), rtol=1e-12)
