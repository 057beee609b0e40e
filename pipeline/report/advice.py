"""What the figures of a comparison mean, in plain words: the winner, and hints for each objective.

Every rule has its threshold here. The thresholds are rules of thumb for a reader, and nothing is decided by them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dreamset.pipeline.evaluation.statistics import coverage_note
from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.exploitation import GAP, REMEDY, is_exploited
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.words import number

COLLAPSED_NATS = 0.1  # a posterior that adds less per step than this has collapsed
POOR_PROBE = 0.5  # R^2 below which a state lacks much of the true state

Row = Mapping[str, Any]


def winner(comparison: Comparison) -> str:
    """One sentence on which objective earned most, and whether the intervals separate it from the others."""
    rows = [row for row in comparison.rows() if known(row, "return_iqm")]
    if not rows:
        return _best_model(comparison)
    best = max(rows, key=lambda row: row["return_iqm"])
    score = f"{best['return_iqm']:.1f} ({best['return_iqm_low']:.1f} to {best['return_iqm_high']:.1f})"
    if len(rows) == 1:
        return f"{best['objective']} earned {score}. There is no other objective to compare it with."
    near = [str(row["objective"]) for row in tied(rows) if row is not best]
    if not near:
        return f"{best['objective']} earned most: {score}. Its interval lies above those of all others."
    names = " and ".join([", ".join(near[:-1]), near[-1]] if len(near) > 1 else near)
    return f"{best['objective']} is ahead with {score}, but its interval overlaps that of {names}: a tie so far."


def _best_model(comparison: Comparison) -> str:
    """One sentence on which model predicts best, for policies that were not tried: rewards or, without any, frames."""
    error = comparison.reward_error if comparison.rewarded else "open_loop_mse"
    rows = [row for row in comparison.rows() if known(row, error)]
    if not rows:
        return "Neither a return nor an error of the predictions was measured, so no objective wins."
    best = min(rows, key=lambda row: row[error])
    what = "rewards best" if comparison.rewarded else "observations best, as the data have no rewards"
    return (
        f"No policy was tried, so no return was measured. {best['objective']} predicts {what} "
        f"({label(f'validation/{error}')} {number(best[error], 4)})."
    )


def tied(rows: Sequence[Row]) -> list[Row]:
    """The rows whose interval reaches that of the best one, which is among them."""
    measured = [row for row in rows if known(row, "return_iqm")]
    if not measured:
        return []
    best = max(measured, key=lambda row: row["return_iqm"])
    return [row for row in measured if row["return_iqm_high"] >= best["return_iqm_low"]]


def caveats(comparison: Comparison) -> list[str]:
    """What limits every conclusion from this comparison."""
    note = coverage_note(len(comparison.seeds))
    more = "For a conclusion that holds for other seeds, run more of them: `seeds: [0, 1, 2]` in params.yaml."
    return [f"{note} {more}"] if note else []


def hints(comparison: Comparison) -> list[str]:
    """Sentences about what stands out, each with what it means or what to try."""
    scale = return_scale(comparison)
    lines = [line for row in comparison.rows() for line in _of_objective(row, comparison, scale)]
    return [*lines, *_of_horizons(comparison)]


def return_scale(comparison: Comparison) -> float:
    """The distance of the reference policies, or the range of the returns."""
    low, high = (comparison.references.get(f"{name} reference") for name in ("low", "high"))
    if low is not None and high is not None and high != low:
        return abs(high - low)
    values = [float(v) for groups in comparison.returns.values() for group in groups for v in group if math.isfinite(v)]
    return (max(values) - min(values)) or max(abs(values[0]), 1.0) if values else 1.0


def exploited(comparison: Comparison) -> list[str]:
    """The objectives whose policies earn far less than their models imagine."""
    scale = return_scale(comparison)
    return [
        str(row["objective"])
        for row in comparison.rows()
        if known(row, "imagined_return")
        and known(row, "real_return")
        and is_exploited(row["imagined_return"], row["real_return"], scale)
    ]


def _of_objective(row: Row, comparison: Comparison, scale: float) -> Iterator[str]:
    name = str(row["objective"])
    if known(row, "imagined_return") and known(row, "real_return"):
        yield from _of_imagination(name, row["imagined_return"], row["real_return"], scale)
    if known(row, "kl") and row["kl"] < COLLAPSED_NATS:
        yield (
            f"{name}: observations add only {row['kl']:.2f} nats per step, so the posterior has collapsed. "
            "Try fewer free nats, a larger weight of the objective, or another learning rate."
        )
    if known(row, "probe_r2") and row["probe_r2"] < POOR_PROBE:
        yield (
            f"{name}: a linear probe recovers {max(row['probe_r2'], 0):.0%} of the true state's variance. The features "
            "lack much of the state, which matters unless the reward does not depend on it."
        )
    data, high = comparison.references.get("dataset mean"), comparison.references.get("high reference")
    if known(row, "return_iqm") and high is not None and row["return_iqm_high"] >= high > (data or -math.inf):
        yield f"{name}: its interval reaches the high reference policy ({high:.1f})."
    elif known(row, "return_iqm") and data is not None and row["return_iqm_high"] < data:
        yield (
            f"{name}: the policy earns less than the recorded episodes do on average ({data:.1f}). Behaviour cloning "
            "is a useful baseline here: `behavior=cloning behavior_training=cloning`."
        )


def _of_imagination(name: str, imagined: float, real: float, scale: float) -> Iterator[str]:
    if is_exploited(imagined, real, scale):
        yield f"{name}: imagined {imagined:.1f}, real {real:.1f}. {REMEDY}"
    elif real - imagined > GAP * scale:
        yield (
            f"{name}: imagined {imagined:.1f}, real {real:.1f}. The model predicts too little reward, so the policy "
            "may miss what pays. Look at the reward error, and at episodes with high rewards."
        )


def _of_horizons(comparison: Comparison) -> Iterator[str]:
    curves = comparison.horizons.groupby("horizon")["probe_r2"].max()
    lost = [int(horizon) for horizon, value in curves.items() if math.isfinite(value) and value <= 0]  # type: ignore[call-overload]
    if lost:
        yield (
            f"From {min(lost)} steps on, no model predicts the true state better than its mean would (R² of 0 or "
            "less). Errors beyond that horizon do not separate the objectives."
        )


def known(row: Row, name: str) -> bool:
    """Whether a figure was measured."""
    value = row.get(name)
    return value is not None and math.isfinite(value)
