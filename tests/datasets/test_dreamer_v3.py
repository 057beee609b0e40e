"""Replay buffers of the current DreamerV3: streams of steps in linked chunks."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import Lost, align
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.dreamer.replay import DreamerV3Source

Columns = dict[str, Any]
WIDE = {"action_low": -1.0, "action_high": 1e6}


def steps_of(number: int, transitions: int, *, terminal: bool = False, finished: bool = True) -> Columns:
    """An episode as stored by a worker: the action taken at the step, the reward received on arrival."""
    rows = transitions + 1
    count = 1000.0 * number + np.arange(rows)
    last = (np.arange(rows) == rows - 1) & finished
    return {
        "image": np.broadcast_to(count[:, None, None, None] % 256, (rows, 4, 4, 3)).astype(np.uint8),
        "position": count.astype(np.float32),
        "reward": np.concatenate([[0], count[:-1] + 0.5]).astype(np.float32),
        "is_first": np.arange(rows) == 0,
        "is_last": last,
        "is_terminal": last & terminal,
        "action": ((count + 0.25) * ~last)[:, None].astype(np.float32),
        "stepid": np.zeros((rows, 20), np.uint8),
        "dyn/deter": np.zeros((rows, 8), np.float32),
        "log/speed": np.zeros(rows, np.float32),
    }


def joined(*episodes: Columns) -> Columns:
    return {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}


def identity(worker: int, index: int) -> str:
    """Names in an order that differs from the stream; real names are random."""
    return f"{worker}x{99 - index}"


def write_stream(folder: Path, stream: Columns, borders: Sequence[int] = (), *, worker: int = 0) -> list[Path]:
    """A worker's stream in chunks; the successor of the last chunk does not exist."""
    folder.mkdir(exist_ok=True)
    edges = [0, *borders, len(stream["reward"])]
    files = []
    for index, (start, stop) in enumerate(pairwise(edges)):
        names = identity(worker, index), identity(worker, index + 1)
        files.append(folder / f"20240101T00000{index}F{worker:06}-{names[0]}-{names[1]}-{stop - start}.npz")
        np.savez_compressed(files[-1], **{name: values[start:stop] for name, values in stream.items()})
    return files


def require_counting(source: DreamerV3Source, number: int, steps: np.ndarray, *, terminal: bool = False) -> None:
    """Whether an episode has these counts as observations and is aligned."""
    raw = source.read(number)
    assert raw.observations["image"][:, 0, 0, 0].tolist() == (steps % 256).tolist()
    assert raw.privileged["position"][:, 0].tolist() == steps.tolist()
    assert raw.actions.tolist() == (steps[:-1, None] + 0.25).tolist()
    assert raw.rewards.tolist() == (steps[:-1] + 0.5).tolist()
    assert raw.terminated is terminal
    align(raw, source.describe())


THREE = joined(steps_of(0, 3), steps_of(1, 4, terminal=True), steps_of(2, 2))  # 4 + 5 + 3 rows


@pytest.mark.parametrize("borders", [(), (4, 9), (1,), (5,), (2, 4, 6, 8, 10), (3, 4), range(1, 12)])
def test_episodes_span_files_and_files_hold_several(tmp_path, borders):
    write_stream(tmp_path / "replay", THREE, borders)
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 3
    require_counting(source, 0, np.arange(4))
    require_counting(source, 1, 1000 + np.arange(5), terminal=True)
    require_counting(source, 2, 2000 + np.arange(3))
    provenance = source.describe().provenance
    assert provenance["files"] == len(borders) + 1
    assert (provenance["episodes_without_beginning"], provenance["episodes_without_end"]) == (0, 0)
    assert provenance["ignored_columns"] == {
        "dyn/deter": "the recurrent state of the agent that recorded",
        "log/speed": "a figure for the log",
        "stepid": "where the step was stored",
    }


