"""The page of a comparison: its sections, from the headline to how it was made."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dreamset.pipeline.report import advice
from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.metrics import label, metric
from dreamset.pipeline.report.page import charts
from dreamset.pipeline.report.page.html import (
    Cell,
    data_uri,
    document,
    escape,
    figure,
    grid,
    listing,
    section,
    table,
)
from dreamset.pipeline.report.words import duration, number
from dreamset.pipeline.stages.table import run_key

LARGEST_PAGE = 30 << 20  # bytes of embedded images and videos; the others are links
PACKAGES = ("dreamset", "torch", "numpy", "h5py", "gymnasium")
QUARTERS = ("q1", "q2", "q3", "q4")


class Media:
    """Embeds images and videos until the page is large; later ones become links."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.room = LARGEST_PAGE

    def address(self, path: Path) -> str:
        """The address of a file: its content, or its place beside the page."""
        size = path.stat().st_size
        if size > self.room:
            return escape(Path(os.path.relpath(path, self.page.parent)).as_posix(), quote=True)
        self.room -= size
        return data_uri(path)

    def video(self, path: Path, caption: str, series: int) -> str:
        """A video with its caption; nothing if there is none."""
        if not path.exists():
            return ""
        dot = f'<span class="dot s{series}"></span>'
        source = self.address(path)
        player = f'<video controls loop muted playsinline preload="auto" src="{source}"></video>'
        return f"<figure><figcaption>{dot}{escape(caption)}</figcaption>{player}</figure>"

    def image(self, path: Path, text: str) -> str:
        """An image with its text; nothing if there is none."""
        if not path.exists():
            return ""
        return f'<figure><img src="{self.address(path)}" alt="{escape(text, quote=True)}"></figure>'


def comparison_page(comparison: Comparison, page: Path) -> str:
    """The whole page as text. Equal results give equal pages.

    Args:
        comparison: what to show.
        page: where the page will lie, for links to large files.
    """
    media = Media(page)
    sections = (
        _headline(comparison),
        section("Reading help", listing([*advice.hints(comparison), *advice.caveats(comparison)])),
        section("Returns", grid([_returns(comparison), _imagined(comparison)])),
        section("How far ahead the models predict", _against_horizon(comparison)),
        section("What the states know", _probes(comparison), intro=PROBES),
        section("Learning curves", _learning(comparison), intro=LEARNING),
        section("Dreams beside the truth", _dreams(comparison, media), intro=DREAMS),
        section("The policies at work", _policies(comparison, media), intro="The first episodes of the evaluation."),
        section("Cost", _cost(comparison)),
        section("What differs in the settings", _settings(comparison)),
        section("The data", _data(comparison, media)),
        section("How this was made", _made(comparison)),
    )
    title = f"Comparison: {comparison.title}"
    return document(title, f"<h1>{escape(title)}</h1>{''.join(sections)}")


PROBES = (
    "A linear probe recovers the true state from the model's features. The state was never shown to the model. R² is "
    "the share of its variance that the probe explains. The quarters divide held-out rows by reward; q4 has the best."
)
LEARNING = "Lines are means over the seeds, bands reach from the lowest to the highest seed."
DREAMS = (
    "Each model observes the first steps of held-out episodes and then predicts the rest without observations. The "
    "frames are decoded in the same way for all objectives."
)


def _headline(comparison: Comparison) -> str:
    names = (
        "return_iqm",
        "return_mean",
        "normalized_mean",
        "imagined_return",
        "real_return",
        comparison.reward_error,
        "probe_r2",
    )
    shown = [name for name in names if name in comparison.summary]
    confidence = f"{100 * comparison.evaluation.confidence:.0f} % interval"
    head = ["objective", *(label(_full(name)) for name in shown)]
    head.insert(2, confidence)
    tied = {row["objective"] for row in advice.tied(comparison.rows())}
    rows = []
    for position, row in enumerate(comparison.rows()):
        cells = [Cell(str(row["objective"]), series=position)]
        cells += [_figure(comparison, row, name, tied) for name in shown]
        cells.insert(2, Cell(f"{number(row.get('return_iqm_low'), 1)} to {number(row.get('return_iqm_high'), 1)}"))
        rows.append(cells)
    meaning = "".join(
        f"<dt><strong>{escape(label(_full(name)))}</strong></dt><dd>{escape(metric(_full(name)).meaning)}</dd>"
        for name in shown
    )
    references = ", ".join(f"{name} {value:.1f}" for name, value in comparison.references.items())
    episodes = f"{comparison.evaluation.episodes} episodes per training. For comparison: {references}."
    return (
        f'<p class="winner">{escape(advice.winner(comparison))}</p>'
        + table(head, rows, caption="★ marks the best of a column; for returns, also those whose interval reaches it.")
        + f'<p class="soft">{escape(episodes)}</p>'
        + f"<details><summary>What the columns mean</summary><dl>{meaning}</dl></details>"
    )


