"""Observations after each step, and environments that reset themselves."""

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets.sources import arrivals
from dreamset.datasets.sources.autoreset import Span, spans
from dreamset.datasets.sources.tables import HDF5Table


def table_of(tmp_path, **columns: np.ndarray) -> HDF5Table:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    return HDF5Table(tmp_path / "data.h5")


@pytest.mark.parametrize("block_rows", [1, 2, 3, 100])
def test_breaks_do_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch, block_rows):
    generator = np.random.default_rng(0)
    observed = generator.normal(size=(11, 2))
    after = np.concatenate([observed[1:], observed[:1]])
    broken = [2, 3, 7]
    after[broken, 1] += 1e-3
    observed[6] = after[5] = np.nan
    table = table_of(tmp_path, obs=observed, after=after)
    monkeypatch.setattr(arrivals, "_BLOCK_BYTES", block_rows * 2 * 8)
    follows = arrivals.continues(table, table.headers(""), {"obs": "after"}, 11)
    assert np.flatnonzero(~follows).tolist() == [*broken, 10]


def test_every_observation_must_continue(tmp_path):
    count = np.arange(4.0)
    table = table_of(
        tmp_path, a=count, b=count, a_after=count + np.array([2, 1, 1, 1]), b_after=count + np.array([1, 1.5, 1, 1])
    )
    follows = arrivals.continues(table, table.headers(""), {"a": "a_after", "b": "b_after"}, 4)
    assert follows.tolist() == [False, False, True, False]


def test_double_precision_continues_in_single_precision():
    single = np.array([[0.1], [0.2]], np.float32)
    assert arrivals.equal_rows(single, np.array([[0.1], [0.2]])).all()
    assert arrivals.equal_rows(np.array([200, 7], np.uint8), np.array([200, 8], np.uint8)).tolist() == [True, False]


def test_columns_of_other_shapes_are_refused(tmp_path):
    table = table_of(tmp_path, obs=np.zeros((3, 2)), after=np.zeros((3, 1)))
    with pytest.raises(UserError, match=r"'after' has shape \[3, 1\], 'obs' has \[3, 2\]; allowed: equal shapes"):
        arrivals.continues(table, table.headers(""), {"obs": "after"}, 3)
    values = {"obs": np.zeros((3, 2)), "after": np.zeros((1, 2))}
    with pytest.raises(UserError, match=r"^here: 'after' has shape \[1, 2\]"):
        arrivals.completed(values, {"obs": "after"}, "here", trusted=True, remedy="")


ENDS = np.array([0, 1, 0, 0, 1, 1, 0], bool)


def test_every_flag_ends_an_episode_and_rows_remain_for_the_last():
    assert spans(ENDS, reset_rows=False) == [Span(0, 2), Span(2, 5), Span(5, 6), Span(6, 7)]


def test_flag_in_a_reset_row_ends_nothing():
    assert spans(ENDS, reset_rows=True) == [Span(0, 2, reset_row=True), Span(3, 5, reset_row=True), Span(6, 7)]
    assert spans(ENDS[:2], reset_rows=True) == [Span(0, 2)]
    assert spans(ENDS[:3], reset_rows=True) == [Span(0, 2, reset_row=True)]
