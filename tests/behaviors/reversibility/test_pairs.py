"""Pairs of rows: order, distance, and the borders of episodes."""

import pytest
import torch
from torch import Tensor

from dreamset.behaviors.reversibility.pairs import draw_pairs
from dreamset.behaviors.windows import mean_of_known, rows_left
from tests.builders import seeded

FIRST = torch.tensor([[1, 0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)


def numbered(is_first: Tensor) -> Tensor:
    """Features [B, T, 2]: the number of the sequence and that of the row."""
    count, length = is_first.shape
    return torch.stack(torch.meshgrid(torch.arange(count), torch.arange(length), indexing="ij"), -1).float()


def episode_of(is_first: Tensor) -> list[list[int]]:
    """Brute force: the number of the episode of every row."""
    return [[sum(row[1 : t + 1]) for t in range(len(row))] for row in is_first.int().tolist()]


def drawn(window: int | None, *, draws: int = 200) -> list[tuple[int, int, int]]:
    """(sequence, earlier row, later row) of all known pairs of many draws."""
    features, generator, found = numbered(FIRST), seeded(), []
    for _ in range(draws):
        pairs = draw_pairs(features, features, FIRST, generator, window=window)
        assert torch.equal(pairs.earlier, features)
        both = torch.cat([pairs.earlier, pairs.later], -1)[pairs.known].int().tolist()
        assert all(sequence == other for sequence, _, other, _ in both)
        found += [(sequence, before, after) for sequence, before, _, after in both]
    return found


@pytest.mark.parametrize("window", [None, 1, 3])
def test_pairs_are_all_ordered_pairs_of_one_episode_within_the_window_and_no_others(window: int | None) -> None:
    episode = episode_of(FIRST)
    length = FIRST.shape[1]
    expected = {
        (b, t, u)
        for b in range(len(FIRST))
        for t in range(length)
        for u in range(t + 1, length)
        if episode[b][t] == episode[b][u] and (window is None or u - t <= window)
    }
    assert set(drawn(window)) == expected


def test_distances_of_a_row_are_equally_likely() -> None:
    later = torch.tensor([u for b, t, u in drawn(5, draws=800) if (b, t) == (1, 0)])
    shares = torch.bincount(later, minlength=6)[1:] / len(later)
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.06, rtol=0)


def test_rows_left_are_counted_to_the_end_of_the_episode() -> None:
    assert rows_left(FIRST).tolist() == [[3, 2, 1, 0, 2, 1, 0, 0], [7, 6, 5, 4, 3, 2, 1, 0], [0, 6, 5, 4, 3, 2, 1, 0]]


def test_both_rows_of_a_pair_have_features_of_their_own() -> None:
    features = numbered(FIRST)
    pairs = draw_pairs(features, -features, FIRST, seeded())
    assert torch.equal(pairs.earlier, features)
    assert (pairs.later <= 0).all()


def test_equal_generators_draw_equal_pairs() -> None:
    first, second, other = (
        draw_pairs(numbered(FIRST), numbered(FIRST), FIRST, seeded(seed)).later for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_episodes_of_one_row_give_no_pair(length: int) -> None:
    is_first = torch.ones(2, length, dtype=torch.bool)
    pairs = draw_pairs(numbered(is_first), numbered(is_first), is_first, seeded())
    assert not pairs.known.any()
    values = torch.full((2, length), torch.pi, requires_grad=True)
    mean_of_known(values, pairs.known).backward()
    assert values.grad is not None
    assert values.grad.abs().sum() == 0


def test_the_mean_of_known_values_ignores_the_others() -> None:
    values, known = torch.tensor([1.0, 2.0, 40.0]), torch.tensor([True, True, False])
    assert mean_of_known(values, known).item() == 1.5
