"""The datasets of turf and the push puzzle, as they are recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.datasets import Store
from dreamset.environments.recorder import record_episodes
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.stages import collect, ingest, table

WORLDS = ("turf", "push")


def recorded(name: str, count: int) -> tuple[Any, list[RecordedEpisode], Mapping[str, Any]]:
    dataset = compose([f"dataset={name}"])["dataset"]
    environment = build_part(dataset["environment"])()
    policy = build_part(dataset["recording"]["policy"])
    return environment, list(record_episodes(environment, policy, episodes=count, seed=0)), dataset


@pytest.mark.parametrize("world", WORLDS)
def test_qualities_range_from_random_to_expert(world: str) -> None:
    means = []
    for quality in ("random", "mixed", "expert"):
        _, episodes, _ = recorded(f"{world}_{quality}", 20)
        means.append(np.mean([episode.total_reward for episode in episodes]))
    assert means[0] < 0.4 < means[1] < means[2] == 1


@pytest.mark.parametrize("world", WORLDS)
def test_images_and_vectors_are_of_the_same_episodes(world: str) -> None:
    _, (pixels, *_), settings = recorded(f"{world}_mixed_pixels", 1)
    _, (vectors, *_), _ = recorded(f"{world}_mixed", 1)
    assert pixels.observations["image"].shape[1:] == (32, 32, 3)
    assert settings["source"]["observations"] == ["image"]
    np.testing.assert_array_equal(pixels.infos["state"], vectors.observations["state"])


@pytest.mark.parametrize("world", WORLDS)
def test_reversibility_of_every_recorded_step_is_known(world: str) -> None:
    environment, episodes, _ = recorded(f"{world}_expert", 3)
    rules = environment.unwrapped.rules
    for episode in episodes:
        states = rules.numbers(episode.infos["state"])
        index, actions = rules.graph.index(states), episode.actions.argmax(-1)
        np.testing.assert_array_equal(rules.graph.arrivals[index[:-1], actions], index[1:])
        assert not rules.graph.reversible(states[-2:-1], actions[-1:])  # the last step ends the episode


@pytest.mark.parametrize("world", WORLDS)
def test_recorded_episodes_become_a_store_without_repetitions(world: str, tmp_path: Path) -> None:
    paths = [f"paths.{name}={tmp_path / name}" for name in ("recordings", "stores", "cards")]
    config = compose([f"dataset={world}_expert", "collection.episodes=40", "collection.reference_episodes=2", *paths])
    collect.run(table.collect(config))
    ingest.run(table.ingest(config))
    info = Store.open(tmp_path / "stores" / f"{world}_expert").info
    assert info["counts"]["episodes"] + len(info["quarantined"]) == 40
    assert all("equals" in entry["reason"] for entry in info["quarantined"])
    assert info["source"]["ref_min_score"] < info["source"]["ref_max_score"] == 1
