from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamset.core.errors import UserError
from dreamset.datasets.windows import WindowIndex


def test_every_window_is_found_exactly_once():
    index = WindowIndex([3, 1, 5, 2, 4], window=3)
    episodes, starts = index.locate(np.arange(index.total))
    assert list(zip(episodes.tolist(), starts.tolist(), strict=True)) == [
        (0, 0),
        (2, 0),
        (2, 1),
        (2, 2),
        (4, 0),
        (4, 1),
    ]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.integers(1, 12))
def test_windows_stay_inside_an_episode_and_none_is_left_out(lengths, window):
    wanted = Counter((e, s) for e, rows in enumerate(lengths) for s in range(rows - window + 1))
    if not wanted:
        with pytest.raises(UserError):
            WindowIndex(lengths, window)
        return
    index = WindowIndex(lengths, window)
    episodes, starts = index.locate(np.arange(index.total))
    assert Counter(zip(episodes.tolist(), starts.tolist(), strict=True)) == wanted


def test_one_number_is_located_like_many():
    index = WindowIndex([4, 6], window=2)
    assert [int(value) for value in index.locate(3)] == [1, 0]


def test_a_window_longer_than_every_episode_says_what_to_set():
    with pytest.raises(UserError, match=r"no episode has 50 rows, the longest has 31; lower batch.length to 31"):
        WindowIndex([20, 31], window=50)


@pytest.mark.parametrize("number", [-1, 5])
def test_a_number_outside_is_refused(number):
    index = WindowIndex([6], window=2)
    assert index.total == 5
    with pytest.raises(IndexError, match="not within 0 to 4"):
        index.locate(number)


def test_an_empty_window_is_refused():
    with pytest.raises(UserError, match="allowed is 1 or more"):
        WindowIndex([5], window=0)
