"""Writes the comparison of objectives on the two image tasks from recorded runs and episodes.

    python -m benchmarks.offline_suite.objectives

Reads ``objectives/TASK_runs.csv``, the metrics of each training, and the returns of every episode, from the suite or,
for objectives that it does not have, from ``objectives/TASK_episodes.csv``. Writes ``objectives/TASK.csv``,
``objectives/tables.md`` and the figures, as the stage ``compare`` does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.offline_suite.report import table
from benchmarks.offline_suite.run import RESULTS
from dreamset.core.files import save_with, write_text
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.statistics import coverage_note
from dreamset.pipeline.report import comparison_figure
from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.stages.compare import Returns, against_horizon, summarize

FOLDER = Path(__file__).parent / "objectives"
ROOT = Path(__file__).parents[2]
FIGURES = {"pendulum_pixels": ROOT / "docs/comparison.png", "puck_pixels": FOLDER.parent / "puck_comparison.png"}
METHODS = {"reconstruction": "v1_reconstruction", "contrastive": "v1_contrastive", "reward_only": "v1_reward_only"}
ORDER = ("reconstruction", "predictive_contrastive", "contrastive", "reward_only")
HEAD = ("objective", "return (IQM)", "95 % interval", "mean", "normalised", "imagined / real")
EVALUATION = Evaluation(episodes=20, seed=1_000_000, confidence=0.95, resamples=10_000, video_episodes=1)


def main() -> None:
    """Writes the tables and the figures of both tasks."""
    episodes = pd.read_csv(RESULTS / "episodes.csv")
    of_suite = pd.read_csv(RESULTS / "runs.csv")
    parts = []
    for task, path in FIGURES.items():
        runs = pd.read_csv(FOLDER / f"{task}_runs.csv")
        found = {name: returns_of(episodes, task, method) for name, method in METHODS.items()} | own_returns(task)
        returns = {name: found[name] for name in ORDER if name in found}
        references = references_of(of_suite, task)
        summary = summarize(normalized(runs, references), returns, EVALUATION)
        save_with(FOLDER / f"{task}.csv", lambda beside, summary=summary: summary.to_csv(beside, index=False))
        shown = Comparison(
            dataset=task,
            preset="small",
            seeds=sorted(set(runs["seed"])),
            evaluation=EVALUATION,
            summary=summary,
            horizons=against_horizon(runs),
            returns=returns,
            references=references,
            runs=FOLDER,
        )
        comparison_figure.draw(shown, path)
        comparison_figure.draw(shown, path.with_stem(f"{path.stem}_dark"), scheme="dark")
        parts += [task, markdown(summary), coverage_note(runs["seed"].nunique())]
    write_text(FOLDER / "tables.md", "\n\n".join(parts) + "\n")


def returns_of(episodes: pd.DataFrame, task: str, method: str) -> Returns:
    """The returns of a method's episodes on a task, one array per training seed."""
    rows = episodes[(episodes["task"] == task) & (episodes["method"] == method)]
    return [group["return"].to_numpy(np.float64) for _, group in rows.groupby("seed")]


def own_returns(task: str) -> dict[str, Returns]:
    """The returns of objectives that the suite does not have, by name; as ``returns_of``."""
    path = FOLDER / f"{task}_episodes.csv"
    if not path.exists():
        return {}
    return {
        str(name): [group["return"].to_numpy(np.float64) for _, group in rows.groupby("seed")]
        for name, rows in pd.read_csv(path).groupby("objective")
    }


def references_of(runs: pd.DataFrame, task: str) -> dict[str, float]:
    """The mean returns of the dataset and of its two reference policies, as the stage ``compare`` names them."""
    rows = runs[runs["task"] == task]
    return {
        "dataset mean": float(rows.loc[rows["method"] == "dataset", "return_mean"].iloc[0]),
        "low reference": float(rows["reference_low"].iloc[0]),
        "high reference": float(rows["reference_high"].iloc[0]),
    }


def normalized(runs: pd.DataFrame, references: Mapping[str, float]) -> pd.DataFrame:
    """The runs with the normalised score of their mean return."""
    low, high = references["low reference"], references["high reference"]
    return runs.assign(**{"evaluation/normalized_mean": 100 * (runs["evaluation/return_mean"] - low) / (high - low)})


def markdown(summary: pd.DataFrame) -> str:
    """The table of one task."""
    return table((*HEAD, "reward error +1 / +5 / +15", "probe R²"), [_cells(row) for row in summary.to_dict("records")])


def _cells(row: Mapping[Any, Any]) -> list[str]:
    return [
        str(row["objective"]),
        f"{row['return_iqm']:.1f}",
        f"{row['return_iqm_low']:.1f} to {row['return_iqm_high']:.1f}",
        f"{row['return_mean']:.1f}",
        f"{row['normalized_mean']:.0f}",
        f"{row['imagined_return']:.1f} / {row['real_return']:.1f}",
        f"{row['reward_error_h1']:.4f} / {row['reward_error_h5']:.4f} / {row['reward_error_h15']:.3f}",
        f"{row['probe_r2']:.3f}",
    ]


if __name__ == "__main__":
    main()
