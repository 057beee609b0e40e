"""Folders of image files: every file is one row of a column, in natural order, as their decoder gives it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets.sources.files import open_table
from dreamset.datasets.sources.mapped import MappedSource

ROLES = {"action": "action", "reward": None, "terminal": None, "boundaries": {"folders": ""}}


def frames(episode: int, count: int = 12) -> np.ndarray:
    """Images of 6 x 8 whose pixels count rows: [count, 6, 8, 3]."""
    rows = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.uint8(100 * episode)
    return np.broadcast_to(rows, (count, 6, 8, 3)).copy()


def save(folder: Path, images: np.ndarray, ending: str = "png") -> None:
    """Names without leading zeros: 10 sorts before 2 by letters."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"frame_{row}.{ending}")


def record(root: Path) -> Path:
    """Two episodes with an action less than images."""
    for episode in range(2):
        save(root / f"run_{episode}", frames(episode))
        np.save(root / f"run_{episode}" / "action.npy", np.linspace(-1, 1, 11, dtype=np.float32)[:, None])
    return root


def test_images_beside_actions_are_an_episode_in_the_order_of_their_numbers(tmp_path):
    source = MappedSource(record(tmp_path / "runs"), observations={"image": "image"}, **ROLES)
    assert source.episode_count == 2
    for episode in range(2):
        raw = source.read(episode)
        np.testing.assert_array_equal(raw.observations["image"], frames(episode))
        assert raw.actions[:, 0].tolist() == np.linspace(-1, 1, 11, dtype=np.float32).tolist()
        assert not raw.rewards.any()


def test_folders_of_images_alone_are_episodes_without_actions(tmp_path):
    for episode in range(2):
        save(tmp_path / f"run_{episode}", frames(episode, 9))
    source = MappedSource(tmp_path, observations={"image": "image"}, **{**ROLES, "action": None})
    raw = source.read(1)
    np.testing.assert_array_equal(raw.observations["image"], frames(1, 9))
    assert raw.actions is None
    assert raw.rewards.tolist() == [0.0] * 8


def test_subfolders_are_columns_and_a_log_gives_the_actions(tmp_path):
    for episode in range(2):
        run = tmp_path / f"{episode}"
        save(run / "front", frames(episode))
        save(run / "wrist", 255 - frames(episode), "PNG")
        pd.DataFrame({"throttle": np.zeros(11), "brake": np.linspace(0, 1, 11)}).to_csv(run / "log.csv", index=False)
    source = MappedSource(
        tmp_path,
        observations={"front": "front", "wrist": "wrist"},
        **{**ROLES, "action": ["log/throttle", "log/brake"]},
    )
    raw = source.read(1)
    np.testing.assert_array_equal(raw.observations["front"], frames(1))
    np.testing.assert_array_equal(raw.observations["wrist"], 255 - frames(1))
    np.testing.assert_allclose(raw.actions, np.stack([np.zeros(11), np.linspace(0, 1, 11)], axis=1), rtol=1e-6)


def test_jpeg_files_are_decoded_as_their_decoder_does(tmp_path):
    save(tmp_path / "run", frames(0), "jpg")
    table = open_table(tmp_path / "run")
    header = table.headers("run")["image"]
    assert (header.shape, header.row_shape) == ((12,), (6, 8, 3))
    some = table.read(["image"], "run", slice(3, 5))["image"]
    assert [row.tobytes() for row in some] == [(tmp_path / f"run/frame_{row}.jpg").read_bytes() for row in (3, 4)]


def test_previews_beside_an_array_of_the_same_name_are_ignored(tmp_path):
    np.save(tmp_path / "image.npy", frames(0))
    save(tmp_path, frames(1))
    np.testing.assert_array_equal(open_table(tmp_path).read(["image"], "x")["image"], frames(0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "frame_5.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "'image' at step 5 is not a readable"),
        (lambda run: Image.new("RGB", (9, 6)).save(run / "frame_5.png"), "step 5 is an image of \\[6, 9, 3\\]"),
        (lambda run: [(run / f"frame_{row}.png").unlink() for row in (3, 4)], "10"),
    ],
)
def test_a_damaged_missing_or_different_image_is_one_error_that_names_the_episode(tmp_path, damage, message):
    damage(record(tmp_path / "runs") / "run_1")
    source = MappedSource(tmp_path / "runs", observations={"image": "image"}, **ROLES)
    source.read(0)
    with pytest.raises(UserError, match=f"episode 1 of .*run_1.*{message}"):
        source.read(1)


def test_folders_without_actions_say_which_columns_they_have(tmp_path):
    save(tmp_path / "a", frames(0))
    with pytest.raises(UserError, match=r"'action'.*\['image'\]"):
        MappedSource(tmp_path, observations={"image": "image"}, **ROLES)
