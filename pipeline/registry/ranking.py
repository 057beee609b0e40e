"""Which of two models of a family is better: by one figure that their stages report."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_HORIZON = re.compile(r"validation/reward_error_h(\d+)")


@dataclass(frozen=True, slots=True)
class Score:
    """What versions of a family are ranked by."""

    figure: str  # the figure's name
    rank: tuple[float, ...]  # compared from the left, higher is better


def reward_error(figures: Mapping[str, float]) -> Score | None:
    """The open-loop reward error at the longest horizon.

    A longer horizon ranks above every shorter one, whatever the errors: a quick trial never beats a real training.
    """
    horizons = [int(found[1]) for found in map(_HORIZON.fullmatch, figures) if found]
    if not horizons:
        return None
    name = f"validation/reward_error_h{max(horizons)}"
    return Score(name, (float(max(horizons)), -figures[name]))


def evaluated_return(figures: Mapping[str, float]) -> Score | None:
    """The interquartile mean of the returns in the environment; a policy has none before it is evaluated."""
    name = "evaluation/return_iqm"
    return Score(name, (figures[name],)) if name in figures else None


# kind of model -> what its versions are ranked by
SCORES: dict[str, Callable[[Mapping[str, float]], Score | None]] = {
    "world_model": reward_error,
    "policy": evaluated_return,
}


def is_figure(name: str) -> bool:
    """Whether a stage's figure is kept with the model; losses and the like are the run's alone."""
    return name.partition("/")[0] in ("validation", "evaluation", "imagination", "cost")
