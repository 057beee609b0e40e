"""Suites of environments: what is missing is named; what is there records the same episodes in every process.

Each needs its package, ``pip install "dreamset[dmc,mujoco,ogbench,minigrid,pusht]"``, and is skipped without it.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.environments import dm_control, minigrid, mujoco, ogbench, policies, pusht
from dreamset.environments.actions import choices
from dreamset.environments.recorder import record_numbered, write_minari
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.environments.suites import require
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect, ingest
from dreamset.pipeline.stages import table as stages

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything below imports mujoco

EXTRAS = {
    "dmc": ("shimmy", partial(dm_control.make, "cartpole", "swingup")),
    "mujoco": ("mujoco", partial(mujoco.make, "HalfCheetah-v5")),
    "ogbench": ("ogbench", partial(ogbench.make, "pointmaze-medium-singletask-v0")),
    "minigrid": ("minigrid", partial(minigrid.make, "BabyAI-GoToRedBallNoDists-v0")),
    "pusht": ("gym_pusht", pusht.make),
}
CUBE = partial(ogbench.make, "cube-single-v0", settings={"mode": "data_collection", "width": 32, "height": 32})
POLICIES = {"minigrid": minigrid.bot, "ogbench": ogbench.follow_path}
IMAGES: dict[str, dict[str, Any]] = {"ogbench": {"settings": {"width": 32, "height": 32}}}


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "off")


@pytest.fixture(params=sorted(EXTRAS))
def suite(request: pytest.FixtureRequest) -> str:
    """The name of an installed extra."""
    name: str = request.param
    package, _ = EXTRAS[name]
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "dreamset[{name}]"')
    return name


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_missing_package_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package, make = EXTRAS[name]
    if name == "dmc":
        package = "dm_control"  # the first that it needs
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == f'{package} is not installed; run: pip install "dreamset[{name}]"'


def test_import_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_suite.py").write_text("raise AttributeError('no attribute\\n glGetError')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"broken_suite cannot be imported \(no attribute glGetError\).*libegl1"
    ) as caught:
        require("broken_suite", extra="broken")
    assert "\n" not in str(caught.value)


def play(environment: Any, suite: str, number: int) -> RecordedEpisode:
    return record_numbered(environment, POLICIES.get(suite, policies.random), seed=0, number=number)


def assert_same(left: RecordedEpisode, right: RecordedEpisode) -> None:
    for name in left.observations:
        np.testing.assert_array_equal(left.observations[name], right.observations[name])
    np.testing.assert_array_equal(left.actions, right.actions)
    np.testing.assert_array_equal(left.rewards, right.rewards)


@pytest.mark.parametrize("image_size", [None, 32])
def test_episode_depends_on_its_number_only(suite: str, image_size: int | None) -> None:
    settings = IMAGES.get(suite, {}) if image_size else {}
    make = partial(EXTRAS[suite][1], image_size=image_size, episode_steps=6, **settings)
    one, other = make(), make()
    first, second = play(one, suite, 0), play(one, suite, 1)
    alone = play(other, suite, 1)
    assert_same(second, alone)
    assert any(not np.array_equal(first.observations[k][0], second.observations[k][0]) for k in first.observations)
    for name, values in second.observations.items():
        assert one.observation_space[name].contains(values[0])
    one.close()
    other.close()


def test_frames_change_with_the_state(suite: str) -> None:
    environment = EXTRAS[suite][1](image_size=32, episode_steps=6, **IMAGES.get(suite, {}))
    frames = play(environment, suite, 0).observations["image"]
    assert frames.shape[1:] == (32, 32, 3)
    assert len({frame.tobytes() for frame in frames}) > 2
    assert frames.std() > 5  # neither black nor white
    environment.close()


def test_recording_round_trips(suite: str, tmp_path: Path) -> None:
    from dreamset.datasets import MinariSource

    environment = EXTRAS[suite][1](episode_steps=6)
    played = [play(environment, suite, number) for number in range(2)]
    settings = {"reference": None, "description": "d", "algorithm": "a"}
    folder = write_minari(tmp_path, "suite/test-v0", environment, iter(played), **settings)
    source = MinariSource(folder)
    assert source.describe().action.discrete == (choices(environment) is not None) == (suite == "minigrid")
    for number, episode in enumerate(played):
        raw = source.read(number)
        np.testing.assert_array_equal(raw.actions, episode.actions)
        for name, values in raw.observations.items():
            np.testing.assert_array_equal(values, episode.observations[name])
    environment.close()


@pytest.mark.parametrize("make", [partial(mujoco.make, "HalfCheetah-v5"), CUBE, EXTRAS["ogbench"][1]])
def test_frames_are_rendered_without_shadows_reflections_and_multisampling(make: Callable[..., Any]) -> None:
    """The flags depend on private names of the suites, which any release may change."""
    library = pytest.importorskip("mujoco", reason='mujoco is not installed: pip install "dreamset[mujoco]"')
    if make.func is ogbench.make:
        pytest.importorskip("ogbench", reason='ogbench is not installed: pip install "dreamset[ogbench]"')
    environment = make(image_size=32)
    environment.reset(seed=0)
    layer = environment
    while not isinstance(layer, mujoco.QuickFrames):
        layer = layer.env
    assert layer.model().vis.quality.offsamples == 0
    flags = layer.scene().flags
    assert flags[library.mjtRndFlag.mjRND_SHADOW] == flags[library.mjtRndFlag.mjRND_REFLECTION] == 0
    environment.close()


def test_machine_without_a_driver_can_still_record_states(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco", reason='mujoco is not installed: pip install "dreamset[mujoco]"')
    monkeypatch.setenv("MUJOCO_GL", "glfw")  # needs a display
    monkeypatch.delenv("DISPLAY", raising=False)
    assert play(mujoco.make("HalfCheetah-v5", episode_steps=3), "mujoco", 0).infos["state"].shape == (4, 17)
    environment = mujoco.make("HalfCheetah-v5", image_size=32)
    with pytest.raises(UserError, match="HalfCheetah-v5 cannot be rendered on this machine"):
        environment.reset(seed=0)


@pytest.mark.parametrize(
    ("suite", "make", "expert"),
    [
        ("ogbench", EXTRAS["ogbench"][1], ogbench.follow_path),
        ("ogbench", CUBE, ogbench.move_cube),
        ("minigrid", EXTRAS["minigrid"][1], partial(minigrid.bot, randomness=0.2)),
    ],
)
def test_experts_of_the_suites_reach_their_goal(suite: str, make: Callable[..., Any], expert: Any) -> None:
    pytest.importorskip(suite, reason=f'{suite} is not installed: pip install "dreamset[{suite}]"')
    environment = make()
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    for number in range(2):
        episode = record_numbered(environment, expert, seed=0, number=number)
        assert episode.terminated
        assert_same(episode, record_numbered(environment, expert, seed=0, number=number))
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002
    environment.close()


def test_two_agent_steps_are_four_dm_control_steps() -> None:
    pytest.importorskip("shimmy", reason='shimmy is not installed: pip install "dreamset[dmc]"')
    episode = record_numbered(
        dm_control.make("cartpole", "swingup", action_repeat=4), policies.random, seed=0, number=0
    )
    assert len(episode.rewards) == 250
    assert not episode.terminated
    assert list(episode.observations) == ["position", "velocity"]
    joined = np.concatenate([episode.observations["position"], episode.observations["velocity"]], axis=1)
    np.testing.assert_array_equal(episode.infos["state"], joined)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("cartpole", "gymnasium"),
        ("dmc_cartpole_swingup", "shimmy"),
        ("halfcheetah", "mujoco"),
        ("ogbench_pointmaze", "ogbench"),
        ("minigrid_red_ball", "minigrid"),
        ("pusht_random", "gym_pusht"),
    ],
)
def test_recorded_datasets_become_stores(name: str, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    steps = "dataset.environment.episode_steps=20"
    overrides = ["preset=tiny", f"dataset={name}", "collection.episodes=3", "collection.reference_episodes=1"]
    config = compose([*overrides, steps])
    collect.run(stages.collect(config))
    ingest.run(stages.ingest(config))
    from dreamset.datasets import Store

    store = Store.open(stages.ingest(config)["output"])
    assert len(store.lengths) == 3
    assert store.lengths.max() <= 21
