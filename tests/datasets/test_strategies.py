"""Every strategy samples with the probabilities in its docstring."""

from collections import Counter

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets.strategies import (
    ByRecency,
    ByReturn,
    Candidates,
    Ends,
    Product,
    Strategy,
    UniformEpisodes,
    UniformWindows,
    WindowDraw,
)
from dreamset.datasets.windows import WindowIndex

LENGTHS = [5, 2, 9, 3, 6]  # with windows of 3: 3, 0, 7, 1 and 4
RETURNS = [1.0, 99.0, -1.0, 2.0, 3.0]  # the episode without a window has the highest
WINDOW = 3
DRAWS = 40_000


def drawn(strategy: Strategy, *, crossing: bool = False) -> Counter[tuple[int, int]]:
    """How often each window was drawn; windows by episode and row of their last row."""
    index = WindowIndex(LENGTHS, WINDOW, crossing=crossing)
    firsts = WindowDraw(strategy, index, np.array(RETURNS)).first_rows(DRAWS, np.random.default_rng(1))
    last = {first: list(index.slices(first))[-1] for first in np.unique(firsts).tolist()}
    return Counter((last[first].episode, last[first].stop - 1) for first in firsts.tolist())


def excess(counts: Counter[tuple[int, int]], wanted: dict[tuple[int, int], float]) -> float:
    """Chi-square against ``wanted``, in standard deviations above its expectation."""
    assert sum(wanted.values()) == pytest.approx(1)
    assert counts.keys() <= {window for window, probability in wanted.items() if probability}
    chi_square = sum((counts[window] - DRAWS * p) ** 2 / (DRAWS * p) for window, p in wanted.items() if p)
    freedom = sum(p > 0 for p in wanted.values()) - 1
    return (chi_square - freedom) / np.sqrt(2 * freedom)


def spread(episodes: dict[int, float]) -> dict[tuple[int, int], float]:
    """Windows of an episode share its probability equally."""
    total = sum(episodes.values())
    rows = {episode: range(WINDOW - 1, LENGTHS[episode]) for episode in episodes}
    return {(episode, row): p / total / len(rows[episode]) for episode, p in episodes.items() for row in rows[episode]}


PER_WINDOW = spread({0: 3, 2: 7, 3: 1, 4: 4})
PER_EPISODE = spread({0: 1, 2: 1, 3: 1, 4: 1})
PER_RETURN = spread({0: np.exp(1.0), 2: 1.0, 3: np.exp(1.5), 4: np.exp(2.0)})  # temperature 0.5, range 4
PER_AGE = spread({0: 2**-1.5, 2: 2**-1.0, 3: 2**-0.5, 4: 1.0})  # half-life 2

STATED = {
    "windows": (UniformWindows(), PER_WINDOW),
    "episodes": (UniformEpisodes(), PER_EPISODE),
    "return": (ByReturn(temperature=0.5), PER_RETURN),
    "recency": (ByRecency(half_life=2.0), PER_AGE),
    "return of each window": (
        Product([UniformWindows(), ByReturn(temperature=0.5)]),
        spread({0: 3 * np.exp(1.0), 2: 7.0, 3: np.exp(1.5), 4: 4 * np.exp(2.0)}),
    ),
    "ends": (
        Ends(0.3),
        {window: 0.7 * p + 0.3 * share * (window[1] == LENGTHS[window[0]] - 1)
         for (window, p) in PER_WINDOW.items() for share in [{0: 3, 2: 7, 3: 1, 4: 4}[window[0]] / 15]},
    ),
    "ends of recent episodes": (
        Ends(1.0, ByRecency(half_life=2.0)),
        {(e, LENGTHS[e] - 1): sum(p for window, p in PER_AGE.items() if window[0] == e) for e in (0, 2, 3, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATED)
def test_windows_are_sampled_with_the_documented_probabilities(name):
    strategy, wanted = STATED[name]
    assert excess(drawn(strategy), wanted) < 4


@pytest.mark.parametrize("name", STATED)
def test_probability_test_distinguishes_strategies_from_uniform_windows(name):
    strategy, _ = STATED[name]
    counts = drawn(strategy)
    assert (name == "windows") == (excess(counts, PER_WINDOW) < 4)


def test_crossing_windows_begin_at_every_row_equally_often():
    ends = [(episode, row) for episode, rows in enumerate(LENGTHS) for row in range(rows)][WINDOW - 1 :]
    assert excess(drawn(UniformWindows(), crossing=True), dict.fromkeys(ends, 1 / len(ends))) < 4


def test_short_episodes_are_sampled_by_crossing_windows():
    wanted = {
        (e, row): 0.2 / len(rows) for e, n in enumerate(LENGTHS) for rows in [range(2 * (e == 0), n)] for row in rows
    }
    assert excess(drawn(UniformEpisodes(), crossing=True), wanted) < 4


def test_share_of_ends_holds_for_crossing_windows():
    counts = drawn(Ends(1.0, UniformEpisodes()), crossing=True)
    assert excess(counts, {(episode, rows - 1): 0.2 for episode, rows in enumerate(LENGTHS)}) < 4


def log_weights(strategy: Strategy, *returns: float) -> list[float]:
    return strategy.log_weights(Candidates(np.ones(len(returns), np.int64), np.array(returns))).tolist()


def test_by_return_ignores_the_scale_and_equal_returns_are_equally_likely():
    strategy = ByReturn(temperature=0.1)
    assert log_weights(strategy, 1.0, 2.0, 3.0) == pytest.approx([0.0, 5.0, 10.0])
    assert log_weights(strategy, -1000.0, 0.0, 1000.0) == pytest.approx([0.0, 5.0, 10.0])
    assert log_weights(strategy, 7.0, 7.0) == [0.0, 0.0]


def test_weights_beyond_the_range_of_floats_are_sampled():
    extreme = Product([ByReturn(temperature=1e-4), ByRecency(half_life=1e-3)])  # best but oldest against newest
    index = WindowIndex([4] * 50, window=2)
    returns = np.array([1.0] + [0.0] * 49)
    firsts = WindowDraw(extreme, index, returns).first_rows(100, np.random.default_rng(0))
    assert set(firsts.tolist()) == {196, 197, 198}  # exp(10000) is less than 2 ** 49000
    assert not np.isnan(log_weights(extreme, *returns)).any()


def test_episode_with_zero_weight_is_never_sampled():
    class Last(np.random.Generator):
        """Draws the numbers at the ends of the range."""

        def random(self, size):
            return np.resize([0.0, np.nextafter(1.0, 0.0)], size)

    index = WindowIndex([3, 3, 3], window=3)
    returns = np.array([0.0, 1.0, 0.0])
    draw = WindowDraw(ByReturn(temperature=1e-4), index, returns)
    assert set(draw.first_rows(4, Last(np.random.PCG64(0))).tolist()) == {3}


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_scale_that_is_not_positive_is_refused(value):
    with pytest.raises(UserError, match=r"temperature is .*; allowed: a positive number"):
        ByReturn(temperature=value)
    with pytest.raises(UserError, match=r"half_life is .*; allowed: a positive number"):
        ByRecency(half_life=value)


def test_invalid_shares_and_products_are_refused():
    with pytest.raises(UserError, match=r"Ends: share is 1\.5; allowed: 0 to 1"):
        Ends(1.5)
    with pytest.raises(UserError, match="put Ends around the product"):
        Product([UniformWindows(), Ends(0.5)])
    with pytest.raises(UserError, match="at least one factor"):
        Product([])
