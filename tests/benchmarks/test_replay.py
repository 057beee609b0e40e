"""The benchmark of imagination and replay: budgets, claims, verdicts, and a small run."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.episodes import Returns
from benchmarks.offline_suite.results import Results
from benchmarks.replay import figure, report, run
from benchmarks.replay.learning import Budgets, points
from benchmarks.replay.plan import Benchmark, Claim
from benchmarks.replay.run import COLUMNS
from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import composed
from dreamset.pipeline.evaluation.statistics import Estimate

SMALL: dict[str, Any] = {
    "common": ["device=cpu", "evaluation.episodes=2", "evaluation.resamples=10"],
    "tasks": {"pendulum_state": ["dataset=pendulum_state", "preset=tiny"]},
    "methods": {
        "imagination_2": ["behavior=dreamer_v3", "imagination.horizon=2"],
        "sac": ["behavior=latent_sac_retrace", "behavior.conservative_samples=2"],
    },
    "budgets": {"updates": [1, 2], "seconds": [0.001]},
    "claims": [{"text": "imagination wins", "more": "imagination_2", "less": "sac"}],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "replay.yaml"
    path.write_text(json.dumps(SMALL | changes))
    return path


def test_every_method_of_the_benchmark_composes() -> None:
    benchmark = Benchmark.read()
    for method, overrides in benchmark.methods.items():
        config = composed((*benchmark.common, *benchmark.tasks["pendulum_state"], *overrides)).config
        assert config["behavior_training"]["batch"]["size"] == 8, method
        assert config["behavior_training"]["batch"]["length"] == 16, method


def test_mistakes_in_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a claim names td3; available: imagination_2, sac; fix it"):
        Benchmark.read(written(tmp_path, claims=[{"text": "", "more": "td3", "less": "sac"}]))
    with pytest.raises(UserError, match="budgets are updates; allowed: updates, seconds; fix it"):
        Benchmark.read(written(tmp_path, budgets={"updates": [1]}))
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(written(tmp_path, task={}))
    chosen = Benchmark.read(written(tmp_path)).choose(None, ["sac"])
    assert (list(chosen.methods), chosen.claims) == (["sac"], [])


def test_an_update_that_passes_several_budgets_reaches_each_once() -> None:
    budgets = Budgets({"updates": [2, 4], "seconds": [1.0, 2.0, 9.0]})
    assert budgets.reached({"updates": 1, "seconds": 0.5}) == []
    assert budgets.reached({"updates": 2, "seconds": 2.5}) == [("updates", 2), ("seconds", 1.0), ("seconds", 2.0)]
    assert budgets.reached({"updates": 5, "seconds": 3.0}) == [("updates", 4)]
    assert not budgets.done
    assert budgets.reached({"updates": 6, "seconds": 9.0}) == [("seconds", 9.0)]
    assert budgets.done


@dataclass
class Steady:
    """Every update takes 0.4 seconds; the return is the number of updates."""

    spent: dict[str, float] = field(default_factory=lambda: {"updates": 0, "seconds": 0.0})

    def update(self) -> None:
        self.spent["updates"] += 1
        self.spent["seconds"] += 0.4

    def play(self) -> Returns:
        return [(self.spent["updates"], 1)]


def test_one_training_serves_both_kinds_of_budgets() -> None:
    found = points(Steady(), {"updates": [2, 3], "seconds": [1.0, 2.0]})  # type: ignore[arg-type]
    reached = [(figures["budget"], figures["amount"], figures["updates"], returns) for figures, returns in found]
    assert reached == [
        ("updates", 2, 2, [(2, 1)]),
        ("updates", 3, 3, [(3, 1)]),
        ("seconds", 1.0, 3, [(3, 1)]),
        ("seconds", 2.0, 5, [(5, 1)]),
    ]


def hand_made(folder: Path) -> report.Scores:
    """Imagination returns more for equal updates, less for equal seconds."""
    results, totals = Results(folder, COLUMNS), {"imagination_2": (80.0, 10.0), "sac": (50.0, 60.0)}
    known = {"task": "pendulum_state", "settings": "s", "dataset_digest": "d"}
    for method, returns in totals.items():
        for seed in (0, 1):
            row = known | {"updates": 7, "seed": seed, "group": method, "method": method}
            budgets = ({"budget": "updates", "amount": 2}, {"budget": "seconds", "amount": 0.001})
            made = [{"run": row | budgets[k], "episodes": [(returns[k], 1)] * 3} for k in range(2)]
            run.add(results, {"points": made})
    return report.read(folder, Benchmark.read(written(folder)), 0.95, 50)


def test_claims_are_judged_at_the_last_budget_of_each_kind(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    *_, row = report.claims_table(scores).splitlines()
    assert row == "| pendulum_state | imagination wins | holds: 80.0 and 50.0 | reversed: 10.0 and 60.0 |"
    text = report.sentences(scores)
    assert "- **Holds:** imagination wins (pendulum_state, equal updates)." in text
    assert "- **The opposite holds:** imagination wins (pendulum_state, equal seconds)." in text
    assert "2 of 2 methods of `pendulum_state`" in report.coverage(scores)
    assert "| sac | 60.0 (60.0 to 60.0), 7 |" in report.markdown(scores)


@pytest.mark.parametrize(
    ("less", "expected"), [((0, 1, 2.9), "holds"), ((0, 1, 3), "open"), ((5, 6, 7), "open"), ((5.1, 6, 7), "reversed")]
)
def test_a_verdict_needs_disjoint_intervals(less: tuple[float, float, float], expected: str) -> None:
    low, value, high = less
    assert report.verdict(Estimate(4, 3, 5), Estimate(value, low, high)) == expected


def test_what_is_missing_is_named_as_not_measured(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    assert report.cell(scores, "elsewhere", Claim("", "sac", "imagination_2"), "updates") == report.NOT_MEASURED


def test_figure_has_a_line_per_method_and_a_panel_per_budget(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    panels = figure.plot(scores.benchmark, scores.of).axes
    labels = [[line.get_label() for line in axes.lines if not line.get_label().startswith("_")] for axes in panels]
    assert labels == [["imagination_2", "sac"]] * 2
    assert panels[0].lines[0].get_ydata().tolist() == [80.0]


@pytest.mark.slow
def test_runs_from_recording_to_report_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, said = tmp_path / "results", []
    folders = ["--benchmark", str(written(tmp_path)), "--work", str(tmp_path / "w"), "--results", str(results)]
    for _ in range(2):
        with pytest.raises(SystemExit) as finished:
            run.main([*folders, "--seeds", "0"])
        said.append(capsys.readouterr().err)
        assert finished.value.code == 0, said
    assert ["replay: " in text for text in said] == [True, False]  # at last, nothing was left to do
    runs = pd.read_csv(results / "runs.csv")
    names = [f"{m}{budget}" for m in SMALL["methods"] for budget in ("", "@0.001 seconds", "@1 updates", "@2 updates")]
    assert sorted(runs["method"]) == sorted(names)
    assert runs["world_model"].nunique() == 1
    assert runs[["cpu_seconds", "return_mean", "code"]].notna().all(axis=None)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text((report.FOLDER / report.TEXT).read_text())
    report.main([*folders[:2], "--results", str(results), "--output", str(docs), "--resamples", "20"])
    assert sorted(path.name for path in docs.iterdir()) == ["README.md", "returns.png", "returns_dark.png", "tables.md"]
    assert "imagination wins" in (docs / "README.md").read_text()
