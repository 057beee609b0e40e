"""Ranks the models of a family by figures that stages report."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

IMAGINED_STEPS = 15  # that policies look ahead in imagination, as published
POLICY_RETURN = "evaluation/policy_return_iqm"  # of a world model: the best return of a policy that was learned in it

_HORIZON = re.compile(r"validation/reward_error_h(\d+)")
_POLICY_EVALUATED = "evaluation/return_iqm"

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """A figure by which versions of a family are ranked."""

    figure: str  # the figure's name
    value: float
    rank: tuple[float, ...]  # compared from the left, higher is better
    conditions: str | None = None  # scores that were measured under other conditions are not comparable


def policy_return(figures: Figures, conditions: str | None) -> Score | None:
    """The return in the environment of the best policy that was learned in the world model."""
    value = figures.get(POLICY_RETURN)
    return None if value is None else Score(POLICY_RETURN, value, (value,), conditions)


def reward_error(figures: Figures, _conditions: str | None) -> Score | None:
    """The mean open-loop reward error of the steps that a policy looks ahead, at most 15.

    Errors between the horizons of the validation are interpolated. Far beyond, all models are past prediction, and the
    errors there say little: they rank a model only if it has no others. More steps rank above fewer, whatever the
    errors. A short trial therefore never ranks above a full training, whose validation has longer horizons.
    """
    horizons = sorted(int(match[1]) for match in map(_HORIZON.fullmatch, figures) if match)
    if not horizons:
        return None
    errors = [figures[f"validation/reward_error_h{horizon}"] for horizon in horizons]
    if horizons[0] > IMAGINED_STEPS:
        return Score(f"validation/reward_error_h{horizons[0]}", errors[0], (0.0, -errors[0]))
    import numpy as np  # takes longer than all else that `dreamset models list` needs

    steps = max(horizon for horizon in horizons if horizon <= IMAGINED_STEPS)
    mean = float(np.interp(range(1, steps + 1), horizons, errors).mean())
    return Score(f"validation/mean_reward_error_to_h{steps}", mean, (float(steps), -mean))


def evaluated_return(figures: Figures, _conditions: str | None) -> Score | None:
    """The interquartile mean of the returns in the environment; None before the policy is evaluated."""
    value = figures.get(_POLICY_EVALUATED)
    return None if value is None else Score(_POLICY_EVALUATED, value, (value,))


Ranking = Callable[[Figures, str | None], Score | None]
# kind of model -> the scores of its versions: the first one that a version has ranks it
SCORES: dict[str, tuple[Ranking, ...]] = {
    "world_model": (policy_return, reward_error),
    "policy": (evaluated_return,),
}

RULES = {  # kind of model -> what ``SCORES`` says, in words
    "world_model": "The champion among world models is the one whose policy has the highest return in the environment; "
    "before any policy is evaluated, it is the one with the lowest open-loop reward error over the first 15 steps.",
    "policy": "The champion among policies has the highest return in the environment.",
}

Scores = Sequence[Score | None]


def scores(kind: str, figures: Figures, conditions: str | None = None) -> list[Score | None]:
    """Every score of a version; None in place of those that are missing or not finite.

    Args:
        kind: of the model.
        figures: of the version.
        conditions: of its evaluation.
    """
    every = (ranking(figures, conditions) for ranking in SCORES[kind])
    return [score if score is not None and all(map(math.isfinite, score.rank)) else None for score in every]


def leading(every: Scores) -> Score | None:
    """The score that ranks a version; None if it has none."""
    return next((score for score in every if score is not None), None)


def outranks(candidate: Scores, champion: Scores) -> bool:
    """Whether a version is better than the champion by the first score that one of them has.

    If both have it, but under different conditions, the next score decides. A version without any score is never
    better, and no version is better than a champion without any score, which a person has chosen.
    """
    if leading(champion) is None:
        return False
    for mine, theirs in zip(candidate, champion, strict=True):
        if mine is None and theirs is None:
            continue
        if mine is None or theirs is None:
            return mine is not None
        if mine.conditions == theirs.conditions:
            return mine.rank > theirs.rank
    return False


def is_figure(name: str) -> bool:
    """Whether a metric is stored with the model. Others, such as losses, are stored with the run only."""
    return name.partition("/")[0] in ("validation", "evaluation", "imagination", "cost")
