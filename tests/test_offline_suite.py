"""The offline suite in ``benchmarks/``: conversion for peers, planning, jobs, results and report."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are not installed

from benchmarks.offline_suite import baselines, figure, jobs, plan, report, run, scores, transitions
from benchmarks.offline_suite.jobs import Job, Scheduler
from benchmarks.offline_suite.ours import COST
from benchmarks.offline_suite.results import RUN_COLUMNS, VERSIONS, Key, Results
from benchmarks.offline_suite.run import RESULTS
from benchmarks.offline_suite.suite import Baseline, Method, Ours, Parts, Suite, Task
from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.pipeline.evaluation.statistics import Estimate, interquartile_mean

LENGTHS = (3, 5, 4)  # transitions of the counting episodes; every second one ends truly
CONTINUOUS = ActionSpec(1, discrete=False, low=(0.0,), high=(4000.0,))
DISCRETE = ActionSpec(3, discrete=True, low=(0.0,) * 3, high=(1.0,) * 3)
VECTORS = {"one": ArraySpec((1,), "float32"), "two": ArraySpec((2,), "float32")}
FRAME = {"image": ArraySpec((2, 4, 3), "uint8")}


class Counting:
    """Observation t of episode e is 1000 e + t, the action taken there 0.25 more and its reward 0.5 more."""

    episode_count = len(LENGTHS)

    def __init__(self, observations: Mapping[str, ArraySpec], action: ActionSpec) -> None:
        self.observations, self.action = observations, action

    def describe(self) -> SourceDescription:
        return SourceDescription(self.observations, {}, self.action, {"format": "counting"})

    def read(self, number: int) -> RawEpisode:
        steps = LENGTHS[number]
        count = 1000 * number + np.arange(steps + 1)
        return RawEpisode(
            name=f"episode {number}",
            observations={name: counted(spec, count, number) for name, spec in self.observations.items()},
            actions=np.eye(3)[count[:-1] % 3].astype(np.float32)
            if self.action.discrete
            else (count[:-1, None] + 0.25).astype(np.float32),
            rewards=(count[:-1] + 0.5).astype(np.float32),
            terminated=number % 2 == 0,
            privileged={},
        )


def counted(spec: ArraySpec, count: NDArray[Any], episode: int) -> NDArray[Any]:
    """Vectors hold the count; all bytes of a frame differ."""
    rows = count.reshape(-1, *[1] * len(spec.shape))
    if not spec.is_image:
        return np.broadcast_to(rows, (len(count), *spec.shape)).astype(spec.dtype)
    places = np.arange(spec.size).reshape(spec.shape)
    return (100 * episode + 30 * (rows % 1000) + places).astype(np.uint8)


def counting_store(
    folder: Path, observations: Mapping[str, ArraySpec] = VECTORS, action: ActionSpec = CONTINUOUS
) -> Store:
    return write_store(Counting(observations, action), folder, splits=lambda kept: {"train": np.arange(len(kept))})


def as_transitions(episode: transitions.PeerEpisode) -> Iterator[tuple[Any, ...]]:
    """The transitions of an episode by d3rlpy's pickers and ``Episode.transition_count``."""
    size = len(episode.actions)
    for index in range(size if episode.terminated else size - 1):
        end = episode.terminated and index == size - 1
        after = np.zeros_like(episode.observations[0]) if end else episode.observations[index + 1]
        yield episode.observations[index], episode.actions[index], episode.rewards[index], after, end


def test_every_transition_appears_once_and_aligned(tmp_path: Path) -> None:
    store = counting_store(tmp_path / "store")
    for number, steps in enumerate(LENGTHS):
        episode = transitions.peer_episode(store.read(number), store.spec)
        actual = list(as_transitions(episode))
        assert len(actual) == steps
        assert episode.observations.dtype == episode.actions.dtype == episode.rewards.dtype == np.float32
        for t, (observation, action, reward, after, end) in enumerate(actual):
            count = 1000 * number + t
            truly_over = number % 2 == 0 and t == steps - 1
            np.testing.assert_array_equal(observation, [count] * 3)
            np.testing.assert_allclose(action, [(count + 0.25) / 2000 - 1], atol=1e-6)
            np.testing.assert_array_equal(reward, [count + 0.5])
            assert end == truly_over
            np.testing.assert_array_equal(after, [0 if truly_over else count + 1] * 3)


def test_peer_actions_are_converted_to_environment_units() -> None:
    units = np.array([[0.0], [1000.0], [4000.0]], np.float32)
    np.testing.assert_allclose(transitions.peer_actions(units, CONTINUOUS), [[-1], [-0.5], [1]])
    np.testing.assert_allclose(transitions.own_actions(np.array([[-1.0], [-0.5], [1.0]]), CONTINUOUS), units)


