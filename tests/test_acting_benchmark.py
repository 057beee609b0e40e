"""The benchmark of acting in ``benchmarks/``: planning of jobs, time of decisions, results and report."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are not installed

from benchmarks.acting import figure, report, run, scores
from benchmarks.acting.benchmark import Benchmark, Method, Task, settings_digest
from benchmarks.acting.plan import Plan
from benchmarks.acting.playing import Timed
from benchmarks.acting.run import COLUMNS, RESULTS
from benchmarks.acting.simulator import ExactPendulum
from benchmarks.offline_suite.jobs import Job
from benchmarks.offline_suite.ours import COST
from benchmarks.offline_suite.results import Results
from benchmarks.offline_suite.scores import position
from benchmarks.reports import END
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.datasets import RawEpisode, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.environments import pendulum
from dreamset.pipeline.evaluation.statistics import Estimate, interquartile_mean

SMALL = Benchmark(
    common=("device=cpu",),
    tasks={
        "pendulum_state": Task(
            data=("dataset=pendulum_state",),
            learning=("preset=tiny",),
            planning=("acting.optimizer.candidates=16",),
            simulated=("cem",),
        )
    },
    objectives={
        "reconstruction": ("objective=reconstruction", "world_model/ensemble=priors"),
        "reward_only": ("objective=reward_only", "world_model/ensemble=priors"),
    },
    rewards={"predicted": ("reward=predicted",), "pessimistic": ("reward=mean_disagreement",)},
    ways={"actor": (), "cem": ("acting=cem",)},
    systems={"planner": {"pendulum_state": ("preset=tiny", "behavior=planning")}, "elsewhere": {"puck": ()}},
)


WRITTEN = ["returns.png", "returns_dark.png", "tables.md"]


class OneEpisode:
    """Three rows of zeros."""

    episode_count = 1

    def describe(self) -> SourceDescription:
        action = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))
        return SourceDescription({"state": ArraySpec((3,), "float32")}, {}, action, {"format": "zeros"})

    def read(self, _number: int) -> RawEpisode:
        return RawEpisode(
            name="zeros",
            observations={"state": np.zeros((4, 3), np.float32)},
            actions=np.zeros((3, 1), np.float32),
            rewards=np.zeros(3, np.float32),
            terminated=False,
            privileged={},
        )


def planned(work: Path, finished: dict[tuple[str, str, str], str], benchmark: Benchmark = SMALL) -> dict[str, Job]:
    if not (work / "stores/pendulum_state").exists():
        write_store(OneEpisode(), work / "stores/pendulum_state", splits=lambda kept: {"train": np.arange(len(kept))})
    jobs = Plan(benchmark, [0, 1], work).remaining(finished)
    assert len({job.name for job in jobs}) == len(jobs)
    return {job.name: job for job in jobs}


def of_kind(jobs: dict[str, Job], kind: str) -> dict[str, Job]:
    return {name: job for name, job in jobs.items() if job.work["kind"] == kind}


def test_all_ways_act_in_the_same_saved_models(tmp_path: Path) -> None:
    jobs = planned(tmp_path, {})
    played = of_kind(jobs, "acting")
    assert len(played) == 2 * (2 * 2 * 2 + 1)  # seeds x (objectives x rewards x ways + one system)
    models = {name: job.work["evaluate"]["world_model"] for name, job in played.items()}
    policies = {name: job.work["evaluate"]["policy"] for name, job in played.items()}
    task = "pendulum_state/reconstruction"
    assert models[f"{task}-actor-0"] == models[f"{task}-cem-0"] == models[f"{task}-cem-pessimistic-0"]
    assert policies[f"{task}-actor-0"] == policies[f"{task}-cem-0"] != policies[f"{task}-cem-pessimistic-0"]
    assert {name.rpartition("-")[0] for name in of_kind(jobs, "simulator")} == {"pendulum_state/exact_dynamics-cem"}
    assert len(set(models.values())) == len(of_kind(jobs, "world_model")) == 2 * 3
    assert len(set(policies.values())) == len(of_kind(jobs, "policy")) == 2 * 5


def test_only_planners_get_the_settings_of_planning_and_the_reward_of_their_policy(tmp_path: Path) -> None:
    jobs = planned(tmp_path, {})
    settings = {name.removeprefix("pendulum_state/"): job.work.get("evaluate", {}) for name, job in jobs.items()}
    assert settings["reconstruction-actor-0"]["acting"] is None
    for name, learned in (("cem", "predicted"), ("cem-pessimistic", "mean_disagreement")):
        acting = settings[f"reconstruction-{name}-0"]["acting"]
        policy = Path(settings[f"reconstruction-{name}-0"]["policy"]).parent.name
        assert acting["optimizer"]["candidates"] == 16
        assert acting["reward"] == jobs[f"policies/{policy}"].work["stage"]["reward"], learned
    assert settings["planner-whole-0"]["acting"]["optimizer"]["candidates"] == 128  # as its own settings say


def test_jobs_wait_for_the_models_that_are_not_trained_yet(tmp_path: Path) -> None:
    jobs = planned(tmp_path, {})
    job = jobs["pendulum_state/reconstruction-actor-0"]
    model, policy = (Path(job.work["evaluate"][name]).parent for name in ("world_model", "policy"))
    assert job.needs == {f"world_models/{model.name}", f"policies/{policy.name}"}
    assert jobs[f"policies/{policy.name}"].needs == {f"world_models/{model.name}"}
    for folder in (model, policy):
        folder.mkdir(parents=True)
        (folder / COST).write_text("{}")
    later = planned(tmp_path, {})
    assert later["pendulum_state/reconstruction-actor-0"].needs == set()
    assert jobs.keys() - later.keys() == {f"world_models/{model.name}", f"policies/{policy.name}"}


def test_finished_rows_are_not_repeated_unless_their_settings_change(tmp_path: Path) -> None:
    rows = [(method, str(seed)) for method in SMALL.methods("pendulum_state") for seed in (0, 1)]
    finished = {("pendulum_state", method.name, seed): settings_digest(method) for method, seed in rows}
    assert planned(tmp_path, finished) == {}
    task = replace(SMALL.tasks["pendulum_state"], planning=("acting.optimizer.candidates=17",))
    changed = planned(tmp_path, finished, replace(SMALL, tasks={"pendulum_state": task}))
    assert {name.rpartition("-")[0] for name in of_kind(changed, "acting")} == {
        *(f"pendulum_state/{model}-cem{reward}" for model in SMALL.objectives for reward in ("", "-pessimistic")),
    }


def test_chosen_models_are_the_only_ones(tmp_path: Path) -> None:
    jobs = planned(tmp_path, {}, SMALL.choose(None, ["exact_dynamics"]))
    assert list(jobs) == ["pendulum_state/exact_dynamics-cem-0"]  # without a seed of training, it is played once
    others = SMALL.choose(None, ["reward_only"]).methods("pendulum_state")
    assert {method.model for method in others} == {"reward_only"}


def test_every_entry_of_the_benchmark_composes(tmp_path: Path) -> None:
    plan = Plan(Benchmark.read(), [0], tmp_path)
    methods = [plan.benchmark.methods(task) for task in plan.benchmark.tasks]
    chosen = {(method.model, method.reward): method for of_task in methods for method in of_task}  # the last task's
    chosen |= {method.way: method for method in methods[0]} | {number: m[-1] for number, m in enumerate(methods)}
    for method in {settings_digest(method): method for method in chosen.values()}.values():
        assert plan._compose((*method.learning, *method.acting), seed=1)["seed"] == 1


def test_unknown_names_and_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no models cem; available: reconstruction, reward_only, planner, elsewhere, exact_dynamics"
    ):
        SMALL.choose(None, ["cem"])
    broken = tmp_path / "acting.yaml"
    broken.write_text("{tasks: {}, weighs: {}}")
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(broken)
    others = "common: [], objectives: {}, rewards: {}, ways: {actor: []}"
    broken.write_text(f"{{tasks: {{a: {{data: [], learning: [], simulated: [cem]}}}}, {others}}}")
    with pytest.raises(UserError, match="'simulated' of a names the way cem; available: actor; fix it"):
        Benchmark.read(broken)
    broken.write_text(f"{{tasks: {{a: {{data: [], learning: []}}}}, {others}, systems: {{planet: {{b: []}}}}}}")
    with pytest.raises(UserError, match="system planet names the task b; available: a; fix it"):
        Benchmark.read(broken)
    broken.write_text(f"{{tasks: {{}}, {others.replace('{}', '{a: []}')}, only_ways: {{a: [cem]}}}}")
    with pytest.raises(UserError, match="'only_ways' of a names the way cem; available: actor; fix it"):
        Benchmark.read(broken)


def test_a_reward_can_have_fewer_ways_than_another() -> None:
    fewer = replace(SMALL, only_ways={"pessimistic": ("actor",)})
    left_out = {row.name for row in SMALL.methods("pendulum_state")} - {
        row.name for row in fewer.methods("pendulum_state")
    }
    assert left_out == {"reconstruction-cem-pessimistic", "reward_only-cem-pessimistic"}


def test_decisions_are_counted_for_every_episode_and_row() -> None:
    class Doubling:
        spec = "spec"

        def initial(self, count: int) -> int:
            return count

        def act(self, observations: Any, is_first: Any, memory: Any, generator: Any) -> tuple[Any, Any]:  # noqa: ARG002
            return 2 * observations["state"], memory + 1

    timed = Timed(Doubling())
    memory, first = timed.initial(3), torch.ones(3, dtype=torch.bool)
    for _ in range(4):
        action, memory = timed.act({"state": torch.ones(3, 1)}, first, memory, torch.Generator())
    assert (timed.rows, memory, timed.spec, action.tolist()) == (12, 7, "spec", [[2.0]] * 3)
    assert timed.seconds > 0


def test_exact_dynamics_are_those_of_the_environment() -> None:
    environment, generator = pendulum.make(image_size=None), np.random.default_rng(0)
    first, _ = environment.reset(seed=3)
    model = ExactPendulum(DataSpec({}, ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,)), {}, {}))
    nothing = torch.zeros(1, 0)
    observed = {"state": torch.as_tensor(first["state"])[None]}
    state = model.filter(model.initial(1), nothing, observed, torch.ones(1, dtype=torch.bool), nothing)
    for _ in range(50):
        action = generator.uniform(-1, 1, 1).astype(np.float32)
        after, reward, *_ = environment.step(2 * action)
        state = model.step(state, torch.as_tensor(action)[None], nothing)
        predicted = torch.stack([state.angle.cos(), state.angle.sin(), state.speed, state.reward])[:, 0]
        np.testing.assert_allclose(predicted, [*after["state"], reward], atol=1e-4)


def row(model: str, way: str, seed: int, *, reward: str = "predicted", **others: Any) -> dict[str, Any]:
    name = Method(model, reward, way, ()).name
    known = {"reference_low": 0.0, "reference_high": 100.0, "dataset_return": 50.0, "parallel_episodes": 2}
    names = {"task": "pendulum_state", "method": name, "model": model, "reward": reward, "way": way, "group": model}
    return {**names, "seed": seed, "settings": "s", "dataset_digest": "d", **known, **others}


def hand_made(folder: Path) -> list[scores.Table]:
    """Planning helps reconstruction, whose first seed is worse, and does nothing for reward_only."""
    returns = {
        ("reconstruction", "actor", "predicted"): [[10.0, 10.0], [20.0, 20.0]],
        ("reconstruction", "cem", "predicted"): [[60.0, 60.0], [80.0, 80.0]],
        ("reconstruction", "actor", "pessimistic"): [[90.0, 90.0], [90.0, 90.0]],
        ("reward_only", "actor", "predicted"): [[5.0, 5.0]],
        ("reward_only", "cem", "predicted"): [[5.0, 5.0]],
        ("planner", "whole", "predicted"): [[30.0, 30.0]],
        ("exact_dynamics", "cem", "predicted"): [[95.0, 95.0]],
    }
    results = Results(folder, COLUMNS)
    for (model, way, reward), seeds in returns.items():
        for seed, totals in enumerate(seeds):
            figures = {"imagined_return": 70.0 + seed, "real_return": 1.0, "decisions_per_cpu_second": 100.0 + seed}
            figures |= {} if model in ("planner", "exact_dynamics") else {"probe_r2": 0.25 + seed / 2}
            results.add(row(model, way, seed, reward=reward, **figures), [(total, 10) for total in totals])
    return scores.tables(*scores.read(folder), SMALL, confidence=0.95, resamples=300)


def test_scores_are_interquartile_means_with_intervals_over_seeds(tmp_path: Path) -> None:
    (table,) = hand_made(tmp_path)
    assert (table.models, table.ways) == (
        ["reconstruction", "reward_only", "planner", "exact_dynamics"],
        ["actor", "cem", "whole"],
    )
    cem = table.of("reconstruction", reward="predicted", way="cem")
    assert cem is not None
    assert (cem.seeds, cem.estimate.value, cem.estimate.low, cem.estimate.high) == (2, 70.0, 60.0, 80.0)
    assert table.of("reward_only", reward="pessimistic", way="cem") is None


def test_verdict_says_whether_planning_earns_more_and_which_model_is_best(tmp_path: Path) -> None:
    _, _, *rows = report.verdict_table(hand_made(tmp_path)).splitlines()
    ours = "15.0 (10.0 to 20.0) | above: cem 70.0 (60.0 to 80.0) | the best | actor"
    same = "5.0 (5.0 to 5.0) | overlaps: cem 5.0 (5.0 to 5.0) | below: actor 5.0 (5.0 to 5.0) | model"
    whole = " |  | below: whole 30.0 (30.0 to 30.0) | model"
    models = {"reconstruction": ours, "reward_only": same, "planner": whole}  # exact dynamics take no part
    assert rows == [f"| pendulum_state | {name} | {cells} |" for name, cells in models.items()]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [((0, 1, 2.9), "above"), ((0, 1, 3), "overlaps"), ((5, 6, 7), "overlaps"), ((6, 7, 8), "below")],
)
def test_verdict_needs_disjoint_intervals(other: tuple[float, float, float], verdict: str) -> None:
    low, value, high = other
    assert position(Estimate(4, 3, 5), Estimate(value, low, high)) == verdict


def test_tables_have_a_row_for_each_way_and_mark_the_best_of_each_model(tmp_path: Path) -> None:
    (table,) = hand_made(tmp_path)
    head, _, *rows = report.score_table(table).splitlines()
    assert head == "| acting | reconstruction | reward_only | planner | exact_dynamics |"
    assert rows == [
        "| actor | 15.0 (10.0 to 20.0) | **5.0** (5.0 to 5.0) |  |  |",
        "| cem | 70.0 (60.0 to 80.0) | 5.0 (5.0 to 5.0) |  | **95.0** (95.0 to 95.0) |",
        "| actor, pessimistic | **90.0** (90.0 to 90.0) |  |  |  |",
        "| whole |  |  | **30.0** (30.0 to 30.0) |  |",
    ]
    runs, _ = scores.read(tmp_path)
    text = report.markdown([table], runs, confidence=0.95)
    assert "| cem | 70.5 / 1.0 | 70.0 / 1.0 |  | 70.0 / 1.0 |" in text
    assert "| cem | 101 | 100 |  | 100 |" in text
    assert "| reconstruction | 0.5 |  |  |  |  |  |" in text


def test_figure_shows_every_estimate_with_its_interval_at_its_way(tmp_path: Path) -> None:
    (table,) = hand_made(tmp_path)
    (axes,) = figure.plot([table]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["actor", "cem", "whole"]
    levels, lines = axes.lines[:2], axes.lines[2:]
    assert [line.get_ydata()[0] for line in levels] == [0.0, 100.0]
    for result, bar, mark in zip(table.results, lines[::2], lines[1::2], strict=True):
        assert tuple(bar.get_ydata()) == (result.estimate.low, result.estimate.high)
        assert mark.get_ydata()[0] == result.estimate.value
        assert round(mark.get_xdata()[0]) == table.ways.index(result.way)
        assert (mark.get_markerfacecolor() == mark.get_color()) == (result.reward == "predicted")
    assert len({line.get_xdata()[0] for line in lines[1::2]}) == len(table.results)


def test_report_is_written_for_light_and_dark_paper(tmp_path: Path) -> None:
    hand_made(tmp_path)
    benchmark = tmp_path / "acting.yaml"
    entries = {"common": [], "tasks": {"pendulum_state": {"data": [], "learning": []}}, "objectives": SMALL.objectives}
    benchmark.write_text(json.dumps({**entries, "rewards": SMALL.rewards, "ways": SMALL.ways}))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{END}\nafter\n")
    report.main(["--results", str(tmp_path), "--output", str(docs), "--benchmark", str(benchmark), "--resamples", "20"])
    assert sorted(path.name for path in docs.iterdir()) == ["README.md", *WRITTEN]
    text = (docs / "README.md").read_text()
    assert "10 of 40 rows of `pendulum_state`" in text
    assert "| pendulum_state | reconstruction | 15.0 (10.0 to 20.0) | above" in text
    assert "With one training seed" in text
    assert (text[:6], "old" in text, text[-6:]) == ("before", False, "after\n")


@pytest.mark.slow
@pytest.mark.usefixtures("_warm_jobs")
def test_runs_from_recording_to_results_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = [f"acting.optimizer.{key}" for key in ("candidates=4", "elites=2", "iterations=1", "horizon=2")]
    task = {"data": ["dataset=pendulum_state"], "learning": ["preset=tiny"], "planning": search, "simulated": ["cem"]}
    entries = {
        "common": ["device=cpu", "evaluation.episodes=2", "evaluation.resamples=10"],
        "tasks": {"pendulum_state": task},
        "objectives": {"reconstruction": SMALL.objectives["reconstruction"]},
        "rewards": {"pessimistic": ["reward=mean_disagreement", "reward/weight=calibrated"]},  # has constants to load
        "ways": SMALL.ways,
    }
    benchmark = tmp_path / "acting.yaml"
    benchmark.write_text(json.dumps(entries))
    folders = ["--benchmark", str(benchmark), "--work", str(tmp_path / "w"), "--results", str(tmp_path / "results")]
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit) as finished:
            run.main([*folders, "--seeds", "0"])
        said.append(capsys.readouterr().err)
        assert finished.value.code == 0, said
    assert ["acting: " in text for text in said] == [True, False]  # at last, nothing was left to do
    runs, episodes = scores.read(tmp_path / "results")
    names = [f"reconstruction-{way}-pessimistic" for way in ("actor", "cem")]
    assert sorted(runs["method"]) == ["exact_dynamics-cem", *names]
    assert (episodes.groupby("method").size() == 2).all()
    assert runs["decisions_per_cpu_second"].gt(0).all()
    learned = runs[runs["model"] == "reconstruction"]
    assert learned["world_model"].nunique() == learned["policy"].nunique() == 1
    needed = ["imagined_return", "real_return", "normalized_mean", "probe_r2", "code"]
    assert learned[[*needed, "world_model_cpu_seconds", "behavior_cpu_seconds"]].notna().all(axis=None)


def test_tables_show_the_committed_numbers() -> None:
    _, episodes = scores.read(RESULTS)
    text = (report.FOLDER / report.TABLES).read_text()
    benchmark = Benchmark.read()
    rows = {}
    for section in text.removeprefix("# ").split("\n# "):
        task, _, rest = section.partition("\n")
        head, _, *lines = re.findall(r"^\| (.+) \|$", rest.partition("Imagined return")[0], re.MULTILINE)
        for line in lines:
            way, *cells = line.split(" | ")
            for model, cell in zip(head.split(" | ")[1:], cells, strict=True):
                if cell.strip():
                    rows[task, model, way] = float(re.search(r"[-\d.]+", cell)[0])
    names = {
        (task, m.name): (task, m.model, report.label(m.way, m.reward))
        for task in benchmark.tasks
        for m in benchmark.methods(task)
    }
    returns = episodes.groupby(["task", "method"])["return"]
    assert rows == pytest.approx(
        {names[key]: interquartile_mean(group.to_numpy(np.float64)) for key, group in returns}, abs=0.051
    )