def test_alignment_is_kept_from_files_to_batch(tmp_path):
    write_stream(tmp_path / "replay", joined(*(steps_of(n, 7) for n in range(3))), (3, 11, 20))
    store = write_store(DreamerV3Source(tmp_path / "replay", **WIDE), tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.privileged["position"][..., 0]
    assert (batch.observations["image"][..., 0, 0, 0] == count % 256).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.is_last == (count % 1000 == 7)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def test_streams_of_several_workers_stay_separate(tmp_path):
    for worker in range(2):
        stream = joined(steps_of(2 * worker, 3), steps_of(2 * worker + 1, 3))
        write_stream(tmp_path / "replay", stream, (2, 6), worker=worker)
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 4
    for number in range(4):
        require_counting(source, number, 1000 * number + np.arange(4))


def test_abandoned_episode_ends_where_the_next_begins(tmp_path):
    stream = joined(steps_of(0, 3, finished=False), steps_of(1, 3), steps_of(2, 3, finished=False))
    write_stream(tmp_path / "replay", stream, (6,))
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    for number in range(3):
        require_counting(source, number, 1000 * number + np.arange(4))
    assert source.describe().provenance["episodes_without_end"] == 2
    assert [source.read(number).lost for number in range(3)] == [Lost(transitions=1), Lost(), Lost(transitions=1)]


def test_parts_beside_a_missing_chunk_are_episodes(tmp_path):
    files = write_stream(tmp_path / "replay", joined(steps_of(0, 8), steps_of(1, 3)), (3, 5))
    files[1].unlink()
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 3
    require_counting(source, 0, np.arange(3))
    require_counting(source, 1, np.arange(5, 9))  # the reward of its first row was earned at observation 4
    require_counting(source, 2, 1000 + np.arange(4))
    provenance = source.describe().provenance
    assert (provenance["episodes_without_beginning"], provenance["episodes_without_end"]) == (1, 1)


def test_single_steps_are_skipped_and_counted(tmp_path):
    write_stream(tmp_path / "replay", joined(steps_of(0, 3), steps_of(1, 0, finished=False), steps_of(2, 3)))
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 2
    require_counting(source, 1, 2000 + np.arange(4))
    assert source.describe().provenance["left_out_single_rows"] == 1


def test_cyclic_chunks_are_read_once(tmp_path):
    first, second = write_stream(tmp_path / "replay", joined(steps_of(0, 3), steps_of(1, 3)), (4,))
    second.rename(second.with_name(f"20240101T000001F000000-{identity(0, 1)}-{identity(0, 0)}-4.npz"))
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 2
    for number in range(2):
        require_counting(source, number, 1000 * number + np.arange(4))
    assert first.exists()


@pytest.mark.parametrize(("missing", "row"), [("is_last", 3), ("is_first", 4), ("is_terminal", 3)])
def test_one_flag_separates_two_episodes(tmp_path, missing, row):
    stream = joined(steps_of(0, 3, terminal=True), steps_of(1, 3))
    stream[missing][row] = False
    write_stream(tmp_path / "replay", stream)
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    require_counting(source, 0, np.arange(4), terminal=missing != "is_terminal")
    require_counting(source, 1, 1000 + np.arange(4))


def test_is_terminal_alone_ends_an_episode(tmp_path):
    stream = joined(steps_of(0, 3, terminal=True), steps_of(1, 3))
    stream["is_last"][3] = stream["is_first"][4] = False
    write_stream(tmp_path / "replay", stream)
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    require_counting(source, 0, np.arange(4), terminal=True)
    assert source.describe().provenance["episodes_without_end"] == 0


def with_choices(*episodes: Columns, dtype: type = np.int32) -> Columns:
    stream = joined(*episodes)
    return {**stream, "action": (np.arange(len(stream["reward"])) % 3 * ~stream["is_last"]).astype(dtype)}


def test_integer_actions_need_the_number_of_choices(tmp_path):
    write_stream(tmp_path / "replay", with_choices(steps_of(0, 4), steps_of(1, 2)))
    with pytest.raises(UserError, match="'action' contains integers: set discrete to the number of choices"):
        DreamerV3Source(tmp_path / "replay")
    source = DreamerV3Source(tmp_path / "replay", discrete=3)
    assert [raw.actions.argmax(axis=1).tolist() for raw in read_all(source)] == [[0, 1, 2, 0], [2, 0]]
    align(source.read(0), source.describe())
    with pytest.raises(UserError, match=r"^episode 0 of .*\.npz: 'action' is 2 at step 2; allowed: 0 to 1"):
        DreamerV3Source(tmp_path / "replay", discrete=2).read(0)
    assert not DreamerV3Source(tmp_path / "replay", discrete=0).describe().action.discrete


def test_ambiguous_one_hot_actions_are_refused(tmp_path):
    stream = joined(steps_of(0, 4))
    stream["action"] = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 0]] * ~stream["is_last"][:, None]
    write_stream(tmp_path / "replay", stream)
    with pytest.raises(UserError, match="contains only one-hot rows: set discrete to 3"):
        DreamerV3Source(tmp_path / "replay")
    source = DreamerV3Source(tmp_path / "replay", discrete=3)
    assert align(source.read(0), source.describe()).action.argmax(axis=1).tolist() == [0, 0, 1, 2, 0]


