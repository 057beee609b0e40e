"""The words for metrics: every figure that a stage writes has a label and an explanation."""

import re
from pathlib import Path

import pytest

from dreamset.pipeline.report.metrics import METRICS, label, metric

GOLDEN = Path(__file__).parents[1] / "golden/stages.json"
STAGES = ("world_model", "behavior", "evaluation", "finetune")


def written() -> list[str]:
    """The names of all figures in the recorded metrics.json of every stage."""
    return sorted(set(re.findall(rf'"(?:{"|".join(STAGES)})/([a-z_]+/[^"]+)"', GOLDEN.read_text())))


def test_every_recorded_figure_has_words() -> None:
    names = written()
    assert len(names) > 40
    assert [name for name in names if not metric(name).meaning] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("validation/reward_error_h15", "reward error +15"),
        ("validation/reward_error_h45", "reward error +45"),
        ("validation/probe_r2.state", "probe R², state"),
        ("validation/probe_r2_h5.state", "probe R² +5.state"),
        ("loss/kl", "loss: kl"),
        ("a metric of the user's own", "a metric of the user's own"),
    ],
)
def test_label_of_a_metric(name: str, expected: str) -> None:
    assert label(name) == expected


def test_headline_has_few_figures_and_says_which_direction_is_better() -> None:
    headline = [entry for entry in METRICS if entry.headline]
    assert 3 <= len(headline) <= 6
    assert headline[0].label == "return (IQM)"
    assert sum(entry.better != "neither" for entry in headline) >= 4
