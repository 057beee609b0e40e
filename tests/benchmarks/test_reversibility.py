"""The benchmark of reversibility: AUC, plan, measurements and report."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.offline_suite.ours import COST
from benchmarks.offline_suite.results import Results
from benchmarks.reports import END
from benchmarks.reversibility import figure, report
from benchmarks.reversibility.auc import auc
from benchmarks.reversibility.benchmark import Benchmark
from benchmarks.reversibility.measuring import Judge
from benchmarks.reversibility.plan import Plan
from benchmarks.reversibility.run import COLUMNS, SCORES
from benchmarks.reversibility.scores import Scores
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import Store
from dreamset.environments import turf


@pytest.mark.parametrize("seed", range(10))
def test_auc_counts_pairs_in_the_right_order_and_ties_half(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, positive = generator.integers(0, 6, 40) / 5, generator.random(40) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_auc_of_one_class_is_unknown() -> None:
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([False, False])))


@dataclass(frozen=True)
class Seen:
    vector: torch.Tensor


class Whole:
    """A world model whose features are the state vector of the last row."""

    spec = SimpleNamespace(action=ActionSpec(turf.ACTIONS, discrete=True, low=(0.0,) * 5, high=(1.0,) * 5))

    def initial(self, count: int) -> Any:
        return Seen(torch.zeros(count, 1))

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Any:  # noqa: ARG002
        return torch.zeros(*shape, 0)

    def filter(self, state: Any, action: Any, observations: Any, is_first: Any, noise: Any) -> Any:  # noqa: ARG002
        assert len(state.vector) == len(action) == len(is_first) == len(observations["state"])
        return Seen(observations["state"])

    def features(self, state: Any) -> Any:
        return state.vector


class Knowing(nn.Module):
    """Answers from the exact graph, as psi (two states) and as phi (a state and an action)."""

    def __init__(self, rules: turf.TurfRules) -> None:
        super().__init__()
        self.rules = rules

    def irreversibility(self, before: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        graph, states = self.rules.graph, self.rules.numbers(before.numpy())
        if other.shape[-1] == turf.ACTIONS:
            return torch.as_tensor(~graph.reversible(states, other.argmax(-1).numpy())).float()
        after = self.rules.numbers(other.numpy())
        return torch.as_tensor(graph.components[graph.index(states)] != graph.components[graph.index(after)]).float()


def test_estimators_that_know_the_truth_score_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = turf.rules_of(turf.LAYOUTS["strip"])
    monkeypatch.setattr(turf, "rules_of", None)  # the judge asks the rules that it got
    state, rows, actions = rules.starts[0], [], [turf.DOWN, turf.DOWN, turf.RIGHT, turf.RIGHT]
    for action in [None, *actions]:
        state = state if action is None else rules.step(state, action)
        rows.append(state)
    episode = {
        "privileged.state": rules.vectors(np.array(rows)),
        "action": np.eye(turf.ACTIONS, dtype=np.float32)[[0, *actions]],
    }
    store: Any = SimpleNamespace(read=lambda _: episode, split=lambda name: {"validation": [3], "train": []}[name])
    networks = {name: Knowing(rules) for name in ("precedence", "action_irreversibility")}
    figures = Judge(Whole(), networks, rules).figures(store, seed=0)
    assert set(figures) == set(SCORES)
    for where in ("visited", "reachable"):
        assert figures[f"psi_auc_{where}"] == figures[f"phi_auc_{where}"] == 1
        assert figures[f"psi_reversible_{where}"] == 0
    visited = rules.graph.index(np.array(rows[:-1]))
    expected = [
        rules.graph.components[a] != rules.graph.components[b] for a in visited for b in rules.graph.arrivals[a]
    ]
    assert figures["irreversible_share_visited"] == pytest.approx(np.mean(expected))


def row(world: str, quality: str, method: str, seed: int, **figures: float) -> dict[str, Any]:
    names = {"task": f"{world}_{quality}", "world": world, "quality": quality, "method": method, "seed": seed}
    return {**names, "settings": "s", "dataset_digest": "d", "harm": 0.0, "success": 1.0, "return_mean": 1.0, **figures}


def hand_made(folder: Path) -> Scores:
    """The term lowers harm on mixed data; expert data teach psi nothing."""
    results = Results(folder, COLUMNS)
    for seed in (0, 1):
        for quality, psi in (("mixed", 0.9), ("expert", 0.5)):
            known = {"psi_auc_visited": psi + 0.02 * seed, "phi_auc_visited": psi, "psi_reversible_visited": 1.2 - psi}
            results.add(row("turf", quality, "plain", seed, harm=3.0 + seed), [(1.0, 5)])
            results.add(row("turf", quality, "term", seed, harm=0.25 * seed, success=0.5, **known), [(1.0, 5)])
    return Scores.read(folder, confidence=0.95, resamples=200)


def test_scores_are_means_over_seeds_and_missing_ones_are_none(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    psi = scores.of("turf", "mixed", "term", "psi_auc_visited")
    assert psi is not None
    assert (psi.value, psi.low, psi.high) == (pytest.approx(0.91), 0.9, 0.92)
    assert scores.of("turf", "mixed", "plain", "psi_auc_visited") is None
    assert scores.of("turf", "mixed", "filter", "harm") is None


def test_tables_compare_every_policy_with_the_plain_one(tmp_path: Path) -> None:
    scores, benchmark = hand_made(tmp_path), Benchmark.read()
    _, _, *rows = report.verdict_table(scores, benchmark).splitlines()
    assert rows[:2] == [
        "| turf | mixed | plain | 3.50 (3.00 to 4.00) |  | 1.00 |  |",
        "| turf | mixed | term | 0.12 (0.00 to 0.25) | below | 0.50 | below |",
    ]
    _, _, mixed, expert = report.estimator_table(scores, benchmark, "visited").splitlines()
    assert mixed == "| turf | mixed |  |  | 0.91 (0.90 to 0.92) | 0.90 | 0.30 |  |"
    assert expert.startswith("| turf | expert |  |  | 0.51")
    assert report.estimator_table(scores, benchmark, "reachable") == ""


def test_one_seed_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    results = Results(tmp_path, COLUMNS)
    for method, harm in (("plain", 3.0), ("term", 1.0)):
        results.add(row("turf", "mixed", method, 0, harm=harm), [(1.0, 5)])
    scores = Scores.read(tmp_path, confidence=0.95, resamples=20)
    _, _, plain, term = report.verdict_table(scores, Benchmark.read()).splitlines()
    assert plain == "| turf | mixed | plain | 3.00 |  | 1.00 |  |"
    assert term == "| turf | mixed | term | 1.00 |  | 1.00 |  |"
    figure.plot(scores, Benchmark.read())


def test_figure_shows_every_estimate_with_its_interval(tmp_path: Path) -> None:
    scores, benchmark = hand_made(tmp_path), Benchmark.read()
    auc_panel, harm, success = figure.plot(scores, benchmark).axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in harm.lines if not line.get_label().startswith("_")}
    assert drawn == {"plain": [3.5, 3.5], "filter": [], "term": [0.125, 0.125], "term and filter": []}
    assert [label.get_text() for label in harm.get_xticklabels()] == ["mixed", "expert"]
    assert harm.get_ylabel() == "ruined cells per episode"
    assert [3.0, 4.0] in [list(line.get_ydata()) for line in harm.lines]
    assert success.get_ylabel() == "success"
    assert auc_panel.lines[-1].get_ydata()[0] == 0.5


def test_report_is_written_for_light_and_dark_paper(tmp_path: Path) -> None:
    hand_made(tmp_path)
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{END}\nafter\n")
    report.main(["--results", str(tmp_path), "--output", str(tmp_path), "--resamples", "20"])
    assert {"scores.png", "scores_dark.png", "tables.md"} <= {path.name for path in tmp_path.iterdir()}
    text = (tmp_path / "README.md").read_text()
    assert "4 of 25 rows of `turf_mixed`" in text
    assert (text[:6], "old" in text, text[-6:]) == ("before", False, "after\n")


def test_unknown_names_and_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no methods careful; available: plain, filter, term"):
        Benchmark.read().choose(None, ["careful"])
    with pytest.raises(UserError, match="no tasks turf; available: turf_random"):
        Benchmark.read().choose(["turf"], None)
    broken = tmp_path / "broken.yaml"
    broken.write_text("{worlds: {}, qualities: [], methods: {}, commons: []}")
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(broken)


def test_ways_of_acting_share_models_and_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = SimpleNamespace(path=tmp_path / "s", digest="d" * 20, info={"source": {}})
    monkeypatch.setattr(Store, "open", lambda _: store)
    plan = Plan(Benchmark.read().choose(["push_mixed"], None), [0], tmp_path)
    jobs = {job.name: job for job in plan.remaining({})}
    measured = {name.split("/")[1]: job for name, job in jobs.items() if job.work["kind"] == "reversibility"}
    assert list(measured) == [f"{name}-0" for name in plan.benchmark.methods]
    evaluate = {name: job.work["evaluate"] for name, job in measured.items()}
    four = list(evaluate)[:4]
    assert len({evaluate[name]["world_model"] for name in four}) == 1
    assert evaluate["observations-0"]["world_model"] != evaluate["term-0"]["world_model"]
    assert evaluate["term-0"]["policy"] == evaluate["term_and_filter-0"]["policy"]
    assert len({job["policy"] for job in evaluate.values()}) == 4
    assert evaluate["term-0"]["acting"] is None
    assert evaluate["filter-0"]["acting"] is not None
    assert measured["plain-0"].work["harm"] == "deadlocked"
    for job in jobs.values():  # as if all models were trained
        if "stage" in job.work:
            folder = Path(job.work["stage"]["output"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / COST).write_text("{}")
    assert {job.work["kind"] for job in plan.remaining({})} == {"reversibility"}
    finished = {
        ("push_mixed", name, "0"): plan.benchmark.settings_digest(plan.benchmark.tasks["push_mixed"], method)
        for name, method in plan.benchmark.methods.items()
    }
    assert plan.remaining(finished) == []