def test_discrete_actions_are_integers_for_peers_and_one_hot_for_the_environment(tmp_path: Path) -> None:
    store = counting_store(tmp_path / "store", action=DISCRETE)
    episode = transitions.peer_episode(store.read(1), store.spec)
    assert episode.actions.dtype == np.int64
    assert episode.actions[:, 0].tolist() == [*(n % 3 for n in range(1000, 1005)), 0]  # the last is never looked at
    np.testing.assert_array_equal(transitions.own_actions(np.array([2, 0]), DISCRETE), [[0, 0, 1], [1, 0, 0]])


def test_frames_have_channels_first_and_are_stacked_oldest_first(tmp_path: Path) -> None:
    store = counting_store(tmp_path / "store", observations=FRAME)
    frames = store.read(1)["image"]
    seen = transitions.peer_observations({"image": frames}, store.spec)
    assert (seen.shape, seen.dtype) == ((6, 3, 2, 4), np.uint8)
    assert seen[4, 2, 1, 3] == frames[4, 1, 3, 2]
    recent = transitions.RecentFrames(3)
    stacked = [recent.add(seen[t : t + 1], np.array([t in (0, 4)])) for t in range(6)]
    nothing = np.zeros_like(seen[0])
    expected = [(-1, -1, 0), (-1, 0, 1), (0, 1, 2), (1, 2, 3), (-1, -1, 4), (-1, 4, 5)]
    for actual, rows in zip(stacked, expected, strict=True):
        np.testing.assert_array_equal(actual[0], np.concatenate([nothing if row < 0 else seen[row] for row in rows]))


def test_data_unsupported_by_peers_are_refused(tmp_path: Path) -> None:
    store = counting_store(tmp_path / "store", observations={**VECTORS, **FRAME})
    with pytest.raises(UserError, match="vectors or a single image"):
        transitions.peer_episode(store.read(0), store.spec)
    unbounded = ActionSpec(1, discrete=False, low=(-np.inf,), high=(np.inf,))
    with pytest.raises(UserError, match="bounds"):
        transitions.peer_actions(np.zeros((1, 1)), unbounded)


