"""Ranks the models of a family by one figure that a stage reports."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_HORIZON = re.compile(r"validation/reward_error_h(\d+)")


@dataclass(frozen=True, slots=True)
class Score:
    """The figure by which versions of a family are ranked."""

    figure: str  # the figure's name
    rank: tuple[float, ...]  # compared from the left, higher is better


def reward_error(figures: Mapping[str, float]) -> Score | None:
    """The open-loop reward error at the longest horizon.

    A longer horizon ranks above every shorter one, whatever the errors. A short trial therefore never ranks above a
    full training, whose validation has longer horizons.
    """
    horizons = [int(match[1]) for match in map(_HORIZON.fullmatch, figures) if match]
    if not horizons:
        return None
    name = f"validation/reward_error_h{max(horizons)}"
    return Score(name, (float(max(horizons)), -figures[name]))


def evaluated_return(figures: Mapping[str, float]) -> Score | None:
    """The interquartile mean of the returns in the environment; None before the policy is evaluated."""
    name = "evaluation/return_iqm"
    return Score(name, (figures[name],)) if name in figures else None


# kind of model -> the score of its versions
SCORES: dict[str, Callable[[Mapping[str, float]], Score | None]] = {
    "world_model": reward_error,
    "policy": evaluated_return,
}


def is_figure(name: str) -> bool:
    """Whether a metric is stored with the model. Others, such as losses, are stored with the run only."""
    return name.partition("/")[0] in ("validation", "evaluation", "imagination", "cost")