def test_action_column_can_be_renamed(tmp_path):
    stream = joined(steps_of(0, 3))
    stream["move"] = stream.pop("action")
    write_stream(tmp_path / "replay", stream)
    require_counting(DreamerV3Source(tmp_path / "replay", action="move", **WIDE), 0, np.arange(4))
    with pytest.raises(UserError, match=r"no file has a readable action; the first error: .*'action' is missing"):
        DreamerV3Source(tmp_path / "replay")


def test_truncated_chunk_is_named_and_the_others_stay_readable(tmp_path):
    files = write_stream(tmp_path / "replay", THREE, (2, 6))  # the first episode, the second, both are cut
    files[1].write_bytes(files[1].read_bytes()[:-30])
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    assert source.episode_count == 4
    require_counting(source, 0, np.arange(2))
    with pytest.raises(UserError, match=rf"^episode 1 of .*{files[1].name}: unreadable, truncated or not npz"):
        source.read(1)
    require_counting(source, 2, 1000 + np.arange(2, 5), terminal=True)
    require_counting(source, 3, 2000 + np.arange(3))
    assert source.describe().provenance["unreadable_files"] == 1
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(
        UserError, match=rf"replay: no file is readable; the first error: .*{files[0].name}: unreadable"
    ):
        DreamerV3Source(tmp_path / "replay", **WIDE)


DAMAGE: dict[str, tuple[Columns, str]] = {
    "no flag": ({"is_last": None}, "'is_last' is missing"),
    "shorter flag": ({"is_last": np.zeros(3, bool)}, "the flags have different numbers of rows"),
    "fewer rewards": ({"reward": np.zeros(3)}, "'reward' has 3 rows, the flags 4"),
    "wide flag": ({"is_first": np.zeros((4, 2), bool)}, "expected one number"),
    "objects": ({"reward": np.array([None] * 4)}, "'reward' holds pickled objects"),
    "no reward": ({"reward": None}, "'reward' is missing"),
    "NaN": ({"action": np.full((4, 1), np.nan)}, "actions is nan at step 0"),
    "other images": ({"image": np.zeros((4, 5, 5, 3), np.uint8)}, r"'image' holds uint8\[5, 5, 3\]"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_chunk_is_named(tmp_path, case):
    changes, message = DAMAGE[case]
    files = write_stream(tmp_path / "replay", joined(steps_of(0, 3), steps_of(1, 3), steps_of(2, 3)), (4, 8))
    columns = {name: values for name, values in {**steps_of(1, 3), **changes}.items() if values is not None}
    np.savez_compressed(files[1], **columns)
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    require_counting(source, 0, np.arange(4))
    require_counting(source, 2, 2000 + np.arange(4))
    with pytest.raises(UserError, match=rf"^episode 1 of .*{files[1].name}: .*{message}"):
        align(source.read(1), source.describe())


def test_images_of_different_sizes_within_an_episode_are_refused(tmp_path):
    files = write_stream(tmp_path / "replay", joined(steps_of(0, 3), steps_of(1, 3)), (2, 4))
    part = {name: values[2:] for name, values in steps_of(0, 3).items()}
    np.savez_compressed(files[1], **{**part, "image": np.zeros((2, 5, 5, 3), np.uint8)})
    source = DreamerV3Source(tmp_path / "replay", **WIDE)
    with pytest.raises(
        UserError, match=r"^episode 0 of .*'image' has rows of different shapes .* in the files of one episode"
    ):
        source.read(0)


def test_wrong_files_and_folders_error_names_the_expected_ones(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        DreamerV3Source(tmp_path / "nowhere")
    write_stream(tmp_path / "replay", joined(steps_of(0, 3), steps_of(1, 3)))
    assert DreamerV3Source(tmp_path / "replay", episodes=1, **WIDE).episode_count == 1
    np.savez(tmp_path / "replay" / "20200101T000000-abc-4.npz", **steps_of(0, 3))
    with pytest.raises(UserError, match=r"abc-4\.npz: is not named time-chunk-successor-length\.npz.*DreamerSource"):
        DreamerV3Source(tmp_path / "replay")
