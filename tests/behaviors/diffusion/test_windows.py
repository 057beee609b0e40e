"""Ranges, futures of rows and shared means."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.behaviors.diffusion.ranges import Bounds, ChangeRange, LatentRange
from dreamset.behaviors.diffusion.windows import Futures, shared_mean
from tests.builders import seeded


def marks(*windows: str) -> tuple[Tensor, Tensor]:
    """``is_first`` and ``is_last`` of windows in which f begins an episode, l ends one and - does neither."""
    letters = [list(window) for window in windows]
    return tuple(torch.tensor([[letter == mark for letter in row] for row in letters]) for mark in "fl")


def test_every_seen_value_lies_within_the_scaled_bounds() -> None:
    bounds = Bounds(3)
    assert not bounds.known
    random = np.random.default_rng(0)
    seen = [torch.from_numpy(random.normal(size=(4, 5, 3)) * scale).float() for scale in (1, 3, 0.5)]
    for values in seen:
        bounds.widen(values)
    everything = torch.cat([values.flatten(0, 1) for values in seen]).numpy()
    np.testing.assert_allclose(bounds.low.numpy(), everything.min(0))
    np.testing.assert_allclose(bounds.high.numpy(), everything.max(0))
    scaled = bounds.scale(torch.from_numpy(everything))
    np.testing.assert_allclose(scaled.amin(0), -np.ones(3), atol=1e-6)
    np.testing.assert_allclose(scaled.amax(0), np.ones(3), atol=1e-6)
    np.testing.assert_allclose(bounds.restore(scaled), everything, atol=1e-5)
    assert bounds.known


def test_constant_element_becomes_zero_and_later_differences_stay_finite() -> None:
    bounds = Bounds(2)
    bounds.widen(torch.tensor([[4.0, 0.0], [4.0, 1.0]]))
    assert bounds.scale(torch.tensor([[4.0, 0.5], [4.5, 0.5]])).tolist() == [[0.0, 0.0], [0.5, 0.0]]


@pytest.mark.parametrize("kind", [LatentRange, ChangeRange])
def test_no_recorded_plan_lies_outside_its_range(kind: type[LatentRange] | type[ChangeRange]) -> None:
    ranges = kind(3, 2)
    latent, futures = torch.randn(4, 5, 2, generator=seeded(1)), 9 * torch.randn(4, 5, 3, 2, generator=seeded(2))
    ranges.widen(torch.cat([latent, futures[:, :, 0]]), torch.cat([futures, futures]))
    ranges.widen(futures, futures[..., None, :].expand(-1, -1, -1, 3, -1))
    plan = ranges.to_plan(latent, futures)
    assert float(plan.abs().max()) <= 1 + 1e-6
    torch.testing.assert_close(ranges.from_plan(latent, plan), futures)
    assert float(ranges.condition(latent).abs().max()) <= 1 + 1e-6


def test_changes_are_in_units_of_their_own_row_of_a_plan() -> None:
    ranges = ChangeRange(2, 1)
    latent = torch.tensor([[0.0], [100.0]])
    ranges.widen(latent, torch.tensor([[[-1.0], [5.0]], [[103.0], [95.0]]]))  # changes -1 to 3, then -5 to 5
    assert ranges.to_plan(latent, torch.tensor([[[1.0], [2.5]], [[103.0], [95.0]]])).flatten().tolist() == [
        0,
        0.5,
        1,
        -1,
    ]
    assert ranges.pair(torch.tensor([[50.0]]), torch.tensor([[53.0]])).tolist() == [[0.0, 1.0]]


def test_published_plans_are_latents_in_units_of_the_whole_range() -> None:
    ranges = LatentRange(2, 1)
    ranges.widen(torch.tensor([[0.0], [100.0]]), torch.zeros(2, 2, 1))
    assert ranges.to_plan(torch.tensor([50.0]), torch.tensor([[25.0], [100.0]])).flatten().tolist() == [-0.5, 1.0]
    assert ranges.pair(torch.tensor([[50.0]]), torch.tensor([[75.0]])).tolist() == [[0.0, 0.5]]


def test_bounds_are_saved_with_the_policy() -> None:
    bounds, other = Bounds(2), Bounds(2)
    bounds.widen(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
    other.load_state_dict(bounds.state_dict())
    assert (other.low.tolist(), other.high.tolist()) == ([1.0, -1.0], [3.0, 2.0])


def test_futures_stay_within_the_episode_and_repeat_its_last_row() -> None:
    is_first, is_last = marks("f--lf---")
    latent = torch.arange(8.0)[None, :, None]
    futures = Futures.of(latent, is_first, is_last, 2)
    expected = [[1, 2], [2, 3], [3, 3], [3, 3], [5, 6], [6, 7], [7, 7], [7, 7]]
    assert futures.rows[0, ..., 0].tolist() == expected
    known = [[1, 1], [1, 1], [1, 0], [0, 0], [1, 1], [1, 1], [1, 0], [0, 0]]
    assert futures.known[0].int().tolist() == known
    # row 2 ends its episode with row 3; row 6 does not know what follows the window; rows 3 and 7 have no future
    assert futures.complete[0].int().tolist() == [1, 1, 1, 0, 1, 1, 0, 0]


def test_an_episode_that_ends_with_the_window_has_complete_futures() -> None:
    is_first, is_last = marks("---l", "----")
    futures = Futures.of(torch.zeros(2, 4, 1), is_first, is_last, 3)
    assert futures.complete.int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.5 * 2 + 0.5 * 10), (0.9, 0.9 * 2 + 0.1 * 10), (1.0, 2.0)])
def test_groups_have_their_share_whatever_their_sizes(share: float, expected: float) -> None:
    values = torch.tensor([1.0, 3.0, 10.0, 99.0])
    chosen, others = torch.tensor([True, True, False, False]), torch.tensor([False, False, True, False])
    assert float(shared_mean(values, chosen, others, share=share)) == pytest.approx(expected)


def test_a_group_alone_counts_in_full() -> None:
    values, everything = torch.rand(6, generator=seeded()), torch.ones(6, dtype=torch.bool)
    for groups in ((everything, ~everything), (~everything, everything)):
        assert float(shared_mean(values, *groups, share=0.3)) == pytest.approx(float(values.mean()))
    assert float(shared_mean(values, ~everything, ~everything, share=0.3)) == 0
