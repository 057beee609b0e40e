from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamset.core.errors import UserError
from dreamset.datasets.windows import WindowIndex

Rows = tuple[tuple[int, int], ...]  # (episode, row) of each row of a window

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=20)
WINDOWS = st.integers(1, 12)


def numbered(index: WindowIndex) -> tuple[np.ndarray, np.ndarray]:
    """Episode and number of every window."""
    return np.repeat(np.arange(len(index.counts)), index.counts), np.concatenate([np.arange(n) for n in index.counts])


def rows_of_all(index: WindowIndex) -> list[Rows]:
    """The rows of every window, by episode and number."""
    return [
        tuple((episode, row) for episode, start, stop in index.slices(first) for row in range(start, stop))
        for first in index.first_rows(*numbered(index)).tolist()
    ]


def laid_end_to_end(lengths: list[int]) -> Rows:
    return tuple((episode, row) for episode, rows in enumerate(lengths) for row in range(rows))


def test_windows_are_numbered_within_their_episode_from_its_first_row():
    index = WindowIndex([3, 1, 5, 2, 4], window=3)
    assert index.counts.tolist() == [1, 0, 3, 0, 2]
    assert [list(index.slices(first)) for first in index.first_rows(*numbered(index)).tolist()] == [
        [(0, 0, 3)],
        [(2, 0, 3)],
        [(2, 1, 4)],
        [(2, 2, 5)],
        [(4, 0, 3)],
        [(4, 1, 4)],
    ]


def test_crossing_window_is_cut_at_the_ends_of_episodes_and_belongs_to_the_last():
    index = WindowIndex([3, 1, 2], window=4, crossing=True)
    assert index.counts.tolist() == [0, 1, 2]
    assert [list(index.slices(first)) for first in index.first_rows(*numbered(index)).tolist()] == [
        [(0, 0, 3), (1, 0, 1)],
        [(0, 1, 3), (1, 0, 1), (2, 0, 1)],
        [(0, 2, 3), (1, 0, 1), (2, 0, 2)],
    ]


@given(LENGTHS, WINDOWS)
def test_windows_stay_inside_episodes_and_are_complete(lengths, window):
    wanted = Counter(
        tuple((episode, start + step) for step in range(window))
        for episode, rows in enumerate(lengths)
        for start in range(rows - window + 1)
    )
    if not wanted:
        with pytest.raises(UserError, match="no episode has"):
            WindowIndex(lengths, window)
        return
    index = WindowIndex(lengths, window)
    assert Counter(rows_of_all(index)) == wanted
    assert index.total == len(wanted)
    assert index.excluded == sum(rows < window for rows in lengths)


@given(LENGTHS, WINDOWS)
def test_crossing_windows_begin_at_every_row_with_enough_rows_after_it(lengths, window):
    rows = laid_end_to_end(lengths)
    wanted = Counter(rows[first : first + window] for first in range(len(rows) - window + 1))
    if not wanted:
        with pytest.raises(UserError, match=rf"have {len(rows)} rows in total.*lower batch.length to {len(rows)}"):
            WindowIndex(lengths, window, crossing=True)
        return
    index = WindowIndex(lengths, window, crossing=True)
    assert Counter(rows_of_all(index)) == wanted
    assert (index.total, index.excluded) == (len(wanted), 0)


@given(LENGTHS, WINDOWS, st.booleans())
def test_window_belongs_to_the_episode_of_its_last_row(lengths, window, crossing):
    try:
        index = WindowIndex(lengths, window, crossing=crossing)
    except UserError:
        return
    windows = rows_of_all(index)
    episodes, numbers = numbered(index)
    assert [rows[-1][0] for rows in windows] == episodes.tolist()
    for rows, episode, number in zip(windows, episodes, numbers, strict=True):
        assert (rows[-1][1] == lengths[episode] - 1) == (number == index.counts[episode] - 1)


@given(LENGTHS, WINDOWS)
def test_crossing_windows_cover_inner_rows_equally_often(lengths, window):
    total = sum(lengths)
    if total < window:
        return
    counts = Counter(row for rows in rows_of_all(WindowIndex(lengths, window, crossing=True)) for row in rows)
    expected = [min(place + 1, total - place, window, total - window + 1) for place in range(total)]
    assert [counts[row] for row in laid_end_to_end(lengths)] == expected


@given(LENGTHS, WINDOWS, st.booleans())
def test_no_slice_is_empty(lengths, window, crossing):
    try:
        index = WindowIndex(lengths, window, crossing=crossing)
    except UserError:
        return
    for first in index.first_rows(*numbered(index)).tolist():
        assert all(0 <= start < stop <= lengths[episode] for episode, start, stop in index.slices(first))


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize(("episode", "number"), [(0, -1), (0, 5), (1, 0)])
def test_unknown_window_number_is_refused(episode, number, crossing):
    index = WindowIndex([6, 0], window=2, crossing=crossing)
    with pytest.raises(IndexError, match=f"window {number} of episode {episode}, which has"):
        index.first_rows(np.array([0, episode]), np.array([0, number]))


def test_too_long_window_error_names_the_setting():
    with pytest.raises(UserError, match=r"no episode has 50 rows, the longest has 31; lower batch.length to 31"):
        WindowIndex([20, 31], window=50)
    assert WindowIndex([20, 31], window=50, crossing=True).total == 2


def test_empty_window_or_missing_episodes_are_refused():
    with pytest.raises(UserError, match="allowed: 1 or more"):
        WindowIndex([5], window=0)
    for crossing in (False, True):
        with pytest.raises(UserError, match=r"lower batch\.length"):
            WindowIndex([], window=1, crossing=crossing)
