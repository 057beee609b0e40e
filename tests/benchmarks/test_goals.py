"""The benchmark of goals: rows, plan, measurements, scores and report."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.goals import figure, plan, playing, report
from benchmarks.goals.benchmark import Benchmark, Row
from benchmarks.goals.plan import Plan
from benchmarks.goals.run import COLUMNS
from benchmarks.goals.scores import Scores
from benchmarks.offline_suite.results import Results
from benchmarks.reports import END
from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.environments import two_room
from dreamset.environments.rollouts import record_episode

SMALL = """
common: [device=cpu, evaluation.episodes=3]
tasks: [two_room]
trajectories: [4, 8]
severities: [0.0, 1.0]
recorded: [dataset=TASK_expert]
data: {images: [dataset=TASK_mixed]}
severity: dataset.environment.severity
methods:
  actor: {data: images, learning: [preset=tiny]}
  clone: {data: images, learning: [preset=tiny, behavior=cloning, behavior_training=cloning]}
baselines: {straight_line: dreamset.environments.plane.straight, expert: dreamset.environments.TASK.scripted}
"""
COMPLETE = all(
    find_spec(f"dreamset.{name}") for name in ("vision", "behaviors.goals", "models.attention", "environments.blocks")
)


@pytest.fixture
def small(tmp_path: Path) -> Benchmark:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return Benchmark.read(path)


def test_every_amount_is_measured_plainly_and_other_looks_with_the_most(small: Benchmark) -> None:
    rows = [(row.name, row.trajectories, row.severity) for row in small.rows("two_room")]
    assert rows == [
        ("actor-4-0", 4, 0),
        ("actor-8-0", 8, 0),
        ("actor-8-1", 8, 1),
        ("clone-4-0", 4, 0),
        ("clone-8-0", 8, 0),
        ("clone-8-1", 8, 1),
        ("straight_line", 0, 0),
        ("expert", 0, 0),
    ]


def test_names_of_the_task_enter_overrides_and_baselines(small: Benchmark) -> None:
    overrides = small.overrides(Row("two_room", "clone", 4, 1.0))
    assert {"dataset=two_room_mixed", "collection.episodes=4", "dataset.environment.severity=1.0"} <= set(overrides)
    assert small.baseline(Row("two_room", "expert"))["_target_"] == "dreamset.environments.two_room.scripted"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"tasks": ["maze"]}, "no tasks maze; available: two_room"),
        ({"methods": ["dream"]}, "no methods dream; available: actor, clone, straight_line, expert"),
        ({"trajectories": [5]}, "no trajectories 5; available: 4, 8"),
    ],
)
def test_unknown_names_are_refused(small: Benchmark, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small.choose(**{"tasks": None, "methods": None, "trajectories": None, **chosen})


def test_unknown_keys_and_data_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(SMALL + "plans: 3\n")
    with pytest.raises(UserError, match="missing or unknown key"):
        Benchmark.read(broken)
    broken.write_text(SMALL.replace("data: images, learning: [preset=tiny]", "data: sounds, learning: []"))
    with pytest.raises(UserError, match="actor has the data sounds; available: images"):
        Benchmark.read(broken)


def test_recordings_of_every_amount_are_prepared_before_the_stores_that_read_them(
    small: Benchmark, tmp_path: Path
) -> None:
    jobs = Plan(small, [0], tmp_path).preparations()
    needs = {job.name: set(job.needs) for job in jobs}
    assert needs == {
        **{f"datasets/{count}/two_room_expert": set() for count in (4, 8)},
        **{f"datasets/{count}/two_room_mixed": {f"datasets/{count}/two_room_expert"} for count in (4, 8)},
    }
    folders = {job.name: job.work["ingest"]["output"] for job in jobs}
    assert len(set(folders.values())) == 4
    assert all(job.work["collect"]["recording"]["episodes"] == int(job.name.split("/")[1]) for job in jobs)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in every folder, told apart by its path."""
    monkeypatch.setattr(
        Store, "open", lambda path: SimpleNamespace(path=path, digest=f"{hash(str(path)):x}".rjust(20, "0"), info=INFO)
    )
    plan._opened.cache_clear()


INFO: dict[str, Any] = {"source": {}}


