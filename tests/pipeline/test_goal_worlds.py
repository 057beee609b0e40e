"""The datasets of the two rooms and the pusher, as they are recorded."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.environments.recorder import record_episodes
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.stages import collect, ingest, table

WORLDS = ("two_room", "pusher")
QUALITIES = ("random", "mixed", "expert")
IN_BLOCKS = pytest.mark.skipif(
    not (find_spec("dreamset.environments.blocks") and find_spec("dreamset.environments.features")),
    reason="blocks of actions and patch features do not exist",
)


def recorded(name: str, count: int, *overrides: str) -> tuple[Any, list[RecordedEpisode]]:
    dataset = compose([f"dataset={name}", *overrides])["dataset"]
    environment = build_part(dataset["environment"])()
    policy = build_part(dataset["recording"]["policy"])
    return environment, list(record_episodes(environment, policy, episodes=count, seed=0))


@pytest.mark.parametrize("world", WORLDS)
def test_qualities_range_from_random_to_expert(world: str) -> None:
    small = "dataset.environment.image_size=16"
    means = [
        np.mean([episode.total_reward for episode in recorded(f"{world}_{quality}", 20, small)[1]])
        for quality in QUALITIES
    ]
    assert means[0] < 0.3 < means[1] < means[2] == 1


@pytest.mark.parametrize("world", WORLDS)
def test_recorded_episodes_become_a_store_without_the_goals_of_the_environment(world: str, tmp_path: Path) -> None:
    paths = [f"paths.{name}={tmp_path / name}" for name in ("recordings", "stores", "cards")]
    config = compose([f"dataset={world}_mixed", "collection.episodes=8", "collection.reference_episodes=3", *paths])
    collect.run(table.collect(config))
    ingest.run(table.ingest(config))
    store = Store.open(tmp_path / "stores" / f"{world}_mixed")
    assert set(store.spec.observations) == {"image"}
    assert set(store.spec.privileged) == {"state"}
    assert len(store.lengths) == 8
    assert store.info["source"]["ref_min_score"] == 0
    assert store.info["source"]["ref_max_score"] == 1
    for number in range(8):
        episode = store.read(number)
        assert episode["is_terminal"][-1] == episode["reward"].sum() == episode["reward"][-1]


def test_settings_of_goal_look_and_severity_reach_the_environment() -> None:
    settings = ["goal=[0.5,-0.2]", "door=null", "severity=1.0", "image_size=32", "appearance.agent=[1.0,0.0,0.0]"]
    overrides = [f"dataset.environment.{setting}" for setting in settings]
    overrides[-1] = f"+{overrides[-1]}"
    environment, (episode,) = recorded("two_room_random", 1, *overrides)
    world = environment.unwrapped
    np.testing.assert_allclose(episode.observations["goal.state"][:, :2], [[0.5, -0.2]] * len(episode.infos["state"]))
    assert episode.infos["state"].shape[1] == 3
    np.testing.assert_array_equal(world.plain.colours["agent"], [1, 0, 0])
    assert np.abs(world.look.colours["background"] - world.plain.colours["background"]).max() > 0.01


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.environment.severity=2.0", r"dataset\.environment\.severity is 2"),
        ("dataset.environment.goal=7", r"dataset\.environment\.goal is 7"),
        ("dataset.recording.policy.persistence=1.0", r"dataset\.recording\.policy\.persistence is 1"),
    ],
)
def test_values_out_of_bounds_are_refused_when_the_configuration_is_composed(override: str, message: str) -> None:
    prefix = "+" if "persistence" in override else ""
    with pytest.raises(UserError, match=message):
        compose(["dataset=two_room_random", prefix + override])


@IN_BLOCKS
@pytest.mark.parametrize("world", WORLDS)
def test_patches_are_of_the_mixed_episodes_in_blocks_with_one_encoder(world: str) -> None:
    dataset, mixed = (compose([f"dataset={name}"])["dataset"] for name in (f"{world}_mixed_patches", f"{world}_mixed"))
    assert dataset["source"]["path"].endswith(f"/{mixed['name']}")
    assert dataset["environment"]["encoder"] == dataset["transforms"][1]["encoder"]
    blocks = dataset["environment"]["environment"]
    assert blocks["steps"] == dataset["transforms"][0]["steps"]
    assert blocks["environment"] == mixed["environment"]
