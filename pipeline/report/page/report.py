"""The page of a comparison: its sections, from the headline to how it was made."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.pipeline.report import advice
from dreamset.pipeline.report.comparison import Comparison, reward_terms
from dreamset.pipeline.report.headline import headline
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.page import figures, reading
from dreamset.pipeline.report.page.html import (
    Cell,
    Section,
    contents,
    document,
    escape,
    grid,
    listing,
    table,
)
from dreamset.pipeline.report.page.media import Media
from dreamset.pipeline.report.words import duration, number
from dreamset.pipeline.stages.table import run_key

PACKAGES = ("dreamset", "torch", "numpy", "h5py", "gymnasium")
QUARTERS = ("q1", "q2", "q3", "q4")
COSTS: Mapping[str, Callable[[float], str]] = {  # column of the summary -> its text
    "parameters": "{:,.0f}".format,
    "train_seconds": duration,
    "behavior_seconds": duration,
    "decision_milliseconds": "{:.2f} ms".format,
    "decision_episodes": "{:.0f}".format,
}


def comparison_page(comparison: Comparison, page: Path) -> str:
    """The whole page as text. Equal results of the same commit give equal pages.

    Args:
        comparison: what to show.
        page: where the page will lie, for links to large files.
    """
    media = Media(page)
    trusted = grid([figures.imagined(comparison), figures.coverage(comparison), figures.ends(comparison)])
    sections = [
        Section("Reading help", _advice(comparison)),
        Section("Returns", figures.returns(comparison), reading.RETURNS),
        Section("Can the models be trusted?", trusted + figures.calibration_table(comparison), reading.CALIBRATION),
        Section("How far ahead the models predict", figures.against_horizon(comparison), reading.HORIZON),
        Section("What the states know", _probes(comparison), reading.PROBES),
        Section("Terms of the reward", _terms(comparison), reading.TERMS),
        Section("Learning curves", figures.learning(comparison), reading.LEARNING),
        Section("Dreams beside the truth", _dreams(comparison, media), reading.DREAMS),
        Section("The policies at work", _policies(comparison, media), reading.POLICIES),
        Section("Cost", _cost(comparison), reading.COST),
        Section("What differs in the settings", _settings(comparison), reading.SETTINGS),
        Section("The data", _data(comparison, media), reading.DATA),
        Section("How this was made", _made(comparison), reading.ORIGIN),
    ]
    title = f"Comparison: {comparison.title}"
    parts = (_headline(comparison), contents(sections), *(section.html() for section in sections))
    return document(title, f"<h1>{escape(title)}</h1>{''.join(parts)}")


HEADLINE = ("success_rate", "return_iqm", "return_mean", "normalized_mean", "imagined_return", "real_return")


def _headline(comparison: Comparison) -> str:
    names = (*HEADLINE, comparison.reward_error, "probe_r2")
    shown = headline(comparison.summary, names, interval=comparison.interval)
    rows = [
        [Cell(cell.text, cell.best, None if place else position) for place, cell in enumerate(row)]
        for position, row in enumerate(shown.rows)
    ]
    meaning = "".join(
        f"<dt><strong>{escape(name)}</strong></dt><dd>{escape(text)}</dd>" for name, text in shown.meanings.items()
    )
    best = any(cell.best for row in rows for cell in row)
    caption = "★ marks the best of a column; for returns, also those whose interval reaches it." if best else ""
    return (
        f'<p class="winner">{escape(advice.winner(comparison))}</p>'
        + table(shown.head, rows, caption=caption)
        + f'<p class="soft">{escape(_episodes(comparison))}</p>'
        + f"<details><summary>What the columns mean</summary><dl>{meaning}</dl></details>"
    )


def _episodes(comparison: Comparison) -> str:
    references = ", ".join(f"{name} {value:.1f}" for name, value in comparison.references.items())
    compared = f" For comparison: {references}." if references else ""
    played = f"{comparison.evaluation.episodes} episodes per training." if any(comparison.returns.values()) else ""
    return f"{played}{compared}".strip()


def _advice(comparison: Comparison) -> str:
    """What stands out, and the rules behind it with their thresholds."""
    rows = [
        [name, words, ", ".join(objectives) or "no objective"] for name, words, objectives in advice.rules(comparison)
    ]
    caption = "The rules of thumb behind these hints. Nothing is decided by them."
    return listing([*advice.hints(comparison), *advice.caveats(comparison)]) + table(
        ["rule", "applies if", "applies to"], rows, caption=caption, numbers=False
    )


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


def _terms(comparison: Comparison) -> str:
    names = reward_terms(comparison.summary)
    rows = [
        [Cell(str(row["objective"]), series=position), *(Cell(number(row.get(name), 4)) for name in names)]
        for position, row in enumerate(comparison.rows())
    ]
    return table(["objective", *map(label, names)], rows) if names else ""


def _dreams(comparison: Comparison, media: Media) -> str:
    clips = [
        media.video(path, f"{objective}, seed {comparison.seeds[0]}", position)
        or media.image(path.with_suffix(".png"), f"open-loop prediction of {objective}")
        for position, objective in enumerate(comparison.objectives)
        for path in _media(comparison, "world_model", objective)
    ]
    return _in_step(clips)


def _policies(comparison: Comparison, media: Media) -> str:
    clips = [
        media.video(path, f"{objective}, seed {comparison.seeds[0]}", position)
        for position, objective in enumerate(comparison.objectives)
        for path in _media(comparison, "evaluation", objective)
    ]
    return _in_step(clips)


def _in_step(clips: Sequence[str]) -> str:
    """Videos that a button of the script plays in step."""
    return f"<div data-videos>{grid(clips)}</div>" if any(clips) else ""


def _media(comparison: Comparison, stage: str, objective: str) -> list[Path]:
    """The videos of the first seed; images where there is no video of the same name."""
    folder = comparison.runs / stage / run_key(objective, comparison.seeds[0]) / "media"
    videos = sorted(folder.glob("*.mp4"))
    return videos or [path.with_suffix(".mp4") for path in sorted(folder.glob("*.png"))]


def _cost(comparison: Comparison) -> str:
    names = [name for name in COSTS if name in comparison.summary]
    rows = [
        [Cell(str(row["objective"]), series=position), *(Cell(_amount(row, name)) for name in names)]
        for position, row in enumerate(comparison.rows())
    ]
    return table(["objective", *(label(f"cost/{name}") for name in names)], rows) if names else ""


def _amount(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or not np.isfinite(value):
        return "-"
    return COSTS[name](value)


def _settings(comparison: Comparison) -> str:
    rows = [
        [key, *(of_objective.get(objective, "-") for objective in comparison.objectives)]
        for key, of_objective in comparison.different_settings.items()
    ]
    return table(["setting", *comparison.objectives], rows, numbers=False) if rows else ""


def _data(comparison: Comparison, media: Media) -> str:
    paths = [] if comparison.card is None else sorted(comparison.card.glob("*.png"))
    images = grid(media.image(path, f"{comparison.dataset}: {path.stem}") for path in paths)
    return (table(["what", "value"], comparison.data, numbers=False) if comparison.data else "") + images


def _made(comparison: Comparison) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    rows = [
        ["objectives", ", ".join(comparison.objectives)],
        ["seeds", ", ".join(map(str, comparison.seeds))],
        ["evaluation", f"{comparison.evaluation.episodes} episodes, the first with seed {comparison.evaluation.seed}"],
        ["intervals", f"{comparison.evaluation.resamples:,} bootstrap samples of seeds and, within them, episodes"],
        *comparison.origin,
        ["versions", versions],
        ["numbers", "summary.csv, runs.csv and horizons.csv beside this page"],
    ]
    commands = escape("\n".join(comparison.commands))
    return table(["what", "value"], rows, numbers=False) + (f"<pre><code>{commands}</code></pre>" if commands else "")