def _full(short: str) -> str:
    """The name of a summary's column as in metrics.json."""
    stage = "evaluation" if short.startswith(("return", "normalized", "imagined", "real")) else "validation"
    return f"{stage}/{short}"


def _figure(comparison: Comparison, row: Mapping[str, Any], name: str, tied: set[Any]) -> Cell:
    words = metric(_full(name))
    values = comparison.summary[name].dropna()
    best = not values.empty and {"higher": values.max(), "lower": values.min(), "neither": None}[words.better]
    marked = row["objective"] in tied if name == "return_iqm" else row.get(name) == best
    marked = marked and len(comparison.objectives) > 1 and name != "real_return"
    return Cell(number(row.get(name), words.digits), best=bool(marked))


def _returns(comparison: Comparison) -> str:
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
    drawing = charts.dot_chart(
        groups, list(comparison.references.items()), title="Return of every episode", y_label="return"
    )
    confidence = f"{100 * comparison.evaluation.confidence:.0f} %"
    return drawing and figure(
        drawing, f"Each dot is an episode. The large mark is the interquartile mean, with its {confidence} interval."
    )


def _imagined(comparison: Comparison) -> str:
    groups = []
    for position, objective in enumerate(comparison.objectives):
        columns = ("return_after_context", "imagined_return_after_context")
        tables = _tables(comparison, objective, "evaluation", "episodes.csv")
        points = [(float(x), float(y)) for frame in tables for x, y in frame[list(columns)].dropna().to_numpy()]
        if points:
            groups.append((objective, position, points))
    drawing = charts.scatter(
        groups, title="Imagined against real return", x_label="real return", y_label="imagined return"
    )
    words = "Each mark is an episode. On the line the model predicts its policy's return correctly; far above it, the "
    return drawing and figure(drawing, f"{words}policy exploits errors of the model.")


def _tables(comparison: Comparison, objective: str, stage: str, name: str) -> Iterator[pd.DataFrame]:
    """The file of every seed, where it exists."""
    for seed in comparison.seeds:
        path = comparison.runs / stage / run_key(objective, seed) / name
        if path.exists() and path.stat().st_size > 1:
            yield pd.read_csv(path)


def _against_horizon(comparison: Comparison) -> str:
    horizons = sorted(set(comparison.horizons["horizon"]))
    drawings = [
        charts.line_chart(
            _curves(comparison, column),
            title=title,
            x_label="steps after the last observation (not to scale)",
            y_label=y_label,
            scale=scale,
            limits=limits,
            x_ticks=horizons,
        )
        for column, title, y_label, scale, limits in HORIZON_CHARTS
    ]
    captions = ("Lower is better. The axis is logarithmic.", "Higher is better. An arrow marks a value below the axis.")
    return grid(figure(drawing, text) for drawing, text in zip(drawings, captions, strict=True) if drawing)


HORIZON_CHARTS: tuple[tuple[str, str, str, charts.Scale, tuple[float | None, float | None]], ...] = (
    ("reward_error", "Error of the predicted reward", "squared error", "log", (None, None)),
    ("probe_r2", "True state from features, linear probe", "R²", "linear", (-0.25, 1.02)),
)


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


def _probes(comparison: Comparison) -> str:
    names = [f"probe_correlation_reward_{quarter}" for quarter in QUARTERS]
    shown = [name for name in ("probe_r2", *names) if name in comparison.summary]
    if not shown:
        return ""
    head = ["objective", *(label(f"validation/{name}") for name in shown)]
    rows = [
        [Cell(str(row["objective"]), series=position)]
        + [Cell(number(row.get(name), 3 if name == "probe_r2" else 2)) for name in shown]
        for position, row in enumerate(comparison.rows())
    ]
    return table(head, rows)


