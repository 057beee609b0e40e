"""The README's animation is small, loops, and shows an episode aligned by the time rule."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks.animation import reality_of
from dreamset.environments.rollouts import RecordedEpisode


def test_animation_loops_fits_a_page_and_is_small(root: Path) -> None:
    path = root / "docs/dream.gif"
    with Image.open(path) as animation:
        assert animation.width == 800
        assert animation.info["loop"] == 0
        assert getattr(animation, "n_frames", 1) > 20
    assert path.stat().st_size < 2e6


def test_actions_and_rewards_of_an_episode_move_to_the_row_of_arrival() -> None:
    observations = {"state": np.arange(4.0)[:, None]}
    actions, rewards = np.array([[1.0], [2.0], [3.0]], np.float32), np.array([10.0, 20.0, 30.0])
    reality = reality_of(RecordedEpisode(0, observations, {}, actions, rewards, terminated=False), 3)
    assert reality.observations["state"][:, 0].tolist() == [0, 1, 2]
    assert reality.action[:, 0].tolist() == [0, 1, 2]
    assert reality.reward.tolist() == [0, 10, 20]
