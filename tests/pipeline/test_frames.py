"""Images of any number of channels are shown: in cards, in figures and videos of predictions, in videos of episodes."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import matplotlib.image
import numpy as np
import pytest
import torch

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.report.card import write_card
from dreamset.pipeline.report.frames import as_rgb, resized
from dreamset.pipeline.report.videos import episode_video
from dreamset.pipeline.stages import table as stages
from dreamset.pipeline.stages import train_world_model
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import seeded, tiny_batch, tiny_config, tiny_model, tiny_spec

SIDE = 16
ANY_CHANNELS = [1, 2, 3, 4, 5, 9]


class Pixels:
    """Episodes of random images with ``channels``."""

    episode_count = 4

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def describe(self) -> SourceDescription:
        observations = {"image": ArraySpec((SIDE, SIDE, self.channels), "uint8")}
        return SourceDescription(observations, {}, ActionSpec(1, False, (-1.0,), (1.0,)), {"format": "pixels"})

    def read(self, number: int) -> RawEpisode:
        generator = np.random.default_rng(number)
        image = generator.integers(0, 256, (13, SIDE, SIDE, self.channels), np.uint8)
        actions = generator.uniform(-1, 1, (12, 1)).astype(np.float32)
        return RawEpisode(f"episode {number}", {"image": image}, actions, actions[:, 0], False, {})


@pytest.mark.parametrize(
    ("channels", "shown"),
    [(1, [0, 0, 0]), (2, [1, 1, 1]), (3, [0, 1, 2]), (4, [3, 3, 3]), (5, [4, 4, 4]), (9, [6, 7, 8])],
)
def test_the_last_frame_of_a_stack_is_shown(channels: int, shown: list[int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, channels), np.uint8)
    np.testing.assert_array_equal(as_rgb(images), images[..., shown])
    large = resized(images[1])
    assert large.shape == (128, 160, 3)
    np.testing.assert_array_equal(large[::32, ::32], images[1][..., shown])


def test_dark_grey_images_stay_dark() -> None:
    """An imaging library would stretch the contrast of a single channel."""
    assert as_rgb(np.full((4, 4, 1), 3, np.uint8)).max() == 3


@pytest.mark.parametrize("channels", ANY_CHANNELS)
def test_card_shows_images_of_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    store = write_store(Pixels(channels), tmp_path / "store")
    write_card(store, tmp_path / "card")
    assert matplotlib.image.imread(tmp_path / "card" / "image.png").std() > 0.1
    assert f"| image | observation | 16 x 16 x {channels} | uint8 |" in (tmp_path / "card" / "card.md").read_text()


@pytest.mark.parametrize("channels", [2, 5])
def test_video_of_episodes_shows_the_last_frame(tmp_path: Path, channels: int) -> None:
    image = np.zeros((6, SIDE, SIDE, channels), np.uint8)
    image[..., -1] = 200
    actions = np.zeros((5, 1), np.float32)
    episode = RecordedEpisode(0, {"image": image}, {}, actions, np.zeros(5), terminated=False)
    episode_video(
        [episode, episode], lambda: pytest.fail("the images need no rendering"), tmp_path / "episodes.mp4", title="any"
    )
    video = iio.imread(tmp_path / "episodes.mp4").astype(int)
    assert len(video) == 6
    shown = np.abs(video[:, -120:-10, 10:120] - 200)  # within the first image
    assert shown.max() < 10


@pytest.mark.parametrize("generation", ["dreamer_v1", "dreamer_v2", "dreamer_v3"])
@pytest.mark.parametrize("channels", [2, 5, 9])
def test_world_models_learn_images_of_any_number_of_channels(channels: int, generation: str) -> None:
    batch = tiny_batch()
    image = batch.observations["image"][..., torch.arange(channels) % 3]
    batch = replace(batch, observations={"image": image})
    spec = replace(tiny_spec(), observations={"image": ArraySpec((16, 16, channels), "uint8")})
    overrides = [f"world_model={generation}"]
    model = tiny_model(*overrides, spec=spec)
    objective = build_part(tiny_config(*overrides)["objective"], model)
    trainer = WorldModelTrainer(
        model,
        objective,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
        clip_norm=100.0,
        generator=seeded(),
    )
    errors = [float(trainer.step(batch)["loss/reconstruction.image"]) for _ in range(25)]
    assert np.mean(errors[-3:]) < min(errors[:3])


def test_training_ends_with_figures_and_videos_of_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSET_TRACKING", "off")
    write_store(Pixels(5), tmp_path / "data" / "stores" / "npz_folder")
    dataset = ["dataset=npz_folder", "dataset.source.path=x", "dataset.source.observations={image: image}"]
    train_world_model.run(stages.STAGES["train_world_model"](compose(["preset=tiny", *dataset])))
    (run,) = (tmp_path / "runs" / "world_model").iterdir()
    (video,) = run.rglob("open_loop_image.mp4")
    assert iio.imread(video).shape[-1] == 3
    (strip,) = run.rglob("open_loop_image.png")
    assert matplotlib.image.imread(strip).std() > 0.05
