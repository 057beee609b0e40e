"""The table of results, with the same columns, words and marks in the terminal and on the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dreamset.pipeline.report.metrics import label, metric
from dreamset.pipeline.report.words import number

RETURNS = ("return", "success", "normalized", "imagined", "real")  # how the columns of an evaluation start

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell."""

    text: str
    best: bool = False  # of its column; for returns, also if its interval reaches that of the best


@dataclass(frozen=True, slots=True)
class Headline:
    """One row per objective; the first column is its name, all others are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[Figure]]
    meanings: Mapping[str, str]  # label of a column -> what it is


def headline(summary: pd.DataFrame, names: Sequence[str], *, interval: str) -> Headline:
    """The columns ``names`` of a summary, as far as it has them. The interval follows the interquartile mean.

    Args:
        summary: of a comparison.
        names: of its columns.
        interval: the name of the column of intervals.
    """
    shown = [name for name in names if name in summary]
    head, meanings = ["objective"], {}
    for name in shown:
        head.append(label(full_name(name)))
        meanings[head[-1]] = metric(full_name(name)).meaning
        head += [interval] if name == "return_iqm" else []
    rows = records(summary)
    cells = [[Figure(str(row["objective"])), *_figures(row, shown, summary, tied(rows))] for row in rows]
    return Headline(head, cells, meanings)


def _figures(row: Row, names: Sequence[str], summary: pd.DataFrame, leaders: Sequence[Row]) -> list[Figure]:
    figures = []
    for name in names:
        digits = metric(full_name(name)).digits
        figures.append(Figure(number(row.get(name), digits), _is_best(row, name, summary, leaders)))
        if name == "return_iqm":
            figures.append(Figure(interval_of(row, digits)))
    return figures


def interval_of(row: Row, digits: int = 1) -> str:
    """The interval of the return in words; ``-`` if it was not measured."""
    low, high = (row.get(f"return_iqm_{end}") for end in ("low", "high"))
    return f"{number(low, digits)} to {number(high, digits)}" if known(row, "return_iqm_low") else "-"


def _is_best(row: Row, name: str, summary: pd.DataFrame, leaders: Sequence[Row]) -> bool:
    """Whether a figure is marked. The real return is not, because it is there to be compared with the imagined one."""
    if len(summary) < 2 or name == "real_return" or not known(row, name):
        return False
    if name == "return_iqm":
        return any(row["objective"] == leader["objective"] for leader in leaders)
    better = metric(full_name(name)).better
    return better != "neither" and row[name] == (summary[name].max() if better == "higher" else summary[name].min())


def full_name(short: str) -> str:
    """The name of a summary's column as in metrics.json."""
    return f"{'evaluation' if short.startswith(RETURNS) else 'validation'}/{short}"


def records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """The summary as one mapping per objective."""
    return [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]


def tied(rows: Sequence[Row]) -> list[Row]:
    """The rows whose interval reaches that of the best one, which is among them."""
    measured = [row for row in rows if known(row, "return_iqm")]
    if not measured:
        return []
    best = max(measured, key=lambda row: row["return_iqm"])
    return [row for row in measured if row["return_iqm_high"] >= best["return_iqm_low"]]


def known(row: Row, name: str) -> bool:
    """Whether a figure was measured."""
    value = row.get(name)
    return value is not None and math.isfinite(value)