def test_d3rlpy_gets_the_same_transitions(tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    from benchmarks.offline_suite import peers

    store = counting_store(tmp_path / "vectors")
    buffer = peers.replay_buffer(store)
    assert buffer.transition_count == sum(LENGTHS)
    for number, episode in enumerate(buffer.episodes):
        expected = list(as_transitions(transitions.peer_episode(store.read(number), store.spec)))
        assert episode.transition_count == len(expected)
        for index, wanted in enumerate(expected):
            got = buffer.transition_picker(episode, index)
            actual = got.observation, got.action, got.reward, got.next_observation, bool(got.terminal)
            for value, want in zip(actual, wanted, strict=True):
                np.testing.assert_array_equal(value, want)


def test_d3rlpy_stacks_frames_as_the_evaluation_does(tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    from benchmarks.offline_suite import peers

    store = counting_store(tmp_path / "frames", observations=FRAME)
    buffer = peers.replay_buffer(store)
    for number, episode in enumerate(buffer.episodes):
        recent = transitions.RecentFrames(peers.STACKED_FRAMES)
        seen = transitions.peer_observations(store.read(number), store.spec)
        for index in range(episode.transition_count):
            stacked = recent.add(seen[index : index + 1], np.array([index == 0]))[0]
            np.testing.assert_array_equal(buffer.transition_picker(episode, index).observation, stacked)


@pytest.mark.parametrize("action", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_every_peer_trains_within_its_budget_and_acts(tmp_path: Path, action: ActionSpec) -> None:
    pytest.importorskip("d3rlpy")
    from benchmarks.offline_suite import peers

    store = counting_store(tmp_path / "store", action=action)
    entries = [method.kind for method in Suite.read().methods.values() if hasattr(method.kind, "classes")]
    kind = "discrete" if action.discrete else "continuous"
    for classes in (entry.classes for entry in entries if kind in entry.classes):
        data = peers.replay_buffer(store)
        algorithm = peers.build(classes, store.spec, data)
        assert peers.parameter_count(algorithm) > 1000
        assert peers.train(algorithm, data, budget=60, max_updates=2)[0] == 2
        updates, seconds = peers.train(algorithm, data, budget=1e-9, max_updates=10_000)
        assert (updates, seconds > 0) == (1, True)
        acted = peers.PeerPolicy(algorithm, store.spec)(
            {name: np.ones((2, *spec.shape), spec.dtype) for name, spec in VECTORS.items()}, np.ones(2, bool)
        )
        assert acted.shape == (2, action.size)
        assert (np.asarray(action.low) <= acted).all()
        assert (acted <= np.asarray(action.high)).all()


def test_peers_accept_small_frames(tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    from benchmarks.offline_suite import peers

    frames = {"image": ArraySpec((32, 32, 3), "uint8")}
    store = counting_store(tmp_path / "store", observations=frames)
    data = peers.replay_buffer(store)
    algorithm = peers.build({"continuous": "BCConfig"}, store.spec, data)
    algorithm.update(data.sample_transition_batch(4))
    policy = peers.PeerPolicy(algorithm, store.spec)
    seen = {"image": np.stack([store.read(1)["image"][0]] * 2)}
    begun = policy(seen, np.ones(2, bool))
    gone_on = policy(seen, np.array([True, False]))
    assert begun[0] == gone_on[0]
    assert begun[1] != gone_on[1]  # it has seen two frames now


SUITE = Suite.read()
TASK = Task("pendulum_state", ("preset=tiny", "dataset=pendulum_state"), budget=60, max_updates=1000)
TASKS = list(SUITE.tasks.values())
OURS = {name: method for name, method in SUITE.methods.items() if isinstance(method.kind, Ours)}


def pairs() -> list[tuple[str, str]]:
    """Composes every task with a Dreamset method, and every method with a task per kind of observations."""
    by_task = {task.name: [m for m in OURS if task.observations in OURS[m].kind.observations] for task in TASKS}
    first_of_kind = {task.observations: task.name for task in reversed(TASKS)}
    return sorted(
        {(task, methods[0]) for task, methods in by_task.items()}
        | {(task, method) for task in first_of_kind.values() for method in by_task[task]}
    )


@pytest.mark.parametrize(("task", "method"), pairs())
def test_suite_composes(task: str, method: str, tmp_path: Path) -> None:
    config = plan.Plan(SUITE, [0], tmp_path).compose(SUITE.tasks[task], OURS[method].overrides(SUITE.tasks[task]))
    assert config["device"] == "cpu"
    assert config["paths"]["stores"] == str(tmp_path / "stores")


def test_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    for entry, key in (("vectors: {world_model: [], behavior: []}, budget: 3", "budget"), ("images: {}", "behavior")):
        path.write_text(f"common: []\ntasks: {{}}\nmethods: {{a: {{group: dreamset, {entry}}}}}")
        with pytest.raises(UserError, match=rf"method a .*'{key}'"):
            Suite.read(path)
    with pytest.raises(UserError, match="nonsense"):
        SUITE.choose(["nonsense"], None)


def test_settings_for_an_unknown_method_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    suite = (
        "common: []\ntasks: {t: {overrides: [], budget: 1, max_updates: 1, tuned: {PATTERN: []}}}\n"
        "methods: {v1_a: {group: dreamset, vectors: {world_model: [], behavior: []}}, random: {group: b, baseline: r}}"
    )
    for pattern in ("v1_*", "v1_a"):
        path.write_text(suite.replace("PATTERN", pattern))
        assert Suite.read(path).tasks["t"].tuned == {pattern: ()}
    for pattern in ("v2_*", "random"):  # only ours read settings
        path.write_text(suite.replace("PATTERN", pattern))
        with pytest.raises(UserError, match=re.escape(f"task t tunes {pattern}, which matches none of v1_a")):
            Suite.read(path)


def test_nested_lists_are_flattened(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "common: []\ntasks: {}\nmethods:\n"
        "  a: {group: dreamset, vectors: {world_model: &a [x=1, y=2], behavior: []}}\n"
        "  b: {group: dreamset, vectors: {world_model: [[*a, z=3], w=4], behavior: []}}"
    )
    kind = Suite.read(path).methods["b"].kind
    assert isinstance(kind, Ours)
    assert kind.vectors == Parts(("x=1", "y=2", "z=3", "w=4"), ())


METHODS = {
    method.name: method
    for method in (
        Method("dataset", "baseline", Baseline("recorded")),
        Method("still", "baseline", Baseline("still", actions=("continuous",))),
        Method("cloning", "cloning", Ours(Parts((), ("behavior=cloning",)), images=Parts((), ()))),
        Method("v1", "dreamset", Ours(Parts((), ()))),
        Method("v1_contrastive", "dreamset", Ours(Parts(("objective=contrastive",), ()))),
        SUITE.methods["iql"],
    )
}


V1 = ("v1", "v1_contrastive")


def planned(tmp_path: Path, finished: Mapping[Any, str], *, action: ActionSpec = CONTINUOUS) -> dict[str, Job]:
    if not (tmp_path / "stores/pendulum_state").exists():
        counting_store(tmp_path / "stores/pendulum_state", action=action)
    made = plan.Plan(Suite({TASK.name: TASK}, METHODS), [0, 1], tmp_path)
    assert made.preparations() == []
    return {job.name: job for job in made.trainings([TASK], finished)}


def test_methods_share_a_world_model_per_seed(tmp_path: Path) -> None:
    actual = planned(tmp_path, {})
    needs = {name: job.needs for name, job in actual.items() if job.needs}
    assert needs["pendulum_state/v1-0"] == needs["pendulum_state/cloning-0"]
    alone = [needs[f"pendulum_state/{name}"] for name in ("v1-0", "v1-1", "v1_contrastive-0", "v1_contrastive-1")]
    assert len(set(alone)) == 4
    assert len([name for name in actual if name.startswith("world_models/")]) == 4
    model = actual[next(iter(needs["pendulum_state/v1-0"]))].work["stage"]["output"]
    assert actual["pendulum_state/v1-0"].work["learn"]["world_model"] == f"{model}/model"
    unseeded = {name for name in actual if "dataset" in name or "still" in name}
    assert unseeded == {"pendulum_state/dataset-0", "pendulum_state/still-0"}


def test_finished_jobs_are_skipped_until_their_settings_change(tmp_path: Path) -> None:
    everything = planned(tmp_path, {})
    digests = {(TASK.name, name, "0"): method.settings_digest(TASK) for name, method in METHODS.items()}
    left = planned(tmp_path, digests)
    assert {name for name in left if not name.startswith("world_models/")} == {
        f"pendulum_state/{name}-1" for name in METHODS if name not in {"dataset", "still"}
    }
    assert "pendulum_state/iql-0" in planned(tmp_path, {**digests, (TASK.name, "iql", "0"): "of another budget"})
    model = Path(everything[next(iter(everything["pendulum_state/v1-0"].needs))].work["stage"]["output"])
    model.mkdir(parents=True)
    assert everything.keys() == planned(tmp_path, {}).keys()  # half a model is none
    (model / COST).write_text("{}")
    assert everything.keys() - planned(tmp_path, {}).keys() == {f"world_models/{model.name}"}


def test_budget_applies_to_peers_only() -> None:
    other = replace(TASK, budget=61)
    changed = {
        name for name, method in METHODS.items() if method.settings_digest(TASK) != method.settings_digest(other)
    }
    assert changed == {"iql"}


def test_task_gets_methods_that_support_its_actions(tmp_path: Path) -> None:
    actual = planned(tmp_path, {}, action=DISCRETE)
    ours = {f"pendulum_state/{name}-{seed}" for name in ("cloning", *V1) for seed in (0, 1)}
    assert {name for name in actual if not name.startswith("world_models/")} == {"pendulum_state/dataset-0", *ours}


def test_task_overrides_reach_all_jobs_and_tuned_ones_matching_names_only(tmp_path: Path) -> None:
    counting_store(tmp_path / "stores/pendulum_state")
    tuned = {"v1": ("imagination.discount=0.6",), "v?": ("imagination.discount=0.5",)}  # the last that matches wins
    task = replace(TASK, ours=("imagination.horizon=3",), tuned=tuned)
    actual = plan.Plan(Suite({task.name: task}, METHODS), [0], tmp_path).trainings([task], {})
    learned = {job.name: job.work["learn"]["behavior"] for job in actual if "learn" in job.work}
    used = {name: learned[f"pendulum_state/{name}-0"] for name in V1}
    assert [used[name]["horizon"] for name in V1] == [3, 3]
    assert [used[name]["discount"] for name in V1] == [0.5, 0.99]
    changed = {name for name, method in METHODS.items() if method.settings_digest(TASK) != method.settings_digest(task)}
    assert changed == {"cloning", *V1}


def test_task_gets_methods_that_support_its_observations(tmp_path: Path) -> None:
    seen = replace(TASK, observations="images")
    counting_store(tmp_path / "stores/pendulum_state")
    actual = plan.Plan(Suite({seen.name: seen}, METHODS), [0], tmp_path).trainings([seen], {})
    names = {job.name for job in actual if not job.name.startswith("world_models/")}
    assert names == {f"pendulum_state/{name}-0" for name in ("dataset", "still", "cloning", "iql")}
    served = {name for name, method in METHODS.items() if method.serves(seen, CONTINUOUS)}
    assert served == {"dataset", "still", "cloning", "iql"}
    cloning = METHODS["cloning"]
    assert cloning.settings_digest(seen) != cloning.settings_digest(TASK)


def scripted(monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, str]) -> None:
    """Replaces jobs by a line of Python, run in their folder."""

    def process(self: Scheduler, job: Job) -> "subprocess.Popen[bytes]":
        folder = self.folder / job.name
        folder.mkdir(parents=True)
        with (folder / "log.txt").open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", scripts[job.name]], cwd=folder, stdout=log, stderr=log)

    monkeypatch.setattr(Scheduler, "_process", process)


def test_failed_job_fails_only_its_dependents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    writes = "open('result.json', 'w').write('{\"a\": 1}')"
    scripted(monkeypatch, {"bad": "print('half\\r 7 %'); raise SystemExit('no room')", "good": writes, "last": writes})
    results: list[dict[str, Any]] = []
    scheduler = Scheduler(tmp_path, 2, results.append)
    waiting = [Job("last", {}, frozenset({"good"})), Job("worse", {}, frozenset({"bad"})), Job("bad", {})]
    scheduler.run([*waiting, Job("good", {}), Job("worst", {}, frozenset({"worse"}))], description="test")
    assert results == [{"a": 1}, {"a": 1}]
    assert scheduler.failures.keys() == {"bad", "worse", "worst"}
    assert scheduler.failures["bad"].startswith("no room")
    assert scheduler.failures["worse"] == "needs bad, which failed"


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_learns_from_datasets_that_failed(fails: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Rounds:
        def preparations(self) -> list[Job]:
            return [Job("dataset", {})]

        def remaining(self, finished: Mapping[Key, str]) -> list[Job]:
            assert finished == {}
            return [Job("row", {})]

    writes = "open('result.json', 'w').write('1')"
    scripted(monkeypatch, {"dataset": "raise SystemExit('no room')" if fails else writes, "row": writes})
    failures = run.run_prepared(Scheduler(tmp_path, 1, lambda _: None), Rounds(), Results(tmp_path), "rows")
    assert list(failures) == (["dataset"] if fails else [])
    assert (tmp_path / "row/result.json").exists() != fails


def test_only_datasets_without_a_store_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "is_prepared", lambda config: config["dataset"] == "kept")
    monkeypatch.setattr(plan, "preparation", lambda config: Job(config["dataset"], {}))
    assert [job.name for job in plan.preparations([{"dataset": name} for name in ("new", "kept", "other")])] == [
        "new",
        "other",
    ]


def test_interrupt_ends_running_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    scripted(monkeypatch, {"long": "import time; time.sleep(60)", "short": "open('result.json', 'w').write('{}')"})

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scheduler(tmp_path, 2, interrupt).run([Job("long", {}), Job("short", {})], description="test")
    assert [process.poll() for process in started] == [-15, 0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other instruction sets")
def test_jobs_use_the_instruction_set_of_older_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start = subprocess.Popen
    shows = [sys.executable, "-c", "import numpy; numpy.show_runtime()"]
    monkeypatch.setattr(subprocess, "Popen", lambda _, **named: start(shows, **named))
    Scheduler(tmp_path, 1, lambda _: None).run([Job("shows", {})], description="test")
    log = (tmp_path / "shows/log.txt").read_text()
    actual = re.search(r"'found': \[(.*?)\]", log, re.DOTALL)
    assert actual is not None, log
    assert "X86_V4" not in actual[1]
    assert "AVX512" not in actual[1]


def run_row(task: str, method: str, seed: int, **others: Any) -> dict[str, Any]:
    return {"task": task, "method": method, "seed": seed, "group": "d3rlpy", "settings": "s", **others}


def test_results_are_sorted_kept_and_replaced(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.finished() == {}
    results.add(run_row("b", "m", 10, return_mean=0.1), [(0.1, 3)])
    results.add(run_row("b", "m", 9), [(1 / 3, 3), (2.0, 4)])
    results.add(run_row("a", "m", 0), [(5.0, 5)])
    results.add(run_row("b", "m", 10, settings="other"), [(7.0, 6), (8.0, 6)])
    assert results.finished() == {("a", "m", "0"): "s", ("b", "m", "9"): "s", ("b", "m", "10"): "other"}
    episodes = pd.read_csv(results.episodes_path)
    assert episodes[["task", "seed", "episode"]].to_numpy().tolist() == [
        ["a", 0, 0],
        ["b", 9, 0],
        ["b", 9, 1],
        ["b", 10, 0],
        ["b", 10, 1],
    ]
    assert episodes["return"].tolist() == pytest.approx([5.0, 1 / 3, 2.0, 7.0, 8.0])


def test_rows_without_a_new_column_are_kept(tmp_path: Path) -> None:
    Results(tmp_path, [column for column in RUN_COLUMNS if column != "cpu_capability"]).add(run_row("a", "m", 0), [])
    Results(tmp_path).add(run_row("a", "m", 1, cpu_capability="AVX2"), [])
    rows = pd.read_csv(Results(tmp_path).runs_path, keep_default_na=False)
    assert rows["cpu_capability"].tolist() == ["", "AVX2"]


def test_metric_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Results(tmp_path).add(run_row("a", "m", 0, nonsense=1), [])


def hand_made(folder: Path) -> None:
    """Two tasks. The middle half of 0, 2, 4, 100 is 2 and 4; equal episodes have an interval without width."""
    returns = {
        ("one", "dataset", "baseline"): [[500.0, 500.0]],
        ("one", "ours", "dreamset"): [[0.0, 2.0], [4.0, 100.0]],
        ("one", "worse", "dreamset"): [[1.0, 1.0], [1.0, 1.0]],
        ("one", "bc", "d3rlpy"): [[-1.0, -1.0], [-2.0, -2.0]],
        ("one", "clone", "cloning"): [[200.0, 200.0], [200.0, 200.0]],
        ("two", "ours", "dreamset"): [[5.0, 5.0]],
        ("two", "bc", "d3rlpy"): [[5.0, 5.0]],
    }
    results = Results(folder)
    for (task, method, group), seeds in returns.items():
        for seed, totals in enumerate(seeds):
            cost = {"cpu_seconds": 10.0 + 2 * seed} if group != "baseline" else {}
            budget = {"budget_cpu_seconds": 60} if group == "d3rlpy" else {}
            row = run_row(task, method, seed, dataset_digest=task, **cost, **budget) | {"group": group}
            results.add(row, [(total, 10) for total in totals])


def made_board(folder: Path) -> scores.Board:
    runs, episodes = scores.read(folder)
    order = {"tasks": ["two", "one"], "methods": ["dataset", "ours", "worse", "clone"]}
    return scores.board(runs, episodes, **order, confidence=0.95, resamples=300)


def test_scores_are_interquartile_means_with_intervals_over_seeds(tmp_path: Path) -> None:
    hand_made(tmp_path)
    board = made_board(tmp_path)
    assert (board.tasks, board.methods) == (["two", "one"], ["dataset", "ours", "worse", "clone", "bc"])
    ours = board.scores["one", "ours"]
    assert (ours.estimate.value, ours.seeds, ours.cpu_seconds) == (3.0, 2, 11.0)
    assert ours.estimate.low == 0.0  # the first seed twice, its first episode every time
    assert ours.estimate.high == 100.0
    worse = board.scores["one", "worse"].estimate
    assert (worse.low, worse.value, worse.high) == (1.0, 1.0, 1.0)


def test_verdicts_compare_the_best_dreamset_method_with_each_group(tmp_path: Path) -> None:
    hand_made(tmp_path)
    board = made_board(tmp_path)
    *_, two, one = report.verdict_table(board).splitlines()
    assert two == "| two | ours 5.0 (5.0 to 5.0) | overlaps: bc 5.0 (5.0 to 5.0) |  |"
    ours, bc, clone = "ours 3.0 (0.0 to 100.0)", "bc -1.5 (-2.0 to -1.0)", "clone 200.0 (200.0 to 200.0)"
    assert one == f"| one | {ours} | above: {bc} | below: {clone} |"


@pytest.mark.parametrize(
    ("others", "verdict"),
    [([(0, 1, 2.9)], "above"), ([(0, 1, 3)], "overlaps"), ([(5, 6, 7)], "overlaps"), ([(0, 1, 2), (6, 7, 8)], "below")],
)
def test_verdict_needs_disjoint_intervals(others: list[tuple[float, ...]], verdict: str) -> None:
    def score(low: float, value: float, high: float) -> scores.Score:
        return scores.Score("task", "method", "group", 1, Estimate(value, low, high), 1.0)

    assert scores.compared(score(3, 4, 5), [score(*other) for other in others]) == verdict


def test_tables_exclude_baselines_from_the_best_method(tmp_path: Path) -> None:
    hand_made(tmp_path)
    board = made_board(tmp_path)
    head, _, dataset, ours, worse, clone, bc = report.score_table(board).splitlines()
    assert head == "| method | two | one |"
    assert dataset == "| dataset |  | 500.0 (500.0 to 500.0) |"
    assert ours.startswith("| ours | **5.0** (5.0 to 5.0) |")
    assert worse.startswith("| worse |  | ")
    assert clone == "| clone |  | **200.0** (200.0 to 200.0) |"
    assert bc.startswith("| bc | **5.0** (5.0 to 5.0) |")  # as high as ours
    _, _, budget, ours, worse, clone, bc = report.cost_table(board, {"one": 60.0, "two": 50.0}).splitlines()
    assert budget == "| budget of d3rlpy | 50 | 60 |"
    assert (ours, worse) == ("| ours | 10 | 11 |", "| worse |  | 11 |")
    assert (clone, bc) == ("| clone |  | 11 |", "| bc | 10 | 11 |")


def test_world_model_metrics_are_averaged_over_seeds(tmp_path: Path) -> None:
    hand_made(tmp_path)
    known = {"imagined_return": 120.0, "real_return": -7.25, "reward_error_h1": 0.01234, "probe_r2": 0.5}
    for seed, error in enumerate((1.0, 2.0)):
        figures = {**known, "reward_error_h5": error, "reward_error_h15": 1234.0}
        Results(tmp_path).add(run_row("one", "ours", seed, **figures), [(2.0, 1)])
    runs, _ = scores.read(tmp_path)
    head, _, row = report.model_table(made_board(tmp_path), runs).splitlines()  # others have no model
    assert head == "| task | method | imagined | real | reward error +1 | +5 | +15 | probe R² |"
    assert row == "| one | ours | 120 | -7.25 | 0.012 | 1.5 | 1.2e+03 | 0.5 |"


def test_metric_that_was_not_recorded_is_an_empty_cell(tmp_path: Path) -> None:
    hand_made(tmp_path)
    Results(tmp_path).add(run_row("one", "ours", 0, real_return=3.0, probe_r2=0.25), [(2.0, 1)])
    runs, _ = scores.read(tmp_path)
    *_, row = report.model_table(made_board(tmp_path), runs).splitlines()
    assert row == "| one | ours |  | 3 |  |  |  | 0.25 |"


def test_report_says_what_intervals_over_few_seeds_miss(tmp_path: Path) -> None:
    hand_made(tmp_path)
    runs, _ = scores.read(tmp_path)
    assert "With one training seed" in report.markdown(
        made_board(tmp_path), runs, {"one": 1, "two": 1}, confidence=0.95
    )


def test_rows_of_different_datasets_are_refused(tmp_path: Path) -> None:
    hand_made(tmp_path)
    Results(tmp_path).add(run_row("one", "late", 0, dataset_digest="re-recorded"), [(1.0, 1)])
    with pytest.raises(UserError, match=r"rows of one come from different datasets"):
        scores.read(tmp_path)


def test_report_is_written(tmp_path: Path) -> None:
    hand_made(tmp_path)
    report.main(["--results", str(tmp_path), "--output", str(tmp_path / "docs"), "--resamples", "20"])
    assert (tmp_path / "docs" / report.TABLES).read_text().count("| method | one | two |") == 2
    assert (tmp_path / "docs" / report.FIGURE).read_bytes().startswith(b"\x89PNG")


def test_each_panel_shows_scores_beside_the_names_of_its_methods(tmp_path: Path) -> None:
    hand_made(tmp_path)
    board = made_board(tmp_path)
    panels = figure.plot(board).axes
    assert [panel.get_title() for panel in panels] == ["two", "one"]
    names = [[label.get_text() for label in panel.get_yticklabels()] for panel in panels]
    assert names == [["ours", "bc"], ["dataset", "ours", "worse", "clone", "bc"]]
    for panel, listed in zip(panels, names, strict=True):
        points = {listed[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in panel.lines[1::2]}
        ends = {listed[int(line.get_ydata()[0])]: tuple(line.get_xdata()) for line in panel.lines[::2]}
        estimates = {name: board.scores[panel.get_title(), name].estimate for name in listed}
        assert points == {name: estimate.value for name, estimate in estimates.items()}
        assert ends == {name: (estimate.low, estimate.high) for name, estimate in estimates.items()}
        assert panel.get_ylim() == (4.5, -0.5)  # alike in a row of panels, the first method on top


def test_incomplete_row_of_panels_has_no_empty_panels(tmp_path: Path) -> None:
    for task in ("a", "b", "c", "d"):
        Results(tmp_path).add(run_row(task, "ours", 0, dataset_digest=task), [(1.0, 1)])
    runs, episodes = scores.read(tmp_path)
    board = scores.board(runs, episodes, tasks=[], methods=[], confidence=0.95, resamples=10)
    assert [panel.get_title() for panel in figure.plot(board).axes] == ["a", "b", "c", "d"]


def test_dataset_baseline_is_the_training_split(tmp_path: Path) -> None:
    store = counting_store(tmp_path / "store")
    _, returns = baselines.run({"baseline": "recorded", "store": str(store.path)})
    assert returns == [(sum(1000 * e + t + 0.5 for t in range(n)), n) for e, n in enumerate(LENGTHS)]


def test_folder_is_locked_by_one_run(tmp_path: Path) -> None:
    with run.locked(tmp_path), pytest.raises(UserError, match="another run"), run.locked(tmp_path):
        pass
    with run.locked(tmp_path):
        pass


def test_last_line_of_a_log_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"first\n10 %\r20 %\rerror: \xff\n\n")
    assert jobs.last_line(log) == "error: \N{REPLACEMENT CHARACTER}"


@pytest.mark.slow
@pytest.mark.usefixtures("_warm_jobs")
def test_suite_runs_from_recording_to_results_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "suite.yaml"
    entry = {"overrides": ["preset=tiny", "dataset=pendulum_state"], "budget": 1, "max_updates": 100}
    methods = {
        "dataset": {"group": "baseline", "baseline": "recorded"},
        "random": {"group": "baseline", "baseline": "random"},
        "still": {"group": "baseline", "baseline": "still"},
        "nonsense": {"group": "baseline", "baseline": "nonsense"},
        "cloning": {"group": "cloning", "vectors": {"world_model": [], "behavior": ["behavior=cloning"]}},
    }
    suite.write_text(json.dumps({"common": ["device=cpu"], "tasks": {"tiny": entry}, "methods": methods}))
    folders = ["--suite", str(suite), "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as first:
        run.main([*folders, "--seeds", "0"])
    assert first.value.code == 1
    assert "failed: tiny/nonsense-0: KeyError: 'nonsense'" in capsys.readouterr().err
    runs, episodes = scores.read(tmp_path / "results")
    assert runs["method"].tolist() == ["cloning", "dataset", "random", "still"]
    assert episodes.groupby("method").size().to_dict() == {"cloning": 4, "dataset": 11, "random": 4, "still": 4}
    returns = episodes.groupby("method")["return"].apply(list)
    assert returns["still"] != returns["random"]  # in the same episodes
    cloning = runs.set_index("method").loc["cloning"]
    assert cloning["world_model_updates"] == 6
    assert cloning["cpu_seconds"] > 0
    assert runs[list(VERSIONS)].notna().all(axis=None)
    assert set(runs["cpu_capability"]) == {torch.backends.cpu.get_cpu_capability()}
    with pytest.raises(SystemExit) as second:
        run.main([*folders, "--seeds", "0", "--methods", "dataset", "random", "still", "cloning"])
    assert second.value.code == 0
    assert "offline suite" not in capsys.readouterr().err  # nothing was left to do


def test_missing_d3rlpy_is_refused_only_if_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    jobs = planned(tmp_path, {})
    suite = Suite({TASK.name: TASK}, METHODS)
    others = "dataset still cloning v1 v1_contrastive"
    with pytest.raises(UserError, match=rf"d3rlpy is not installed; .*: --methods {others}$"):
        run.require_peers(suite, list(jobs.values()))
    run.require_peers(suite, [job for name, job in jobs.items() if "iql" not in name])
    monkeypatch.setattr(run, "find_spec", lambda name: name)
    run.require_peers(suite, list(jobs.values()))


def test_report_shows_the_committed_numbers() -> None:
    runs, episodes = scores.read(RESULTS)
    table = (report.FOLDER / report.TABLES).read_text()
    head, _, *rows = re.findall(r"^\| (.+) \|$", table.partition("The best")[0], re.MULTILINE)
    tasks = head.split(" | ")[1:]
    board = {
        (task, method): float(re.search(r"[-\d.]+", cell)[0])
        for method, *cells in (row.split(" | ") for row in rows)
        for task, cell in zip(tasks, cells, strict=True)
        if cell.strip()
    }
    groups = episodes.groupby(["task", "method"])["return"]
    expected = {key: interquartile_mean(group.to_numpy(np.float64)) for key, group in groups}
    assert board == pytest.approx(expected, abs=0.051)
    counts = runs[~runs["method"].isin(["dataset", "still"])].groupby(["task", "method"])["seed"].nunique()
    assert (counts >= 3).all()