@pytest.mark.usefixtures("stores")
def test_rows_with_other_looks_share_models_and_policies(small: Benchmark, tmp_path: Path) -> None:
    jobs = {job.name: job for job in Plan(small, [0, 1], tmp_path).remaining({})}
    kinds = [job.work["kind"] for job in jobs.values()]
    assert [kinds.count(kind) for kind in ("world_model", "policy", "goals", "goal_baseline")] == [4, 8, 12, 2]
    played = {name: job.work["evaluate"] for name, job in jobs.items() if job.work["kind"] == "goals"}
    plain, other = (played[f"two_room/actor-8-{severity}-0"] for severity in (0, 1))
    assert (plain["world_model"], plain["policy"]) == (other["world_model"], other["policy"])
    assert (plain["environment"]["severity"], other["environment"]["severity"]) == (0, 1)
    clone, fewer = (played[f"two_room/{name}-0"] for name in ("clone-8-0", "actor-4-0"))
    assert clone["world_model"] == plain["world_model"] != fewer["world_model"]
    assert clone["policy"] != plain["policy"]
    assert {name for name in jobs if "expert" in name} == {"two_room/expert-0"}  # one seed: nothing is random


@pytest.mark.usefixtures("stores")
def test_finished_rows_are_left_out_until_their_settings_change(small: Benchmark, tmp_path: Path) -> None:
    finished = {("two_room", row.name, "0"): small.settings_digest(row) for row in small.rows("two_room")}
    assert Plan(small, [0], tmp_path).remaining(finished) == []
    finished[("two_room", "expert", "0")] = "other"
    assert [job.name for job in Plan(small, [0], tmp_path).remaining(finished)] == ["two_room/expert-0"]


def test_success_and_distance_left_are_means_over_goals() -> None:
    episodes = [
        SimpleNamespace(infos={"is_success": np.array([False, ended]), "distance": np.array([2.0, left])})
        for ended, left in ((True, 0.1), (False, 1.0), (False, 3.0))
    ]
    figures = playing.reached(episodes)  # type: ignore[arg-type]
    assert figures == {"success": pytest.approx(1 / 3), "distance_left": pytest.approx((0.05 + 0.5 + 1.5) / 3)}


def test_baselines_play_the_goals_of_the_evaluation() -> None:
    node = {"_target_": "dreamset.environments.two_room.make", "_partial_": True, "image_size": None}
    policy = {"_target_": "dreamset.environments.two_room.scripted", "_partial_": True}
    work = {"policy": policy, "seed": 0, "environment": node, "evaluation": {"seed": 70, "episodes": 3}}
    figures, returns = playing.baseline(work)
    assert figures["success"] == 1
    assert figures["distance_left"] < 0.3
    for seed, (total, length) in zip((70, 71, 72), returns, strict=True):
        alone = record_episode(
            two_room.make(image_size=None), two_room.scripted, generator=np.random.default_rng(0), seed=seed
        )
        assert (total, length) == (1, len(alone.rewards))
    random = {"_target_": "dreamset.environments.policies.random", "_partial_": True}
    assert playing.baseline(work | {"policy": random})[0]["success"] < 1


def add(results: Results, row: Row, seed: int, successes: list[int], **figures: Any) -> None:
    names = {"task": row.task, "method": row.name, "model": row.method, "trajectories": row.trajectories, "seed": seed}
    run = {**names, "severity": row.severity, "settings": "s", "dataset": "d", "dataset_digest": "x", **figures}
    results.add(run | {"return_mean": np.mean(successes)}, [(float(one), 9) for one in successes])


def hand_made(folder: Path) -> Scores:
    """The actor gets better with more trajectories, and worse with other looks; nothing is known of the clone."""
    results = Results(folder, COLUMNS)
    for seed in (0, 1):
        add(results, Row("two_room", "actor", 4), seed, [0, 0, seed, 0])
        add(results, Row("two_room", "actor", 8), seed, [1, 1, 1, seed], distance_left=0.2 + 0.1 * seed)
        add(results, Row("two_room", "actor", 8, 1.0), seed, [0, 0, 0, 1])
    add(results, Row("two_room", "expert"), 0, [1, 1, 1, 1])
    return Scores.read(folder, confidence=0.95, resamples=300)


