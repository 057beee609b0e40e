"""Episode folders of DreamerV1, DreamerV2 and dreamerv3-torch, written as those programs write them."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import align
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.dreamer.episodes import DreamerSource

WIDE = {"action_low": -1.0, "action_high": 1e6}
Columns = dict[str, Any]


def arrivals(number: int, transitions: int) -> Columns:
    """The counting episode: an action is stored in the row of the next observation; row 0 is padding."""
    steps = 1000.0 * number + np.arange(transitions + 1)
    taken = np.concatenate([[0], steps[:-1] + 0.25]), np.concatenate([[0], steps[:-1] + 0.5])
    return {
        "image": np.broadcast_to(steps[:, None, None, None] % 256, (transitions + 1, 4, 4, 3)).astype(np.uint8),
        "position": np.stack([steps, -steps], axis=1).astype(np.float32),
        "action": taken[0][:, None].astype(np.float32),
        "reward": taken[1].astype(np.float32),
    }


def at_end(rows: int, *, value: bool = True) -> np.ndarray:
    return (np.arange(rows) == rows - 1) & value


def version_1(number: int, transitions: int, *, terminal: bool = False) -> Columns:
    return {**arrivals(number, transitions), "discount": 1.0 - at_end(transitions + 1, value=terminal)}


def version_2(number: int, transitions: int, *, terminal: bool = False) -> Columns:
    rows = transitions + 1
    flags = {"is_first": np.arange(rows) == 0, "is_last": at_end(rows), "is_terminal": at_end(rows, value=terminal)}
    return {**arrivals(number, transitions), **flags, "log_speed": np.zeros(rows, np.float32)}


def torch_version(number: int, transitions: int, *, terminal: bool = False) -> Columns:
    """Here the discount is 0 also at time limits."""
    rows = transitions + 1
    flags = {"is_first": np.arange(rows) == 0, "is_terminal": at_end(rows, value=terminal)}
    return {
        **arrivals(number, transitions),
        **flags,
        "discount": (1 - at_end(rows)).astype(np.float32),
        "logprob": np.zeros(rows),
    }


def save(folder: Path, *episodes: Columns) -> Path:
    """Writes files whose names keep the order."""
    folder.mkdir(exist_ok=True)
    for second, columns in enumerate(episodes):
        name = f"20200101T0000{second:02}-{uuid.UUID(int=99 - second).hex}-{len(columns['action'])}.npz"
        np.savez_compressed(folder / name, **columns)
    return folder


def halved(columns: Columns) -> Columns:
    """DreamerV1's default precision."""
    small = {"f": np.float16, "i": np.int16}
    return {name: values.astype(small.get(values.dtype.kind, values.dtype)) for name, values in columns.items()}


@pytest.mark.parametrize("version", [version_1, version_2, torch_version])
@pytest.mark.parametrize("terminal", [True, False])
def test_every_row_is_aligned(tmp_path, version, terminal):
    folder = save(tmp_path / "eps", *(version(number, 3 + number, terminal=terminal) for number in range(2)))
    source = DreamerSource(folder, **WIDE)
    assert source.episode_count == 2
    for number, raw in enumerate(read_all(source)):
        steps = 1000 * number + np.arange(4 + number)
        assert raw.observations["image"].tolist() == arrivals(number, 3 + number)["image"].tolist()
        assert raw.privileged["position"].tolist() == np.stack([steps, -steps], axis=1).tolist()
        assert raw.actions.tolist() == (steps[:-1, None] + 0.25).tolist()
        assert raw.rewards.tolist() == (steps[:-1] + 0.5).tolist()
        assert raw.terminated is terminal
        align(raw, source.describe())


