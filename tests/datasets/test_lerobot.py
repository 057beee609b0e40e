"""LeRobot datasets of counting episodes, written from the published layouts of version 2.1 and 3.0.

An image is one shade throughout: 10 more with every frame, so a frame that is taken from elsewhere shows.
"""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import Lost
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.lerobot.source import LeRobotSource

FPS = 10
CAMERA, PHOTO = "observation.images.top", "observation.image"
SHAPE = (32, 48, 3)
WIDE = {"action_low": -10.0, "action_high": 1e6}
VERSIONS = ("v2.1", "v3.0")
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
DATA_PATHS = {
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO_PATHS = {
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


@dataclass
class Recipe:
    """A recipe of a dataset; ``columns`` changes the columns of an episode."""

    version: str
    lengths: Sequence[int]
    camera: bool = False
    photo: bool = False
    columns: Callable[[int, dict[str, Any]], dict[str, Any]] = field(default=lambda _number, columns: columns)
    features: dict[str, dict[str, Any] | None] = field(default_factory=dict)  # None leaves one out
    info: dict[str, Any] = field(default_factory=dict)


def shade(number: int, steps: np.ndarray) -> np.ndarray:
    return 10 + 60 * number + 10 * steps


def plain(shades: Iterable[int]) -> np.ndarray:
    return np.stack([np.full(SHAPE, value, np.uint8) for value in shades])


def png(frame: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "frame.png"}


def columns_of(number: int, length: int, first: int, *, photo: bool) -> dict[str, Any]:
    steps = np.arange(length)
    count = 1000.0 * number + steps
    columns = {
        "observation.state": np.stack([count, -count], axis=1).astype(np.float32).tolist(),
        "action": (count + 0.25).astype(np.float32),  # numbers, not lists of one: so does the library
        "next.reward": (count + 0.5).astype(np.float32),
        "next.done": steps == length - 1,
        "next.success": (steps == length - 1) & (number % 2 == 0),
        "timestamp": (steps / FPS).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, number),
        "index": first + steps,
        "task_index": np.zeros(length, np.int64),
    }
    return columns | ({PHOTO: [png(frame) for frame in plain(shade(number, steps))]} if photo else {})


def features_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    image = {"shape": list(SHAPE), "names": ["height", "width", "channels"]}
    features: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["plus", "minus"]},
        "action": {"dtype": "float32", "shape": [1], "names": ["x"]},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
    }
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in BOOKKEEPING}
    features |= {CAMERA: {"dtype": "video", **image, "info": {"video.codec": "h264"}}} if recipe.camera else {}
    features |= {PHOTO: {"dtype": "image", **image}} if recipe.photo else {}
    return {name: value for name, value in {**features, **recipe.features}.items() if value}


def write_parquet(path: Path, columns: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables([pa.table(part) for part in columns]), path)


def write_video(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(
        path, frames, fps=FPS, codec="libx264", macro_block_size=1, output_params=["-crf", "10", "-preset", "ultrafast"]
    )


def frames_of(recipe: Recipe, numbers: Iterable[int]) -> np.ndarray:
    return np.concatenate([plain(shade(number, np.arange(recipe.lengths[number]))) for number in numbers])


def write_v21(root: Path, recipe: Recipe, episodes: Sequence[dict[str, Any]]) -> None:
    lines = []
    for number, columns in enumerate(episodes):
        keys = {"episode_chunk": 0, "episode_index": number, "video_key": CAMERA}
        write_parquet(root / DATA_PATHS["v2.1"].format(**keys), [columns])
        if recipe.camera:
            write_video(root / VIDEO_PATHS["v2.1"].format(**keys), frames_of(recipe, [number]))
        lines.append({"episode_index": number, "tasks": ["count"], "length": recipe.lengths[number]})
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "count"}) + "\n")


