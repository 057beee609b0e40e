"""Scores with their uncertainty: interquartile means and bootstrap intervals (Agarwal et al. 2021)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Cases in 100 in which a nominal 95 % interval contains the true value, by the number of training seeds, where seeds
# differ at least as much as episodes: python -m benchmarks.coverage
COVERAGE = {2: "57 to 68", 3: "75 to 78", 4: "82 to 83"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and its confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: Values) -> float:
    """Mean of the middle half of the values: more robust than the mean, less noisy than the median."""
    cut = values.size // 4
    return float(np.sort(values, axis=None)[cut : values.size - cut].mean())


def mean(values: Values) -> float:
    """The arithmetic mean."""
    return float(np.mean(values))


def bootstrap(
    groups: Sequence[Values],
    statistic: Callable[[Values], float],
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> Estimate:
    """A percentile bootstrap of ``statistic`` over all values.

    A group holds the episodes of one training seed. With several groups, first groups and then episodes within them
    are sampled with replacement, so the interval covers the spread between trainings. With one group, only the
    episodes are resampled. rliable instead takes the mean over the episodes of each training as one score, and
    resamples trainings within each task (a stratified bootstrap). Without any value, the estimate is NaN.
    """
    if not sum(map(len, groups)):
        return Estimate(np.nan, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    draws = np.array([statistic(_resample(groups, generator)) for _ in range(resamples)])
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Estimate(statistic(np.concatenate(groups)), float(low), float(high))


def coverage_note(seeds: int) -> str:
    """What a reader must know of intervals over so few training seeds; empty if they are enough."""
    if seeds == 1:
        return "With one training seed, the interval covers the spread of the episodes, not that of trainings."
    if seeds not in COVERAGE:
        return ""
    return (
        f"With {seeds} training seeds, the intervals are too narrow: if seeds differ at least as much as episodes, a "
        f"nominal 95 % interval contains the true value in only {COVERAGE[seeds]} % of cases."
    )


def _resample(groups: Sequence[Values], generator: np.random.Generator) -> Values:
    indices = generator.integers(len(groups), size=len(groups))
    return np.concatenate([generator.choice(groups[index], size=len(groups[index])) for index in indices])
