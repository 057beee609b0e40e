"""V-D4RL in both forms, in the layout of its conversion scripts."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import align
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.dreamer.vd4rl import VD4RLSource

Columns = dict[str, Any]
SCALE = 1e-4  # the counts as actions within -1 and 1


def npz_episode(number: int, transitions: int) -> Columns:
    rows = transitions + 1
    steps = 1000.0 * number + np.arange(rows)
    return {
        "image": np.broadcast_to(steps[:, None, None, None] % 256, (rows, 4, 4, 3)).astype(np.uint8),
        "action": (np.concatenate([[0], steps[:-1] + 0.25]) * SCALE)[:, None].astype(np.float32),
        "reward": np.concatenate([[0], steps[:-1] + 0.5]),
        "is_first": np.arange(rows) == 0,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": np.zeros(rows, bool),
        "height": steps.astype(np.float32),
        "orientations": np.stack([steps, -steps], axis=1).astype(np.float32),
    }


def write_npz(folder: Path, *episodes: Columns) -> Path:
    folder.mkdir(exist_ok=True)
    for number, columns in enumerate(episodes):
        np.savez_compressed(folder / f"20220101T0000{number:02}-{'ab' * 16}-{len(columns['action'])}.npz", **columns)
    return folder


def flat(*transitions: int) -> Columns:
    """Episodes one after the other, as in the 84 x 84 form."""
    episodes = [npz_episode(number, length) for number, length in enumerate(transitions)]
    joined = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    return {
        "observation": joined["image"].transpose(0, 3, 1, 2).repeat(2, axis=2).repeat(2, axis=3),
        "action": joined["action"],
        "reward": joined["reward"],
        "discount": np.ones(len(joined["reward"])),
        "step_type": 1.0 - joined["is_first"] + joined["is_last"],
    }


def write_shards(folder: Path, columns: Columns, *borders: int, first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    edges = [0, *borders, len(columns["reward"])]
    for number, (start, stop) in enumerate(pairwise(edges), start=first):
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values[start:stop], compression="gzip")
    return folder


def require_counting(source: VD4RLSource, number: int, steps: np.ndarray) -> None:
    """Whether an episode has these counts as observations and is aligned."""
    raw = source.read(number)
    assert raw.observations["image"][:, 0, 0, 0].tolist() == (steps % 256).tolist()
    assert raw.actions[:, 0] == pytest.approx((steps[:-1] + 0.25) * SCALE)
    assert raw.rewards.tolist() == (steps[:-1] + 0.5).tolist()
    assert not raw.terminated
    align(raw, source.describe())


def test_npz_episodes_are_read_with_the_true_state_as_privileged(tmp_path):
    source = VD4RLSource(write_npz(tmp_path / "64px", *(npz_episode(n, 5) for n in range(3))))
    description = source.describe()
    assert description.observations["image"].shape == (4, 4, 3)
    assert {name: spec.shape for name, spec in description.privileged.items()} == {"height": (1,), "orientations": (2,)}
    assert (description.action.low, description.action.high) == ((-1,), (1,))
    for number in range(3):
        require_counting(source, number, 1000 * number + np.arange(6))
    assert source.read(2).privileged["height"][:, 0].tolist() == [2000, 2001, 2002, 2003, 2004, 2005]
    assert description.provenance["format"] == "vd4rl"
    assert description.provenance["cut_files"] == {}


def test_alignment_is_kept_from_files_to_batch(tmp_path):
    folder = write_npz(tmp_path / "64px", *(npz_episode(n, 7) for n in range(3)))
    store = write_store(VD4RLSource(folder), tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.privileged["height"][..., 0]
    assert (batch.observations["image"][..., 0, 0, 0] == count % 256).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert batch.action[..., 0].numpy() == pytest.approx(((count - 0.75) * ~batch.is_first * SCALE).numpy(), rel=1e-5)
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def cut_columns(episode: Columns, rows: int, *names: str) -> Columns:
    return {name: values[:rows] if name in names else values for name, values in episode.items()}


def test_columns_with_an_extra_row_are_cut_and_listed(tmp_path):
    short = cut_columns(npz_episode(1, 5), 5, "image", "action", "reward", "height", "orientations")
    source = VD4RLSource(write_npz(tmp_path / "64px", npz_episode(0, 5), short))
    require_counting(source, 1, 1000 + np.arange(5))
    assert align(source.read(1), source.describe()).is_last.tolist() == [False, False, False, False, True]
    ((file, reason),) = source.describe().provenance["cut_files"].items()
    assert file.startswith("20220101T000001")
    assert reason == (
        "5 rows (action height image orientations reward), 6 rows (is_first is_last is_terminal); cut to 5"
    )


def test_columns_with_more_extra_rows_are_refused(tmp_path):
    source = VD4RLSource(write_npz(tmp_path / "64px", npz_episode(0, 5), cut_columns(npz_episode(1, 5), 4, "reward")))
    with pytest.raises(UserError, match=r"^episode 1 of .*\.npz: the columns have 4 rows \(reward\), 6 rows"):
        source.read(1)
    require_counting(source, 0, np.arange(6))


@pytest.mark.parametrize("terminal", [True, False])
def test_discount_replaces_a_missing_terminal_flag(tmp_path, terminal):
    episode = {**npz_episode(0, 3), "discount": np.array([1.0, 1.0, 1.0, 1.0 - terminal])}
    del episode["is_terminal"]
    assert VD4RLSource(write_npz(tmp_path / "64px", episode)).read(0).terminated is terminal


@pytest.mark.parametrize("borders", [(), (4,), (1,), (3, 5), (4, 8), (6,), (5, 6, 7)])
def test_episodes_across_shards_are_joined(tmp_path, borders):
    source = VD4RLSource(write_shards(tmp_path / "84px", flat(3, 3, 3), *borders))
    assert source.describe().observations["image"].shape == (8, 8, 3)
    assert source.episode_count == 3
    for number in range(3):
        require_counting(source, number, 1000 * number + np.arange(4))
    provenance = source.describe().provenance
    assert provenance["episodes_over_several_files"] == len({border // 4 for border in borders if border % 4})
    assert (provenance["episodes_without_beginning"], provenance["episodes_without_end"]) == (0, 0)
    assert (provenance["files"], provenance["left_out_single_rows"]) == (len(borders) + 1, 0)


def test_shards_are_sorted_by_number(tmp_path):
    source = VD4RLSource(write_shards(tmp_path / "84px", flat(3, 3, 3, 3), 3, 7, 11, first=8))  # 8, 9, 10, 11
    for number in range(4):
        require_counting(source, number, 1000 * number + np.arange(4))


def test_channels_first_images_are_transposed(tmp_path):
    columns = flat(2)
    columns["observation"] = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 7), np.uint8)
    (raw,) = read_all(VD4RLSource(write_shards(tmp_path / "84px", columns)))
    assert np.array_equal(raw.observations["image"], columns["observation"].transpose(0, 2, 3, 1))


def test_parts_beside_a_missing_shard_are_episodes(tmp_path):
    folder = write_shards(tmp_path / "84px", flat(5, 5), 2, 4)  # rows 0-1 | 2-3 | 4-11
    (folder / "1.hdf5").unlink()
    source = VD4RLSource(folder)
    assert source.episode_count == 3
    require_counting(source, 0, np.arange(2))
    require_counting(source, 1, np.arange(4, 6))  # what is in its first row was taken at observation 3
    require_counting(source, 2, 1000 + np.arange(6))
    provenance = source.describe().provenance
    assert (provenance["episodes_without_beginning"], provenance["episodes_without_end"]) == (1, 1)
    assert not source.describe().doubts


def test_values_in_the_first_row_of_an_episode_are_doubted(tmp_path):
    columns = flat(4, 4)
    columns["action"] = np.roll(columns["action"], -1, axis=0)
    (doubt,) = VD4RLSource(write_shards(tmp_path / "84px", columns, 2)).describe().doubts
    assert "'action' is not 0 in the first row of an episode" in doubt


def test_single_row_part_is_skipped_and_counted(tmp_path):
    folder = write_shards(tmp_path / "84px", flat(3, 3), 1, 3)  # the beginning | the middle | the last row and the next
    (folder / "1.hdf5").unlink()
    source = VD4RLSource(folder)
    assert source.episode_count == 1
    require_counting(source, 0, 1000 + np.arange(4))
    assert source.describe().provenance["left_out_single_rows"] == 2


def test_episode_without_its_last_row_has_no_true_end(tmp_path):
    columns = flat(3, 3)
    keep = np.arange(8) != 3
    source = VD4RLSource(write_shards(tmp_path / "84px", {name: values[keep] for name, values in columns.items()}))
    require_counting(source, 0, np.arange(3))
    require_counting(source, 1, 1000 + np.arange(4))
    assert source.describe().provenance["episodes_without_end"] == 1


def test_discount_of_zero_is_a_true_end(tmp_path):
    columns = flat(3, 3)
    columns["discount"][3] = 0
    source = VD4RLSource(write_shards(tmp_path / "84px", columns))
    assert [raw.terminated for raw in read_all(source)] == [True, False]
    columns["discount"][1] = 0
    with pytest.raises(UserError, match=r"^episode 0 of .*0\.hdf5: is terminal at row 1 of 4"):
        VD4RLSource(write_shards(tmp_path / "84px", columns)).read(0)


def test_truncated_shard_is_named_and_the_others_stay_readable(tmp_path):
    folder = write_shards(tmp_path / "84px", flat(3, 3, 3), 4, 8)
    damaged = folder / "1.hdf5"
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    source = VD4RLSource(folder)
    assert source.episode_count == 3
    require_counting(source, 0, np.arange(4))
    require_counting(source, 2, 2000 + np.arange(4))
    with pytest.raises(UserError, match=r"^episode 1 of .*1\.hdf5: unreadable, truncated or not HDF5"):
        source.read(1)
    assert source.describe().provenance["unreadable_files"] == 1
    for other in ("0.hdf5", "2.hdf5"):
        (folder / other).write_bytes(b"")
    with pytest.raises(UserError, match=r"84px: no file is readable; the first error: .*0\.hdf5: unreadable"):
        VD4RLSource(folder)


def change_shard(file: Path, **columns: np.ndarray | None) -> None:
    with h5py.File(file, "a") as shard:
        for name, values in columns.items():
            del shard[name]
            if values is not None:
                shard[name] = values


DAMAGE: dict[str, tuple[Columns, str]] = {
    "no step type": ({"step_type": None}, "'step_type' is missing"),
    "other step types": ({"step_type": np.array([0.0, 1, 3, 2])}, "has values other than 0, 1 and 2"),
    "text": ({"step_type": np.array([b"a", b"b", b"c", b"d"])}, "expected one number"),
    "no discount": ({"discount": None}, "'discount' is missing"),
    "fewer rewards": ({"reward": np.zeros(3)}, "'reward' has 3 rows, the flags 4"),
    "other images": ({"observation": np.zeros((4, 3, 9, 9), np.uint8)}, "'observation' holds"),
    "NaN": ({"reward": np.array([0, 1, np.nan, 3])}, "rewards is nan at step 1"),
    "outside": ({"action": np.full((4, 1), 2.0, np.float32)}, "actions is 2 at step 0"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_shard_is_named(tmp_path, case):
    changes, message = DAMAGE[case]
    folder = write_shards(tmp_path / "84px", flat(3, 3), 4)
    change_shard(folder / "1.hdf5", **changes)
    source = VD4RLSource(folder)
    require_counting(source, 0, np.arange(4))
    with pytest.raises(UserError, match=rf"^episode 1 of .*1\.hdf5: .*{message}"):
        align(source.read(1), source.describe())


def test_wrong_folder_error_names_the_right_one(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        VD4RLSource(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"contains no files \*\.npz or \*\.hdf5"):
        VD4RLSource(tmp_path)
    both = write_npz(write_shards(tmp_path / "both", flat(3)), npz_episode(0, 3))
    with pytest.raises(UserError, match="contains npz and HDF5 files; choose the folder '64px' or '84px'"):
        VD4RLSource(both)
    assert VD4RLSource(write_shards(tmp_path / "84px", flat(3, 3)), episodes=1).episode_count == 1


@pytest.mark.parametrize("form", ["64px", "84px"])
def test_bounds_of_the_action_can_be_set_in_both_forms(tmp_path, form):
    write = {
        "64px": lambda: write_npz(tmp_path / form, npz_episode(1, 3), npz_episode(2, 3)),
        "84px": lambda: write_shards(tmp_path / form, flat(3, 3)),
    }
    source = VD4RLSource(write[form](), action_low=-2, action_high=[0.15])
    action = source.describe().action
    assert (action.low, action.high, action.discrete) == ((-2,), (0.15,), False)
    align(source.read(0), source.describe())
    narrow = VD4RLSource(tmp_path / form, action_high=1e-5)
    with pytest.raises(UserError, match=r"actions is .*; allowed"):
        align(narrow.read(1), narrow.describe())