def test_success_is_the_mean_over_seeds_and_goals(tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    most = scores.success(Row("two_room", "actor", 8))
    assert most is not None
    assert most.value == 7 / 8
    assert 0.5 <= most.low < most.value < most.high == 1
    assert scores.success(Row("two_room", "clone", 8)) is None
    assert scores.mean(Row("two_room", "actor", 8), "distance_left") == pytest.approx(0.25)
    assert scores.seeds() == 2


def test_rows_of_different_recordings_are_refused(tmp_path: Path) -> None:
    results = Results(tmp_path, COLUMNS)
    for seed, digest in ((0, "x"), (1, "y")):
        add(results, Row("two_room", "actor", 4), seed, [0, 1], dataset_digest=digest)
    with pytest.raises(UserError, match="rows of two_room come from different recordings"):
        Scores.read(tmp_path, confidence=0.95, resamples=10)


def test_tables_have_the_measured_rows_only(small: Benchmark, tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    head, _, actor, expert = report.success_table(scores, small).splitlines()
    assert head == "| success, % | two_room |"
    assert actor.startswith("| actor | 88 (")
    assert expert == "| expert | 100 |"
    _, _, amounts = report.amount_table(scores, small).splitlines()
    assert amounts.startswith("| two_room | actor | 12 (")
    assert " | 88 (" in amounts
    _, _, looks = report.look_table(scores, small).splitlines()
    assert looks.startswith("| two_room | actor | 88 (")
    assert " | 25 (" in looks
    _, _, cost, _ = report.cost_table(scores, small).splitlines()
    assert cost == "| two_room | actor | 25 |  |  |  |"
    assert report.coverage(scores.runs, small) == "Measured so far: 7 of 32 rows of `two_room`."


def test_figure_shows_success_by_amount_and_by_look(small: Benchmark, tmp_path: Path) -> None:
    scores = hand_made(tmp_path)
    amounts, looks = figure.plot(scores, small).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in amounts.lines}
    assert drawn["actor"] == [[4, 12.5], [8, 87.5]]
    assert [[0.0, 87.5], [1.0, 25.0]] in [line.get_xydata().tolist() for line in looks.lines]
    assert [100, 100] in [list(line.get_ydata()) for line in amounts.lines]  # the expert


def test_report_is_written_for_light_and_dark_paper(tmp_path: Path) -> None:
    hand_made(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{END}\nafter\n")
    report.main(
        [
            *("--results", str(tmp_path), "--output", str(tmp_path), "--resamples", "20"),
            *("--benchmark", str(tmp_path / "small.yaml")),
        ]
    )
    assert {"success.png", "success_dark.png", "tables.md"} <= {path.name for path in tmp_path.iterdir()}
    text = (tmp_path / "README.md").read_text()
    assert "| expert | 100 |" in text
    assert (text[:6], "old" in text, text[-6:]) == ("before", False, "after\n")


def test_benchmark_lists_what_it_is_meant_to_compare() -> None:
    benchmark = Benchmark.read()
    assert benchmark.trajectories == (25, 50, 100, 200)
    assert benchmark.severities == (0.0, 0.25, 0.5, 1.0)
    assert "evaluation.episodes=50" in benchmark.common
    planners = {name for name, method in benchmark.methods.items() if "behavior=goal_planning" in method.learning}
    assert planners == set(benchmark.methods) - {"actor", "cloning"}
    assert set(benchmark.baselines) == {"straight_line", "random", "expert"}


@pytest.mark.skipif(not COMPLETE, reason="goals, patch features or the attention world model do not exist")
@pytest.mark.usefixtures("stores")
def test_all_rows_compose_and_models_plan_alike(tmp_path: Path) -> None:
    benchmark = Benchmark.read().choose(["pusher"], None, [200])
    jobs = Plan(benchmark, [0], tmp_path).remaining({})
    kinds = [job.work["kind"] for job in jobs]
    assert [kinds.count(kind) for kind in ("world_model", "policy", "goals", "goal_baseline")] == [5, 7, 28, 3]
    played = {job.work["row"]["model"]: job.work["evaluate"] for job in jobs if job.work["kind"] == "goals"}
    planners = [played[name]["acting"] for name in played if name not in ("actor", "cloning")]
    assert all(planner == planners[0] for planner in planners)
    assert len({evaluate["world_model"] for evaluate in played.values()}) == 5
    stores = {job.work["stage"]["store"] for job in jobs if job.work["kind"] == "world_model"}
    assert {Path(store).name for store in stores} == {"pusher_mixed_patches", "pusher_mixed_random_patches"}
