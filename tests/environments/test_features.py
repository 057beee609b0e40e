"""An environment with features shows what a store with features holds, also for goals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources import SourceDescription
from dreamset.datasets.transforms import PatchFeatures
from dreamset.environments import puck
from dreamset.environments.checked import require_fit
from dreamset.environments.features import Featured, make
from dreamset.environments.rollouts import record_episode
from dreamset.environments.stacked import StackedFrames
from dreamset.pipeline.artifacts.compatibility import fitted_spec
from dreamset.vision import EfficientNetLite0, RandomWeights
from tests.datasets.test_patch_features import Halves
from tests.environments.conftest import Counter

ACTION = np.zeros(1, np.float32)


class Coloured(Counter):
    """Counts with colour images; the image of the goal counts the episodes."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "goal.image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        }
    )

    def _rows(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        image = np.full((4, 4, 3), self.count % 256, np.uint8)
        image[2:] //= 2
        return {"image": image, "goal.image": np.full((4, 4, 3), 50 + self.episode, np.uint8)}, {}


class Counting(Halves):
    """Remembers the images whose features it computed."""

    seen: list[np.ndarray] = []  # noqa: RUF012

    def features(self, images):
        self.seen.extend(images)
        return super().features(images)


def test_observation_has_the_features_of_its_image_and_of_the_goal() -> None:
    environment, encoder = Featured(Coloured(), Halves()), Halves()
    for episode in range(2):
        observation, _ = environment.reset()
        for _ in range(3):
            assert environment.observation_space.contains(observation)
            np.testing.assert_array_equal(observation["patches"], encoder.features(observation["image"][None])[0])
            assert observation["goal.patches"].tolist() == [[50 + episode] * 2] * 2
            observation, *_ = environment.step(ACTION)


def test_goal_is_encoded_once_per_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "seen", [])
    environment = Featured(Coloured(), Counting())
    for _ in range(2):
        environment.reset()
        environment.step(ACTION)
    goals = [image for image in Counting.seen if 50 <= image[0, 0, 0] < 60 and (image == image[0, 0, 0]).all()]
    assert len(goals) == 2
    assert len(Counting.seen) == 2 + 4


def test_environment_without_a_goal_gets_no_features_of_one() -> None:
    environment = Featured(puck.make(image_size=32, episode_steps=3), Halves())
    assert set(environment.observation_space.spaces) == {"image", "patches"}
    check_env(environment, skip_render_check=True)


def test_played_features_equal_those_of_the_transform() -> None:
    """With a real network, whose batches differ in size."""
    encoder = RandomWeights(EfficientNetLite0(size=32))
    environment = make(
        environment=lambda: puck.make(image_size=32, episode_steps=4), encoder=encoder, image="image", name="patches"
    )
    episode = record_episode(environment, puck.scripted, seed=3, generator=np.random.default_rng(0))
    images = episode.observations["image"]
    raw = RawEpisode("one", {"image": images}, episode.actions, episode.rewards, False, {})
    recorded = PatchFeatures(encoder).apply(raw).observations["patches"].astype(np.float64)
    played = episode.observations["patches"].astype(np.float64)
    np.testing.assert_allclose(played, recorded, atol=2e-3 * np.abs(recorded).max())
    assert recorded.shape == (5, 4, 112)


def spec(encoder: str | None) -> DataSpec:
    patches = ArraySpec((2, 2), "float16", encoder)
    action = ActionSpec(1, discrete=False, low=(0.0,), high=(1e5,))
    return DataSpec({"patches": patches}, action, {}, {"patches": VectorStatistics((0.0,), (1.0,))})


def test_model_acts_only_on_features_of_its_own_encoder() -> None:
    environment = Featured(Coloured(), Halves())
    require_fit(environment, spec("halves:00ff"))
    with pytest.raises(UserError) as error:
        require_fit(environment, spec("halves:1234"))
    assert (
        "observation 'patches' is float16 [2, 2] of the encoder halves:00ff, expected: float16 [2, 2] of the encoder "
        "halves:1234" in str(error.value)
    )


def test_features_without_a_named_encoder_are_refused() -> None:
    class Anonymous(Coloured):
        observation_space = spaces.Dict({"patches": spaces.Box(-np.inf, np.inf, (2, 2), np.float16)})

    with pytest.raises(UserError, match=r"'patches' is float16 \[2, 2\], expected: .* of the encoder halves:00ff"):
        require_fit(Anonymous(), spec("halves:00ff"))


def test_encoder_survives_wrappers_around_the_features() -> None:
    environment = StackedFrames(Featured(Coloured(), Halves()), 2)
    with pytest.raises(UserError, match="halves:1234"):
        require_fit(environment, spec("halves:1234"))


def test_model_is_trained_further_only_with_features_of_its_own_encoder() -> None:
    with pytest.raises(UserError, match=r"observation patches +float16 \[2, 2\] of the encoder halves:1234"):
        fitted_spec(spec("halves:1234"), spec("halves:00ff"), strict=True, where=Path("model"))


@pytest.mark.parametrize("names", [{"image": "depth"}, {"name": "image"}, {"name": "goal.image"}])
def test_wrong_names_are_refused_with_the_observations(names: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"it has the observations goal.image, image; change image or name"):
        Featured(Coloured(), Halves(), **names)


def test_images_without_three_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"reads images \[height, width, 3\], got \[4, 4, 6\]"):
        Featured(StackedFrames(Coloured(), 2), Halves())


def test_description_and_space_agree() -> None:
    environment = Featured(Coloured(), Halves())
    source_spec = PatchFeatures(Halves()).columns(
        SourceDescription({"image": ArraySpec((4, 4, 3), "uint8")}, {}, spec(None).action, {})
    )
    assert isinstance(environment.observation_space, spaces.Dict)
    space = environment.observation_space["patches"]
    array = source_spec.observations["patches"]
    assert (space.shape, str(space.dtype)) == (array.shape, array.dtype)