def test_alignment_is_kept_from_files_to_batch(tmp_path):
    folder = save(tmp_path / "eps", *(version_2(number, length) for number, length in enumerate((6, 6, 9))))
    source = DreamerSource(folder, observations=["position"], privileged=[], **WIDE)
    store = write_store(source, tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.observations["position"][..., 0]
    assert (count[:, 1:] - count[:, :-1] == 1).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def test_values_in_the_first_row_are_doubted(tmp_path):
    aligned = version_2(0, 3)
    assert not DreamerSource(save(tmp_path / "aligned", aligned), **WIDE).describe().doubts
    shifted = {name: np.roll(aligned[name], -1, axis=0) for name in ("action", "reward")}
    source = DreamerSource(save(tmp_path / "eps", aligned, {**version_2(1, 3), **shifted}), **WIDE)
    doubts = source.describe().doubts
    assert [name in doubt for name, doubt in zip(("'action'", "'reward'"), doubts, strict=True)] == [True, True]
    assert "dataset.source.alignment" in doubts[0]


def test_half_precision_is_widened(tmp_path):
    columns = halved({**version_1(0, 3, terminal=True), "gear": np.arange(4)})
    assert columns["action"].dtype == np.float16
    assert columns["gear"].dtype == np.int16
    source = DreamerSource(save(tmp_path / "eps", columns), **WIDE)
    episode = align(source.read(0), source.describe())
    assert episode.action[:, 0].tolist() == [0, 0.25, 1.25, 2.25]
    assert episode.privileged["gear"].dtype == np.float32
    assert episode.privileged["gear"][:, 0].tolist() == [0, 1, 2, 3]
    assert episode.is_terminal.tolist() == [False, False, False, True]


def test_without_images_every_vector_is_an_input(tmp_path):
    columns = version_2(0, 3)
    del columns["image"]
    description = DreamerSource(save(tmp_path / "eps", columns), **WIDE).describe()
    assert set(description.observations) == {"position"}
    assert description.privileged == {}


def test_ignored_columns_are_listed(tmp_path):
    names = {"word": np.array(["a"] * 4), "maker": np.float32(1), "empty": np.zeros((4, 0))}
    source = DreamerSource(
        save(tmp_path / "eps", {**version_2(0, 3), "logprob": np.zeros(4), **names}), privileged=[], **WIDE
    )
    assert source.describe().provenance["ignored_columns"] == {
        "empty": "no numbers per row",
        "log_speed": "a figure for the log",
        "logprob": "the policy's, no observation",
        "maker": "a single value",
        "position": "not selected",
        "word": "<U1, not numbers",
    }


def test_varying_columns_are_privileged_only_if_named(tmp_path):
    first, second = ({**version_2(n, 3), "a": np.zeros(4), "b": np.zeros((4, 2))} for n in range(2))
    del second["a"]
    second.update(b=np.zeros((4, 3)), c=np.zeros(4))
    folder = save(tmp_path / "eps", first, second)
    source = DreamerSource(folder, **WIDE)
    names = sorted(file.name for file in folder.iterdir())
    assert set(source.describe().privileged) == {"position"}
    ignored = source.describe().provenance["ignored_columns"]
    assert {name: ignored[name] for name in "abc"} == {
        "a": f"missing in {names[1]}",
        "b": f"shape (3,) instead of (2,) in {names[1]}",
        "c": f"missing in {names[0]}",
    }
    named = DreamerSource(folder, privileged=["a"], **WIDE)
    assert named.read(0).privileged["a"].shape == (4, 1)
    with pytest.raises(UserError, match=rf"^episode 1 of .*{names[1]}: 'a' is missing"):
        named.read(1)
    with pytest.raises(UserError, match="'c' of the setting 'privileged' cannot be a column"):
        DreamerSource(folder, privileged=["c"], **WIDE)


def one_hot(columns: Columns) -> Columns:
    rows = len(columns["reward"])
    return {**columns, "action": np.eye(3, dtype=np.float32)[np.arange(rows) % 3] * (np.arange(rows) > 0)[:, None]}


def test_ambiguous_one_hot_actions_are_refused(tmp_path):
    folder = save(tmp_path / "eps", one_hot(version_1(0, 4)))
    with pytest.raises(UserError, match="'action' contains only one-hot rows: set discrete to 3, or to 0"):
        DreamerSource(folder)
    discrete = DreamerSource(folder, discrete=3)
    assert discrete.describe().action.discrete
    assert align(discrete.read(0), discrete.describe()).action.argmax(axis=1).tolist() == [0, 1, 2, 0, 1]
    assert not DreamerSource(folder, discrete=0).describe().action.discrete
    with pytest.raises(UserError, match="discrete=4 needs one number or 4"):
        DreamerSource(folder, discrete=4)
    with pytest.raises(UserError, match="discrete is 1; allowed: 2 to"):
        DreamerSource(folder, discrete=1)


def test_bounds_are_one_number_or_one_per_element(tmp_path):
    folder = save(tmp_path / "eps", {**version_1(0, 3), "action": np.zeros((4, 2))})
    action = DreamerSource(folder, action_low=[-2, -3], action_high=4).describe().action
    assert (action.low, action.high) == ((-2, -3), (4, 4))
    with pytest.raises(UserError, match="3 bounds are set, expected 1 or 2"):
        DreamerSource(folder, action_low=[1, 2, 3])


def test_action_outside_its_bounds_is_reported(tmp_path):
    source = DreamerSource(save(tmp_path / "eps", version_2(0, 3)))
    with pytest.raises(UserError, match=r"episode 0 of .*\.npz: actions is 1\.25 at step 1"):
        align(source.read(0), source.describe())


def test_episodes_can_be_limited_and_equal_data_have_equal_provenance(tmp_path):
    first = save(tmp_path / "a", *(version_2(n, 3) for n in range(3)))
    second = save(tmp_path / "b", *(version_2(n, 3) for n in range(3)))
    assert DreamerSource(first, episodes=2, **WIDE).episode_count == 2
    provenance = [DreamerSource(folder, **WIDE).describe().provenance for folder in (first, second)]
    assert provenance[0] == provenance[1]
    assert provenance[0] != DreamerSource(first, episodes=2, **WIDE).describe().provenance
    assert (provenance[0]["format"], provenance[0]["files"], provenance[0]["episodes"]) == ("dreamer", 3, 3)


DAMAGE: dict[str, tuple[Columns, str]] = {
    "no reward": ({"reward": None}, "'reward' is missing"),
    "no end": ({"is_terminal": None}, "has neither 'is_terminal' nor 'discount'"),
    "objects": ({"reward": np.array([None] * 4)}, "'reward' holds pickled objects"),
    "fewer images": (
        {"image": np.zeros((3, 4, 4, 3), np.uint8)},
        r"3 rows \(image\), 4 rows \(action .*\); expected equal numbers of rows",
    ),
    "other images": ({"image": np.zeros((4, 5, 4, 3), np.uint8)}, r"'image' holds uint8\[5, 4, 3\] per row"),
    "two rewards": ({"reward": np.zeros((4, 2))}, r"'reward' holds float64\[2\] per row, expected one number"),
    "two episodes": ({"is_first": np.array([1, 1, 0, 0], bool)}, "'is_first' is set within the file"),
    "ends twice": ({"is_last": np.array([0, 0, 1, 1], bool)}, "'is_last' is set within the file"),
    "goes on": ({"is_terminal": np.array([0, 1, 0, 0], bool)}, "is terminal at row 1 of 4"),
    "one row": ({name: values[:1] for name, values in version_2(1, 3).items()}, "at least one transition"),
    "NaN": ({"reward": np.array([0, 1, np.nan, 3])}, "rewards is nan at step 1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_episode_is_named_and_others_stay_readable(tmp_path, case):
    changes, message = DAMAGE[case]
    columns = {name: values for name, values in {**version_2(1, 3), **changes}.items() if values is not None}
    for place in (0, 1):
        episodes = [version_2(0, 3), version_2(0, 3)]
        episodes.insert(place, columns)
        source = DreamerSource(save(tmp_path / f"damage_{place}", *episodes), privileged=[], **WIDE)
        for number in {0, 1, 2} - {place}:
            assert source.read(number).rewards.tolist() == [0.5, 1.5, 2.5]
        with pytest.raises(UserError, match=rf"^episode {place} of .*\.npz: .*{message}"):
            align(source.read(place), source.describe())


def test_truncated_file_is_named_even_if_it_is_the_first(tmp_path):
    folder = save(tmp_path / "eps", version_2(0, 3), version_2(1, 3))
    first, second = sorted(folder.iterdir())
    first.write_bytes(first.read_bytes()[:-50])
    source = DreamerSource(folder, **WIDE)
    assert source.read(1).actions[0] == 1000.25
    with pytest.raises(UserError, match=rf"^episode 0 of .*{first.name}: unreadable, truncated"):
        source.read(0)
    second.write_bytes(b"")
    with pytest.raises(UserError, match=rf"eps: no file is readable; the first error: .*{first.name}: unreadable"):
        DreamerSource(folder, **WIDE)


def test_wrong_folder_error_names_the_expected_files(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        DreamerSource(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"contains no files \*\.npz"):
        DreamerSource(tmp_path)
    with pytest.raises(UserError, match="episodes is 0"):
        DreamerSource(save(tmp_path / "eps", version_2(0, 3)), episodes=0)