def write_v30(root: Path, recipe: Recipe, episodes: Sequence[dict[str, Any]]) -> None:
    """Two episodes per file, three per video."""
    rows = []
    for number, length in enumerate(recipe.lengths):
        first = sum(recipe.lengths[:number])
        row = {"episode_index": number, "tasks": ["count"], "length": length}
        row |= {"dataset_from_index": first, "dataset_to_index": first + length}
        row |= {"data/chunk_index": 0, "data/file_index": number // 2}
        if recipe.camera:
            start = sum(recipe.lengths[number - number % 3 : number]) / FPS
            row |= {f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": number // 3}
            row |= {f"videos/{CAMERA}/from_timestamp": start, f"videos/{CAMERA}/to_timestamp": start + length / FPS}
        rows.append(row)
    for file in range((len(episodes) + 1) // 2):
        path = root / DATA_PATHS["v3.0"].format(chunk_index=0, file_index=file)
        write_parquet(path, episodes[2 * file : 2 * file + 2])
    for file in range((len(episodes) + 2) // 3 if recipe.camera else 0):
        path = root / VIDEO_PATHS["v3.0"].format(chunk_index=0, file_index=file, video_key=CAMERA)
        write_video(path, frames_of(recipe, range(len(episodes))[3 * file : 3 * file + 3]))
    table = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), table)


def write_dataset(root: Path, recipe: Recipe) -> Path:
    starts = np.concatenate([[0], np.cumsum(recipe.lengths)]).tolist()
    episodes = [
        recipe.columns(number, columns_of(number, length, starts[number], photo=recipe.photo))
        for number, length in enumerate(recipe.lengths)
    ]
    (root / "meta").mkdir(parents=True)
    info = {
        "codebase_version": recipe.version,
        "robot_type": "counter",
        "total_episodes": len(episodes),
        "total_frames": starts[-1],
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "data_path": DATA_PATHS[recipe.version],
        "video_path": VIDEO_PATHS[recipe.version] if recipe.camera else None,
        "features": features_of(recipe),
        **recipe.info,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    {"v2.1": write_v21, "v3.0": write_v30}[recipe.version](root, recipe, episodes)
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_recipe(version: str, *lengths: int, **settings: Any) -> Path:
        return write_dataset(tmp_path / "counter", Recipe(version, lengths, **settings))

    return write_recipe


def read(path: Path, **settings: Any) -> list[Any]:
    return list(read_all(LeRobotSource(path, **WIDE, **settings)))


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_aligned_and_the_last_transition_is_dropped(write, version):
    path = write(version, 4, 3, 5)
    for number, (length, raw) in enumerate(zip((4, 3, 5), read(path), strict=True)):
        count = 1000 * number + np.arange(length)
        assert raw.observations["observation.state"].tolist() == np.stack([count, -count], axis=1).tolist()
        assert raw.actions.tolist() == (count[:-1, None] + 0.25).tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.terminated is False
        assert raw.lost == Lost(transitions=1, reward=count[-1] + 0.5, terminal=number != 1)
    assert LeRobotSource(path).describe().provenance["final_observation"] == "drop"


@pytest.mark.parametrize("version", VERSIONS)
def test_last_observation_can_be_repeated_and_success_is_terminal(write, version):
    path = write(version, 4, 3, 5)
    first, second, third = read(path, final_transition="repeat")
    assert first.observations["observation.state"][:, 0].tolist() == [0, 1, 2, 3, 3]
    assert second.actions[:, 0].tolist() == [1000.25, 1001.25, 1002.25]
    assert third.rewards.tolist() == [2000.5, 2001.5, 2002.5, 2003.5, 2004.5]
    assert [raw.terminated for raw in (first, second, third)] == [True, False, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_alignment_is_kept_from_files_to_batch(write, tmp_path, version):
    source = LeRobotSource(write(version, 7, 6, 9), **WIDE)
    store = write_store(source, tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.observations["observation.state"][..., 0]
    assert (count[:, 1:] - count[:, :-1] == 1).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def without(*names: str) -> dict[str, Any]:
    return {
        "columns": lambda _number, columns: {name: columns[name] for name in columns if name not in names},
        "features": dict.fromkeys(names),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_rewards_are_zero_and_recorded_as_absent(write, version):
    path = write(version, 4, 3, **without("next.reward", "next.success"))
    assert [raw.rewards.tolist() for raw in read(path)] == [[0, 0, 0], [0, 0]]
    assert not any(raw.terminated for raw in read(path, final_transition="repeat"))
    provenance = LeRobotSource(path).describe().provenance
    assert (provenance["rewards"], provenance["terminal_flag"]) == ("absent", "absent")
    (doubt,) = LeRobotSource(path).describe().doubts
    assert "none of next.reward, reward exists, so all rewards are 0" in doubt
    assert not LeRobotSource(path, reward=None).describe().doubts


def renamed(**names: str) -> dict[str, Any]:
    """Features under other names: old to new, with _ for dots in the old ones."""
    new = {old.replace("_", "."): name for old, name in names.items()}
    kinds = {"next.reward": "float32", "next.done": "bool", "next.success": "bool"}
    return {
        "columns": lambda _number, columns: {new.get(name, name): values for name, values in columns.items()},
        "features": {
            **dict.fromkeys(new),
            **{name: {"dtype": kinds[old], "shape": [1], "names": None} for old, name in new.items()},
        },
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("names", [("reward", "terminated", "truncated"), ("score", "solved", "over")])
def test_rewards_and_ends_are_read_by_usual_or_given_names(write, version, names):
    reward, terminal, done = names
    path = write(version, 4, 3, **renamed(next_reward=reward, next_success=terminal, next_done=done))
    settings = {} if reward == "reward" else {"reward": reward, "terminal": terminal}
    first, second = read(path, **settings, final_transition="repeat")
    assert first.rewards.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert (first.terminated, second.terminated) == (True, False)
    source = LeRobotSource(path, **settings)
    provenance = source.describe().provenance
    assert (provenance["rewards"], provenance["terminal_flag"], source.describe().doubts) == (reward, terminal, ())
    assert {reward, terminal, done} & set(provenance["ignored_columns"]) == {done}


def test_usual_name_of_a_transition_precedes_others(write):
    more = {"dtype": "float32", "shape": [1], "names": None}
    columns = {"columns": lambda _, columns: {**columns, "reward": np.zeros(len(columns["action"]), np.float32)}}
    (raw,) = read(write("v3.0", 4, **columns, features={"reward": more}))
    assert raw.rewards.tolist() == [0.5, 1.5, 2.5]


def test_end_within_an_episode_is_refused_but_an_early_success_is_not(write):
    def early(_number: int, columns: dict[str, Any]) -> dict[str, Any]:
        return {**columns, "next.success": np.arange(4) > 1, "terminated": np.arange(4) == 1}

    path = write("v3.0", 4, columns=early, features={"terminated": {"dtype": "bool", "shape": [1], "names": None}})
    assert read(path, final_transition="repeat")[0].terminated
    with pytest.raises(UserError, match=r"episode_0 of .*: is terminal at row 1 of 4; allowed: only in"):
        read(path, terminal="terminated")


@pytest.mark.parametrize("name", ["next.score", "observation.state"])
@pytest.mark.parametrize("setting", ["reward", "terminal"])
def test_named_feature_must_exist_and_have_one_number(write, setting, name):
    with pytest.raises(
        UserError, match=rf"dataset.source.{setting} is '{name}'; allowed: a feature with one number \(act"
    ):
        LeRobotSource(write("v3.0", 4), **{setting: name})


def test_episode_is_found_in_a_file_that_the_metadata_do_not_list(write):
    path = write("v3.0", 4, 3, 5, 6, 2)  # two episodes per file
    (table,) = path.glob("meta/episodes/*/*.parquet")
    rows = pq.read_table(table).to_pylist()
    for row in rows:
        row["data/file_index"] = max(0, row["data/file_index"] - 1)
    pq.write_table(pa.Table.from_pylist(rows), table)
    source = LeRobotSource(path, **WIDE)
    assert [raw.observations["observation.state"][:, 0].tolist() for raw in read_all(source)] == [
        [1000.0 * number + step for step in range(length)] for number, length in enumerate((4, 3, 5, 6, 2))
    ]
    provenance = source.describe().provenance
    assert (provenance["episodes_in_another_file_than_listed"], provenance["files"]) == (3, 5)


def shades_of(raw: Any, name: str) -> list[float]:
    frames = raw.observations[name]
    assert frames.dtype == np.uint8
    assert np.ptp(frames.astype(int), axis=(1, 2, 3)).max() <= 3  # throughout
    return frames.mean((1, 2, 3)).tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_video_frames_are_aligned_with_their_steps(write, version):
    lengths = (4, 2, 3, 3)
    path = write(version, *lengths, camera=True)
    for image_size, wanted in ((None, SHAPE[:2]), (16, (16, 16)), ([16, 24], (16, 24))):
        source = LeRobotSource(path, image_size=image_size, **WIDE)
        assert source.describe().observations[CAMERA].shape == (*wanted, 3)
        assert source.describe().provenance["image_size"] == (list(wanted) if image_size else None)
        for number in (3, 2):
            raw = source.read(number)
            assert raw.observations[CAMERA].shape == (lengths[number], *wanted, 3)
            assert shades_of(raw, CAMERA) == pytest.approx(shade(number, np.arange(lengths[number])), abs=3)
    assert source.describe().provenance["lossy"] == [CAMERA]


@pytest.mark.parametrize("version", VERSIONS)
def test_images_in_the_table_are_exact(write, version):
    path = write(version, 4, 3, photo=True)
    for number, raw in enumerate(read(path)):
        assert shades_of(raw, PHOTO) == shade(number, np.arange(4 - number)).tolist()
    source = LeRobotSource(path, image_size=[8, 12])
    assert source.describe().observations[PHOTO].shape == source.read(0).observations[PHOTO].shape[1:] == (8, 12, 3)
    assert source.describe().provenance["lossy"] == []


def test_shrinking_averages_pixels(write):
    texture = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)

    def textured(_number: int, columns: dict[str, Any]) -> dict[str, Any]:
        return {**columns, PHOTO: [png(texture)] * len(columns["action"])}

    path = write("v3.0", 3, photo=True, camera=True, columns=textured)
    (video,) = path.rglob("*.mp4")
    write_video(video, np.stack([texture] * 3))
    (full,), (small,) = read(path), read(path, image_size=[8, 12])
    assert np.array_equal(full.observations[PHOTO][2], texture)
    for name in (PHOTO, CAMERA):
        mean = full.observations[name].reshape(3, 8, 4, 12, 4, 3).mean((2, 4))
        assert np.abs(small.observations[name] - mean).max() < 1


@pytest.mark.parametrize("names", [["channels", "height", "width"], None])
def test_channels_first_images_are_read(write, names):
    declared = {CAMERA: {"dtype": "video", "shape": [SHAPE[2], *SHAPE[:2]], "names": names}}
    path = write("v3.0", 4, 3, camera=True, features=declared)
    assert LeRobotSource(path).describe().observations[CAMERA].shape == SHAPE
    assert read(path)[0].observations[CAMERA].shape == (4, *SHAPE)


def later(seconds: float) -> Callable[[int, dict[str, Any]], dict[str, Any]]:
    """Shifts the times of episode 1."""

    def change(number: int, columns: dict[str, Any]) -> dict[str, Any]:
        moved = columns["timestamp"] + np.float32(seconds)
        return {**columns, "timestamp": moved} if number == 1 else columns

    return change


@pytest.mark.parametrize("version", VERSIONS)
def test_times_may_be_off_by_less_than_half_a_frame(write, version):
    path = write(version, 4, 3, camera=True, columns=later(0.04))
    assert shades_of(read(path)[1], CAMERA) == pytest.approx(shade(1, np.arange(3)), abs=3)


@pytest.mark.parametrize("seconds", [0.06, 40.0])
def test_time_without_a_frame_is_named(write, seconds):
    path = write("v2.1", 4, 3, camera=True, columns=later(seconds))
    source = LeRobotSource(path, **WIDE)
    with pytest.raises(UserError, match=r"^episode_1 of .*counter: episode_000001.mp4: has no frame (at|in)"):
        source.read(1)
    assert len(source.read(0).rewards) == 3


def test_columns_can_be_selected_and_others_are_listed(write):
    path = write("v3.0", 4, 3, camera=True, photo=True)
    source = LeRobotSource(path, observations=[PHOTO], privileged=["observation.state", "task_index"], **WIDE)
    raw = source.read(1)
    assert (set(raw.observations), set(raw.privileged)) == ({PHOTO}, {"observation.state", "task_index"})
    assert raw.privileged["task_index"].tolist() == [[0], [0], [0]]
    assert source.describe().provenance["ignored_columns"] == {
        CAMERA: "not selected",
        "episode_index": "not selected",
        "frame_index": "not selected",
        "index": "not selected",
        "next.done": "belongs to transitions",
        "timestamp": "not selected",
    }
    assert set(LeRobotSource(path).describe().observations) == {CAMERA, PHOTO, "observation.state"}
    with pytest.raises(UserError, match=r"'next\.done' of the setting 'privileged' cannot be a column \(belongs to"):
        LeRobotSource(path, privileged=["next.done"])


def test_unusable_features_are_ignored_with_reasons(write):
    features = {
        "observation.depth": {
            "dtype": "video",
            "shape": [32, 48, 1],
            "names": None,
            "info": {"video.is_depth_map": True},
        },
        "observation.words": {"dtype": "string", "shape": [1], "names": None},
        "observation.many": {"dtype": "image", "shape": [32, 48, 4], "names": None},
        "observation.none": {"dtype": "float32", "shape": [0], "names": None},
        "observation.vast": {"dtype": "float32", "shape": [1 << 40], "names": None},
        "observation.wall": {"dtype": "image", "shape": [1 << 20, 1 << 20, 3], "names": None},
    }
    ignored = LeRobotSource(write("v2.1", 4, features=features)).describe().provenance["ignored_columns"]
    assert {name: reason for name, reason in ignored.items() if name in features} == {
        "observation.depth": "a depth map",
        "observation.words": "string of shape [1], not 1 to 1048576 numbers",
        "observation.many": "an image of shape [32, 48, 4], neither grey nor RGB",
        "observation.none": "float32 of shape [0], not 1 to 1048576 numbers",
        "observation.vast": "float32 of shape [1099511627776], not 1 to 1048576 numbers",
        "observation.wall": "an image of shape [1048576, 1048576, 3], neither grey nor RGB",
    }


def test_arrays_with_several_axes_and_discrete_actions_are_read(write):
    def change(number: int, columns: dict[str, Any]) -> dict[str, Any]:
        grid = (1000 * number + np.arange(12)).reshape(-1, 2, 2)[: len(columns["action"])]
        actions = np.arange(len(columns["action"])) % 2
        return {**columns, "observation.grid": grid.tolist(), "action": actions}

    features = {
        "observation.grid": {"dtype": "int64", "shape": [2, 2], "names": None},
        "action": {"dtype": "int64", "shape": [1], "names": None},
    }
    path = write("v3.0", 3, 3, columns=change, features=features)
    with pytest.raises(UserError, match="'action' contains integers: set discrete"):
        LeRobotSource(path)
    _, second = read_all(LeRobotSource(path, discrete=2))
    assert second.observations["observation.grid"][1].tolist() == [1004, 1005, 1006, 1007]
    assert second.actions.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("version", VERSIONS)
def test_episode_without_transition_is_skipped_and_counted(write, version):
    path = write(version, 3, 1, 4)
    assert [raw.observations["observation.state"][0, 0] for raw in read(path)] == [0, 2000]
    provenance = LeRobotSource(path).describe().provenance
    assert (provenance["episodes_in_dataset"], provenance["episodes_without_transition"]) == (3, 1)
    assert LeRobotSource(path, episodes=1).episode_count == 1


def test_provenance_does_not_depend_on_the_path(tmp_path):
    recipe = Recipe("v3.0", (4, 3), camera=True)
    first, second = (write_dataset(tmp_path / name, recipe) for name in ("here", "there"))
    (second / ".cache").mkdir()
    (second / ".cache" / "lock").write_text("of a download")
    provenance = LeRobotSource(first).describe().provenance
    assert provenance == LeRobotSource(second).describe().provenance
    assert (provenance["codebase_version"], provenance["robot_type"], provenance["files"]) == ("v3.0", "counter", 4)
    third = write_dataset(tmp_path / "other", Recipe("v3.0", (4, 3), camera=True, info={"fps": FPS + 1}))
    assert LeRobotSource(third).describe().provenance["sha256"] != provenance["sha256"]


def test_nan_is_reported_by_the_check(write, tmp_path):
    def change(number: int, columns: dict[str, Any]) -> dict[str, Any]:
        columns["observation.state"][1][1] = float("nan") if number == 1 else 0.0
        return columns

    path = write("v3.0", 4, 3, columns=change)
    with pytest.raises(UserError, match=r"^episode_1 of .*counter: observation 'observation.state' is nan at step 1"):
        write_store(LeRobotSource(path, **WIDE), tmp_path / "store")


def changed(name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A recipe in which one column of episode 1 is changed, rows of the others adapted if there are fewer."""

    def edit(number: int, columns: dict[str, Any]) -> dict[str, Any]:
        if number != 1:
            return columns
        values = change(columns[name])
        return {other: column[: len(values)] for other, column in columns.items()} | {name: values}

    return {"columns": edit, "photo": name == PHOTO}


def image_bytes(shape: tuple[int, ...], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, form)
    return buffer.getvalue()


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "a frame is missing": (changed("action", lambda values: values[:-1]), "has 2 frames of it, expected 3"),
    "frames in disorder": (
        changed("frame_index", lambda values: values[::-1]),
        "frame_index is 2 in row 0, expected 0; a frame is missing",
    ),
    "lists of different lengths": (
        changed("observation.state", lambda values: [values[0], [1.0], [2.0, 3.0, 4.0]]),
        "'observation.state' holds lists of different lengths",
    ),
    "too many numbers": (
        changed("observation.state", lambda values: [[*row, 0.0] for row in values]),
        r"'observation.state' holds 3 numbers per row, info.json says \[2\]",
    ),
    "words for numbers": (
        changed("action", lambda values: ["left"] * len(values)),
        "'action' holds string, expected",
    ),
    "no image": (
        changed(PHOTO, lambda values: [{"bytes": b"nothing", "path": ""}] * len(values)),
        f"'{PHOTO}' at step 0 is not a readable JPEG or PNG",
    ),
    "an image elsewhere": (
        changed(PHOTO, lambda values: [*values[:-1], {"bytes": None, "path": "/etc/passwd"}]),
        f"'{PHOTO}' at step 2 is stored outside of the table",
    ),
    "a larger image": (
        changed(PHOTO, lambda values: [{"bytes": image_bytes((64, 64, 3)), "path": ""}] * len(values)),
        r"at step 0 is an image of \[64, 64, 3\] in mode RGB, info.json says \[32, 48, 3\]",
    ),
    "an image of another format": (
        changed(PHOTO, lambda values: [{"bytes": image_bytes(SHAPE, "GIF"), "path": ""}] * len(values)),
        "at step 0 is not a readable JPEG or PNG",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_episode_is_named_and_others_are_read(write, case):
    recipe, message = DAMAGED[case]
    source = LeRobotSource(write("v2.1", 4, 3, **recipe), **WIDE)
    assert len(source.read(0).rewards) == 3
    with pytest.raises(UserError, match=rf"^episode_1 of .*counter: .*{message}") as caught:
        source.read(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["data", "videos"])
@pytest.mark.parametrize("kept", [None, 0.0, 0.9])
def test_missing_or_truncated_file_affects_only_its_episodes(write, version, kind, kept):
    path = write(version, 3, 2, 2, 2, camera=kind == "videos")
    victim = sorted((path / kind).rglob("*.*"))[-1]
    content = victim.read_bytes()
    victim.unlink()
    if kept is not None:
        victim.write_bytes(content[: int(kept * len(content))])
    source = LeRobotSource(path, **WIDE)
    assert source.describe().provenance["episodes"] == 4
    assert len(source.read(0).rewards) == 2
    with pytest.raises(UserError, match=rf"^episode_3 of .*counter: .*{victim.name}") as caught:
        source.read(3)
    assert "\n" not in str(caught.value)


def test_video_with_an_undeclared_size_is_refused(write):
    path = write("v2.1", 4, camera=True, features={CAMERA: {"dtype": "video", "shape": [48, 32, 3], "names": None}})
    with pytest.raises(UserError, match=r"^episode_0 of .*mp4: has 32 x 48 pixels, info.json says 48 x 32"):
        read(path, image_size=16)


def test_playlist_instead_of_a_video_is_refused(write):
    path = write("v2.1", 4, camera=True)
    (video,) = path.rglob("*.mp4")
    video.with_name("real.mp4").write_bytes(video.read_bytes())
    video.write_text("ffconcat version 1.0\nfile real.mp4\n")
    with pytest.raises(UserError, match=r"^episode_0 of .*mp4: unreadable or truncated"):
        read(path)


BAD_INFO: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"codebase_version": "v1.6"}, "codebase_version is v1.6; supported: v2.0, v2.1, v3.0"),
    "no speed": ({"fps": 0}, "fps is 0.0, expected a positive number"),
    "no features": ({"features": None}, "damaged or incomplete"),
    "an episode too many": ({"total_episodes": 3}, "total_episodes is 3, but meta lists 2 distinct"),
    "out of the folder": ({"data_path": "../{episode_index}.parquet"}, "leads out of the dataset"),
    "from the root": ({"data_path": "/etc/{episode_index}.parquet"}, "leads out of the dataset"),
    "into the interpreter": ({"data_path": "{episode_index.__class__}"}, "is not a template of episode_index, "),
    "enormous": ({"data_path": "{episode_index:999999999d}"}, "is not a template of episode_index, "),
    "half a template": ({"data_path": "{episode_index"}, "the list of episodes is damaged"),
}


@pytest.mark.parametrize("case", BAD_INFO)
def test_unusable_metadata_are_refused(write, case):
    info, message = BAD_INFO[case]
    with pytest.raises(UserError, match=message) as caught:
        LeRobotSource(write("v2.1", 4, 3, info=info))
    assert "counter" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_damaged_metadata_files_are_named(write, text):
    path = write("v2.1", 4, 3)
    with pytest.raises(UserError, match=r"nowhere/meta/info.json: no such file"):
        LeRobotSource(path.with_name("nowhere"))
    lines = path / "meta" / "episodes.jsonl"
    lines.write_text(lines.read_text().splitlines()[0] + "\n" + text)
    with pytest.raises(UserError, match=r"the list of episodes is damaged|2, but meta lists 1 distinct"):
        LeRobotSource(path)
    (path / "meta" / "info.json").write_text(text)
    with pytest.raises(UserError, match=r"info.json: damaged or incomplete"):
        LeRobotSource(path)


def test_damaged_table_of_episodes_is_named(write):
    path = write("v3.0", 4, 3)
    (table,) = path.rglob("meta/episodes/*/*.parquet")
    rows = pq.read_table(table)
    pq.write_table(rows.drop_columns(["data/file_index"]), table)
    with pytest.raises(UserError, match=r"meta/episodes/chunk-000/file-000.parquet: .*data/file_index"):
        LeRobotSource(path)
    pq.write_table(pa.concat_tables([rows, rows]), table)
    with pytest.raises(UserError, match="total_episodes is 2, but meta lists 2 distinct"):
        LeRobotSource(path)
    table.unlink()
    with pytest.raises(UserError, match="no such files"):
        LeRobotSource(path)


@pytest.mark.parametrize("size", [2, 5000, [16], [16, 16, 3]])
def test_settings_are_checked(write, size):
    path = write("v3.0", 4)
    with pytest.raises(UserError, match="image_size is"):
        LeRobotSource(path, image_size=size)
    with pytest.raises(UserError, match="final_transition is 'keep'; allowed: drop or repeat"):
        LeRobotSource(path, final_transition="keep")
    with pytest.raises(UserError, match="episodes is 0"):
        LeRobotSource(path, episodes=0)
    with pytest.raises(UserError, match="no numeric feature 'action'"):
        LeRobotSource(write_dataset(path / "again", Recipe("v2.1", (3,), features={"action": None})))


def test_arrays_of_images_follow_the_rule_of_all_readers(tmp_path):
    """Numbers in the table, not files: bytes are images, floats are a vector with a doubt."""
    generator = np.random.default_rng(0)
    view = generator.integers(0, 256, (4, 3, 40, 36), np.uint8)
    depth = generator.random((4, 40, 36, 1), np.float32)

    def edit(_number: int, columns: dict[str, Any]) -> dict[str, Any]:
        arrays = {
            "observation.view": pa.array(view.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))),
            "observation.depth": pa.array(depth.tolist(), pa.list_(pa.list_(pa.list_(pa.float32())))),
        }
        return {**columns, **arrays}

    features = {
        "observation.view": {"dtype": "uint8", "shape": [3, 40, 36], "names": None},
        "observation.depth": {"dtype": "float32", "shape": [40, 36, 1], "names": None},
    }
    source = LeRobotSource(write_dataset(tmp_path / "data", Recipe("v3.0", [4], columns=edit, features=features)))
    raw = source.read(0)
    np.testing.assert_array_equal(raw.observations["observation.view"], view.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(raw.observations["observation.depth"], depth.reshape(4, -1))
    (doubt,) = source.describe().doubts
    assert doubt.startswith("'observation.depth' may be images: float32[40, 36, 1] per row is read as a vector")