CURVES: tuple[tuple[str, str, str, str, charts.Scale], ...] = (
    ("world_model", "validation.csv", "reward_error", "World model: reward error", "log"),
    ("world_model", "validation.csv", "probe_r2", "World model: probe R²", "linear"),
    ("world_model", "validation.csv", "kl", "World model: KL", "linear"),
    ("behavior", "imagination.csv", "imagination/reward", "Policy: imagined reward per step", "linear"),
    ("finetune", "curve.csv", "return_iqm", "Fine-tuning: return", "linear"),
)


def _learning(comparison: Comparison) -> str:
    return grid(drawing for curve in CURVES if (drawing := _learning_curve(comparison, *curve)))


def _learning_curve(comparison: Comparison, stage: str, name: str, column: str, title: str, scale: charts.Scale) -> str:
    x = "environment_steps" if stage == "finetune" else "update"
    column = comparison.reward_error if column == "reward_error" else column
    curves = []
    for position, objective in enumerate(comparison.objectives):
        frames = [frame for frame in _tables(comparison, objective, stage, name) if column in frame]
        if frames:
            grouped = pd.concat(frames).groupby(x)[column].agg(["mean", "min", "max"])
            curves.append(_banded(objective, position, grouped))
    words = "steps in the environment" if stage == "finetune" else "updates"
    return charts.line_chart(curves, title=title, x_label=words, y_label=label(_metric_of(stage, column)), scale=scale)


def _metric_of(stage: str, column: str) -> str:
    """The name of a curve's column as in metrics.json."""
    prefixes = {"world_model": "validation/", "behavior": "", "finetune": "evaluation/"}
    return prefixes[stage] + column


def _dreams(comparison: Comparison, media: Media) -> str:
    clips = [
        media.video(path, f"{objective}, seed {comparison.seeds[0]}", position)
        or media.image(path.with_suffix(".png"), f"open-loop prediction of {objective}")
        for position, objective in enumerate(comparison.objectives)
        for path in _media(comparison, "world_model", objective)
    ]
    return f"<div data-videos>{grid(clips)}</div>" if any(clips) else ""


def _policies(comparison: Comparison, media: Media) -> str:
    clips = [
        media.video(path, f"{objective}, seed {comparison.seeds[0]}", position)
        for position, objective in enumerate(comparison.objectives)
        for path in _media(comparison, "evaluation", objective)
    ]
    return f"<div data-videos>{grid(clips)}</div>" if any(clips) else ""


def _media(comparison: Comparison, stage: str, objective: str) -> list[Path]:
    """The videos of the first seed; images where there is no video of the same name."""
    folder = comparison.runs / stage / run_key(objective, comparison.seeds[0]) / "media"
    videos = sorted(folder.glob("*.mp4"))
    return videos or [path.with_suffix(".mp4") for path in sorted(folder.glob("*.png"))]


def _cost(comparison: Comparison) -> str:
    names = [name for name in ("parameters", "train_seconds", "behavior_seconds") if name in comparison.summary]
    rows = [
        [Cell(str(row["objective"]), series=position), *(Cell(_amount(row, name)) for name in names)]
        for position, row in enumerate(comparison.rows())
    ]
    return table(["objective", *(label(f"cost/{name}") for name in names)], rows) if names else ""


def _amount(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if name == "parameters" else duration(value)


def _settings(comparison: Comparison) -> str:
    rows = [
        [key, *(of_objective.get(objective, "-") for objective in comparison.objectives)]
        for key, of_objective in comparison.different_settings.items()
    ]
    return table(["setting", *comparison.objectives], rows)


def _data(comparison: Comparison, media: Media) -> str:
    paths = [] if comparison.card is None else sorted(comparison.card.glob("*.png"))
    images = grid(media.image(path, f"{comparison.dataset}: {path.stem}") for path in paths)
    return (table(["what", "value"], comparison.data) if comparison.data else "") + images


def _made(comparison: Comparison) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows = [
        ["objectives", ", ".join(comparison.objectives)],
        ["seeds", ", ".join(map(str, comparison.seeds))],
        ["evaluation", f"{comparison.evaluation.episodes} episodes, the first with seed {comparison.evaluation.seed}"],
        ["intervals", f"{comparison.evaluation.resamples:,} bootstrap samples of seeds and, within them, episodes"],
        ["versions", versions],
        ["numbers", "summary.csv, runs.csv and horizons.csv beside this page"],
    ]
    command = f"dvc repro   # with dataset: {comparison.dataset}, preset: {comparison.preset or '?'} in params.yaml"
    return f"{table(['what', 'value'], rows)}<pre><code>{escape(command)}</code></pre>"
