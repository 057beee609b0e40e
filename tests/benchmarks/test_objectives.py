"""The comparison of objectives in ``benchmarks/offline_suite``: its tables follow from the recorded runs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite import objectives


@pytest.mark.parametrize("task", list(objectives.FIGURES))
def test_recorded_summary_follows_from_runs_and_episodes(task: str, root: Path) -> None:
    folder = root / "benchmarks/offline_suite"
    summary = pd.read_csv(folder / "objectives" / f"{task}.csv").set_index("objective")
    episodes = pd.read_csv(folder / "results/episodes.csv")
    runs = pd.read_csv(folder / "results/runs.csv")
    references = objectives.references_of(runs, task)
    low, high = references["low reference"], references["high reference"]
    for name, method in objectives.METHODS.items():
        returns = np.concatenate(objectives.returns_of(episodes, task, method))
        assert len(returns) == 60
        assert summary.loc[name, "return_mean"] == pytest.approx(returns.mean())
        assert summary.loc[name, "return_iqm"] == pytest.approx(np.sort(returns)[15:45].mean())
        assert summary.loc[name, "normalized_mean"] == pytest.approx(100 * (returns.mean() - low) / (high - low))


def test_normalised_score_is_0_and_100_at_the_references() -> None:
    runs = pd.DataFrame({"evaluation/return_mean": [20.0, 70.0, 45.0]})
    scores = objectives.normalized(runs, {"low reference": 20.0, "high reference": 70.0})
    assert scores["evaluation/normalized_mean"].tolist() == [0.0, 100.0, 50.0]
