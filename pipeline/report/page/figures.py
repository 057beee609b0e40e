"""The figures of the page: each is drawn from a comparison and carries a table of its numbers."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from dreamset.pipeline.report.advice import INTERVAL
from dreamset.pipeline.report.calibration import Calibration, Coverage, Ends
from dreamset.pipeline.report.comparison import Comparison, reward_terms
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.page import charts
from dreamset.pipeline.report.page.drawing import Point, Scale, value_text
from dreamset.pipeline.report.page.html import Cell, figure, grid, listing, table
from dreamset.pipeline.report.words import number
from dreamset.pipeline.stages.table import run_key

Row = Sequence[Cell | str]

MOST_ROWS = 40  # of a table of numbers; a longer curve is thinned
NO_TRUE_END = "no held-out episode truly ends, so predicted ends have no curve"
STEPS = "steps after the last observation"


def returns(comparison: Comparison) -> str:
    """Every return, and the interquartile mean with its interval."""
    groups = [
        charts.Group(
            str(row["objective"]),
            position,
            [float(value) for group in comparison.returns[str(row["objective"])] for value in group],
            row["return_iqm"],
            row["return_iqm_low"],
            row["return_iqm_high"],
        )
        for position, row in enumerate(comparison.rows())
    ]
    references = list(comparison.references.items())
    drawing = charts.dot_chart(groups, references, title="Return of every episode", x_label="return")
    words = f"A dot is an episode. The large mark is the interquartile mean with its {comparison.interval}."
    head = ["objective", "episodes", "lowest", "lower quartile", "median", "upper quartile", "highest"]
    rows: list[Row] = [
        [Cell(group.name, series=group.position), str(len(group.values)), *_quartiles(group.values)] for group in groups
    ]
    return figure(drawing, words, table(head, rows))


def _quartiles(values: Sequence[float]) -> list[str]:
    if not values:
        return ["-"] * 5
    return [number(float(value), 1) for value in np.percentile(values, [0, 25, 50, 75, 100])]


def imagined(comparison: Comparison) -> str:
    """The imagined against the real return of every episode."""
    groups: list[tuple[str, int, list[Point]]] = []
    for position, objective in enumerate(comparison.objectives):
        columns = ["return_after_context", "imagined_return_after_context"]
        tables = tables_of(comparison, objective, "evaluation", "episodes.csv")
        points = [(float(x), float(y)) for frame in tables for x, y in frame[columns].dropna().to_numpy()]
        if points:
            groups.append((objective, position, points))
    title = "Imagined against real return"
    drawing = charts.scatter(groups, title=title, x_label="real return", y_label="imagined return")
    words = "A mark is an episode. On the line, the model predicts its policy's return correctly."
    head = ["objective", "episodes", "real (mean)", "imagined (mean)", "imagined - real", "correlation"]
    rows: list[Row] = [[Cell(name, series=position), *_agreement(points)] for name, position, points in groups]
    return figure(drawing, words, table(head, rows))


def _agreement(points: Sequence[Point]) -> list[str]:
    real, imagined_ = np.array(points).T
    varies = len(points) > 1 and real.std() > 0 and imagined_.std() > 0
    correlation = float(np.corrcoef(real, imagined_)[0, 1]) if varies else None
    means = [float(real.mean()), float(imagined_.mean())]
    return [str(len(points)), *(number(mean, 1) for mean in (*means, means[1] - means[0])), number(correlation, 2)]


def coverage(comparison: Comparison) -> str:
    """How many true rewards lie in the intervals of sampled futures, against how many should."""
    horizon, curves, rows = comparison.horizon, [], 0
    for position, (name, known) in enumerate(_calibrations(comparison)):
        if isinstance(known.reward, Coverage) and horizon in known.reward.seen:
            curves.append(charts.Series(name, position, known.reward.levels, known.reward.seen[horizon]))
            rows = max(rows, known.reward.rows)
    levels = [level / 20 for level in range(21)]
    chance = [2 * (level * (1 - level) / rows) ** 0.5 if rows else 0.0 for level in levels]
    low, high = ([level + sign * by for level, by in zip(levels, chance, strict=True)] for sign in (-1, 1))
    drawing = charts.line_chart(
        curves,
        title=f"Does the spread cover the reward? {horizon} steps ahead",
        x_label="share of true rewards that the interval should hold",
        y_label="share that it holds",
        limits=(0, 1),
        guide=charts.Series("a calibrated model", 0, levels, levels, low, high),
    )
    words = f"{rows} predictions per objective. The grey band is that of a calibrated model: twice its standard error."
    return figure(drawing, words, _numbers(curves, "should hold"))


def ends(comparison: Comparison) -> str:
    """The predicted probability of a true end against the share of ends."""
    curves = []
    for position, (name, known) in enumerate(_calibrations(comparison)):
        if isinstance(known.ends, Ends) and known.ends.ends:
            x, y = ([float(one[part]) for one in known.ends.bins] for part in (0, 1))
            curves.append(charts.Series(name, position, x, y))
    drawing = charts.line_chart(
        curves,
        title="Do episodes end as predicted? One step ahead",
        x_label="predicted probability of an end",
        y_label="share of rows that are ends",
        limits=(0, 1),
        guide=charts.Series("a calibrated model", 0, [0.0, 1.0], [0.0, 1.0]),
    )
    words = "Each mark is a bin of predictions on complete held-out episodes. Few ends make the right part uncertain."
    return figure(drawing, words, _bins(comparison))


def _bins(comparison: Comparison) -> str:
    rows: list[Row] = [
        [Cell(name, series=position), value_text(predicted), value_text(seen), str(count)]
        for position, (name, known) in enumerate(_calibrations(comparison))
        if isinstance(known.ends, Ends)
        for predicted, seen, count in known.ends.bins
    ]
    return table(["objective", "predicted", "seen", "rows"], rows)


def calibration_table(comparison: Comparison) -> str:
    """The calibration in figures; where a model cannot say, the reason below the table."""
    if not comparison.calibration:
        return ""
    horizon, level = comparison.horizon, INTERVAL
    rows, reasons = list[Row](), dict[str, list[str]]()
    for position, (name, known) in enumerate(_calibrations(comparison)):
        share = known.reward.at(horizon, level) if isinstance(known.reward, Coverage) else None
        brier, base = (known.ends.brier, known.ends.brier_of_rate) if isinstance(known.ends, Ends) else (None, None)
        cells = ["-" if share is None else f"{100 * share:.0f} %", number(brier, 4), number(base, 4)]
        rows.append([Cell(name, series=position), *cells])
        for reason in _reasons(known):
            reasons.setdefault(reason, []).append(name)
    head = ["objective", f"rewards in the {100 * level:.0f} % interval, +{horizon}", *ENDS_HEAD]
    return table(head, rows) + listing(f"{', '.join(names)}: {reason}." for reason, names in reasons.items())


def _reasons(known: Calibration) -> list[str]:
    """Why figures or the curve of ends are missing, each reason once."""
    never = isinstance(known.ends, Ends) and not known.ends.ends
    parts = (known.reward, known.ends, NO_TRUE_END if never else None)
    return list(dict.fromkeys(part for part in parts if isinstance(part, str)))


ENDS_HEAD = ("error of ends (Brier score)", "error of always predicting the share of ends")


def _calibrations(comparison: Comparison) -> list[tuple[str, Calibration]]:
    return [(name, comparison.calibration.get(name, Calibration())) for name in comparison.objectives]


HORIZON_CHARTS: tuple[tuple[str, str, str, Scale, tuple[float | None, float | None], str], ...] = (
    (
        "reward_error",
        "Error of the predicted reward",
        "squared error",
        "log",
        (None, None),
        "Lower is better. Both axes are logarithmic.",
    ),
    (
        "probe_r2",
        "True state from features, linear probe",
        "R²",
        "linear",
        (-0.25, 1.02),
        "Higher is better. An arrow marks a value below the axis.",
    ),
)


def against_horizon(comparison: Comparison) -> str:
    """Reward error and probe R² against the horizon, at every horizon that was measured."""
    horizons = sorted(set(comparison.horizons["horizon"]))
    figures = []
    for column, title, y_label, scale, limits, words in HORIZON_CHARTS:
        curves = _curves(comparison, column)
        drawing = charts.line_chart(
            curves,
            title=title,
            x_label=STEPS,
            y_label=y_label,
            scale=scale,
            limits=limits,
            x_places="logarithmic",
            x_ticks=horizons,
        )
        figures.append(figure(drawing, words, _numbers(curves, "steps")))
    return grid(figures)


def _curves(comparison: Comparison, column: str) -> list[charts.Series]:
    curves = []
    for position, objective in enumerate(comparison.objectives):
        rows = comparison.horizons[comparison.horizons["objective"] == objective]
        curves.append(_banded(objective, position, rows.groupby("horizon")[column].agg(["mean", "min", "max"])))
    return curves


def _banded(name: str, position: int, frame: pd.DataFrame) -> charts.Series:
    x, mean, low, high = (
        [float(value) for value in values] for values in (frame.index, frame["mean"], frame["min"], frame["max"])
    )
    return charts.Series(name, position, x, mean, low, high)


def _numbers(curves: Sequence[charts.Series], x_label: str) -> str:
    """The curves as a table, one column each; long curves are thinned evenly."""
    places = sorted({x for curve in curves for x in curve.x})
    every = max(1, -(-len(places) // MOST_ROWS))
    values = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves]
    rows = [[value_text(x), *(_measured(of.get(x)) for of in values)] for x in places[::every]]
    words = "" if every < 2 else f"Every {every}th of {len(places)} points."
    return table([x_label, *(curve.name for curve in curves)], rows, caption=words)


def _measured(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else value_text(value)


CURVES: tuple[tuple[str, str, str, str, Scale], ...] = (
    ("world_model", "validation.csv", "reward_error", "World model: reward error", "log"),
    ("world_model", "validation.csv", "probe_r2", "World model: probe R²", "linear"),
    ("world_model", "validation.csv", "kl", "World model: KL", "linear"),
    ("behavior", "imagination.csv", "imagination/reward", "Policy: imagined reward per step", "linear"),
    ("finetune", "curve.csv", "return_iqm", "Fine-tuning: return", "linear"),
)


def learning(comparison: Comparison) -> str:
    """Curves over the training of world models and policies."""
    drawings = (_learning_curve(comparison, *curve) for curve in (*CURVES, *_curves_of_terms(comparison)))
    return grid(drawing for drawing in drawings if drawing)


def _curves_of_terms(comparison: Comparison) -> Iterator[tuple[str, str, str, str, Scale]]:
    """A curve for each term of the reward that ``CURVES`` leaves out."""
    listed = {column for _, _, column, _, _ in CURVES}
    for name in reward_terms(comparison.summary):
        if name not in listed:
            yield "behavior", "imagination.csv", name, f"Policy: {label(name)} per step", "linear"


def _learning_curve(comparison: Comparison, stage: str, name: str, column: str, title: str, scale: Scale) -> str:
    x = "environment_steps" if stage == "finetune" else "update"
    column = comparison.reward_error if column == "reward_error" else column
    curves = []
    for position, objective in enumerate(comparison.objectives):
        frames = [frame for frame in tables_of(comparison, objective, stage, name) if column in frame]
        if frames:
            grouped = pd.concat(frames).groupby(x)[column].agg(["mean", "min", "max"])
            curves.append(_banded(objective, position, grouped))
    words = "steps in the environment" if stage == "finetune" else "updates"
    y_label = label(_metric_of(stage, column))
    drawing = charts.line_chart(curves, title=title, x_label=words, y_label=y_label, scale=scale)
    return figure(drawing, "", _numbers(curves, words))


def _metric_of(stage: str, column: str) -> str:
    """The name of a curve's column as in metrics.json."""
    prefixes = {"world_model": "validation/", "behavior": "", "finetune": "evaluation/"}
    return prefixes[stage] + column


def tables_of(comparison: Comparison, objective: str, stage: str, name: str) -> Iterator[pd.DataFrame]:
    """The file of every seed, where it exists."""
    for seed in comparison.seeds:
        path = comparison.runs / stage / run_key(objective, seed) / name
        if path.exists() and path.stat().st_size > 1:
            yield pd.read_csv(path)
