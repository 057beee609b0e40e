"""Recording with a saved policy: it acts as in evaluation and in every process, and unfit environments are refused."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamset.behaviors.controller import Agent
from dreamset.core.errors import UserError
from dreamset.environments import parallel, pendulum
from dreamset.environments.recorder import record_episodes
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.artifacts.saved_models import load_behavior, load_world_model
from dreamset.pipeline.artifacts.saved_policy import saved_policy
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.stages import collect, learn_behavior, train_world_model
from dreamset.pipeline.stages import table as stages

TINY = ["preset=tiny", "dataset=pendulum_state"]
MAKE = partial(pendulum.make, image_size=None, episode_steps=8)


@pytest.fixture(scope="module")
def policy(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trained once for all tests of this module."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(tiny_data / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DREAMSET_TRACKING", "off")
        config = compose(TINY)
        train_world_model.run(stages.train_world_model(config))
        learn_behavior.run(stages.learn_behavior(config))
    models = {name: str(folder / f"runs/{name}/reconstruction-0/model") for name in ("world_model", "behavior")}
    return partial(saved_policy, **models)


def acts(episodes: list[RecordedEpisode]) -> np.ndarray:
    return np.stack([episode.actions for episode in episodes])


LOADERS = (("world_model", load_world_model), ("behavior", load_behavior))


def test_memory_is_kept_within_an_episode_and_reset_at_the_next(policy: Any) -> None:
    (episode,) = record_episodes(MAKE(), policy, episodes=1, seed=0)
    cpu = torch.device("cpu")
    (model, _), behavior = (load(Path(policy.keywords[name]), cpu) for name, load in LOADERS)
    generator = np.random.default_rng([0, 0])
    generator.integers(2**19)  # the seed of the reset
    noise = torch.Generator().manual_seed(int(generator.integers(2**63)))
    by_hand = Agent(behavior.controller(model), generator=noise)
    for step, action in enumerate(episode.actions):
        observations = {"state": torch.as_tensor(episode.observations["state"][step])[None]}
        expected = by_hand.act(observations, torch.tensor([step == 0]))[0].numpy()
        np.testing.assert_allclose(action, expected, rtol=0, atol=1e-6)


def test_recording_depends_on_the_seed_but_not_on_workers(policy: Any) -> None:
    one = list(parallel.record(MAKE, policy, episodes=3, seed=0, workers=1))
    two = list(parallel.record(MAKE, policy, episodes=3, seed=0, workers=2))
    other = list(parallel.record(MAKE, policy, episodes=3, seed=1, workers=1))
    np.testing.assert_array_equal(acts(one), acts(two))
    assert not np.array_equal(acts(one), acts(other))


def test_stage_collect_records_with_a_saved_policy(policy: Any) -> None:
    config = stages.collect(compose([*TINY, "collection.episodes=2", "dataset.reference=null"]))
    assert config["recording"]["workers"] == 1
    config["recording"]["policy"] = {
        "_target_": "dreamset.pipeline.artifacts.saved_policy.saved_policy",
        "_partial_": True,
        **policy.keywords,
    }
    collect.run(config)
    assert list(Path("data/recordings").rglob("main_data.hdf5"))


def test_environment_with_other_observations_is_refused(policy: Any) -> None:
    pixels = pendulum.make(image_size=32, episode_steps=3)
    with pytest.raises(
        UserError, match=r"does not fit the model's data: observation 'state' is missing, expected: float32"
    ):
        list(record_episodes(pixels, policy, episodes=1, seed=0))


def test_missing_model_folder_is_named(policy: Any) -> None:
    elsewhere = partial(policy, world_model="runs/nowhere")
    with pytest.raises(UserError, match="runs/nowhere"):
        list(record_episodes(MAKE(), elsewhere, episodes=1, seed=0))
