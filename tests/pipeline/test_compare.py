"""The comparison's table: its numbers and what it says about them."""

import numpy as np
import pandas as pd
import pytest

from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.stages.compare import markdown, summarize
from dreamset.pipeline.stages.settings import Compare

EVALUATION = Evaluation(episodes=4, seed=0, confidence=0.95, resamples=50, video_episodes=1)
RETURNS = [np.array([0.0, 2.0, 4.0, 100.0]), np.array([1.0, 2.0, 3.0, 4.0])]


def table(seeds: list[int]) -> str:
    settings = Compare(
        dataset="task", objectives=["mine"], seeds=seeds, evaluation=EVALUATION, runs="runs", output="output"
    )
    runs = pd.DataFrame(
        {
            "objective": "mine",
            "seed": seeds,
            "evaluation/return_mean": [returns.mean() for returns in RETURNS[: len(seeds)]],
            "evaluation/normalized_mean": [10.0, 20.0][: len(seeds)],
            "validation/probe_r2": 0.9,
            "validation/probe_correlation_reward_q1": 0.8,
            "validation/probe_correlation_reward_q4": -0.5,
        }
    )
    return markdown(settings, summarize(runs, {"mine": RETURNS[: len(seeds)]}, EVALUATION), {"low reference": 0.0})


def row(seeds: list[int]) -> dict[str, str]:
    head, _, cells = (line.strip("| ").split(" | ") for line in table(seeds).splitlines() if line.startswith("|"))
    return dict(zip(head, cells, strict=True))


def test_normalised_score_stands_beside_the_mean_and_the_interquartile_mean_beside_both() -> None:
    cells = row([0, 1])
    assert (cells["return (IQM)"], cells["mean"], cells["normalised"]) == ("2.8", "14.5", "15")
    assert cells["probe $R^2$"] == "0.900"
    assert cells["probe correlation by reward, q1 / q2 / q3 / q4"] == "0.80 / - / - / -0.50"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([0], "not that of trainings"), ([0, 1], "With 2 training seeds, the intervals are too narrow")],
)
def test_table_of_few_seeds_says_what_its_intervals_miss(seeds: list[int], said: str) -> None:
    assert said in table(seeds)
