"""Npz and HDF5 files of any layout, read by a mapping."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import Lost, align
from dreamset.datasets.sources import tables
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.mapped.source import MappedSource
from dreamset.datasets.sources.scanning import counting

Columns = dict[str, Any]
NAN = np.nan
ROLES: dict[str, Any] = {
    "observations": {"state": "proprio"},
    "action": "act",
    "reward": "rew",
    "terminal": "done",
    "action_high": 1e6,
}
LENGTHS = (3, 5, 2)


def follows(number: int, transitions: int, *, rows: int, fill: float = NAN) -> Columns:
    """The counting episode with N + 1 observations; row t of action and reward belongs to observation t."""
    count = 1000.0 * number + np.arange(transitions + 1)
    timed = np.full((rows, 2), fill)
    timed[:transitions] = np.stack([count[:-1] + 0.25, count[:-1] + 0.5], axis=1)
    done = (np.arange(rows) == rows - 1) & (number % 2 == 0)
    return {"proprio": np.stack([count, -count], axis=1), "act": timed[:, :1], "rew": timed[:, 1], "done": done}


def final_observation(number: int, transitions: int) -> Columns:
    return follows(number, transitions, rows=transitions)


def rlds(number: int, transitions: int) -> Columns:
    return follows(number, transitions, rows=transitions + 1)


def rlds_done_before(number: int, transitions: int) -> Columns:
    """The flag is aligned like the action and padded with False."""
    columns = rlds(number, transitions)
    return {**columns, "done": np.roll(columns["done"], -1)}


def precedes(number: int, transitions: int) -> Columns:
    columns = rlds(number, transitions)
    return {**columns, **{name: np.roll(columns[name], 1, axis=0) for name in ("act", "rew")}}


def stable_worldmodel(number: int, transitions: int) -> Columns:
    """The action follows, the reward precedes."""
    columns = rlds(number, transitions)
    return {**columns, "rew": np.roll(columns["rew"], 1)}


def reversed_mixture(number: int, transitions: int) -> Columns:
    columns = rlds(number, transitions)
    return {**columns, "act": np.roll(columns["act"], 1, axis=0)}


CONVENTIONS: dict[str, tuple[Callable[[int, int], Columns], Columns]] = {
    "N + 1 observations, N actions": (final_observation, {}),
    "RLDS": (rlds, {"filled_last_row": True}),
    "RLDS, flag on the transition": (rlds_done_before, {"filled_last_row": True}),
    "precedes": (precedes, {"alignment": "precedes"}),
    "stable-worldmodel": (stable_worldmodel, {"alignment": {"action": "follows", "reward": "precedes"}}),
    "the reverse": (reversed_mixture, {"alignment": {"action": "precedes", "reward": "follows"}}),
}


def write_npz(path: Path, episodes: Sequence[Columns]) -> Columns:
    """File names without leading zeros."""
    path.mkdir()
    for number, columns in enumerate(episodes):
        np.savez_compressed(path / f"episode_{number + 9}.npz", **columns)
    return {"path": path}


def write_hdf5_files(path: Path, episodes: Sequence[Columns]) -> Columns:
    path.mkdir()
    for number, columns in enumerate(episodes):
        with h5py.File(path / f"episode_{number + 9}.h5", "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values, compression="gzip")
    return {"path": path}


def write_groups(path: Path, episodes: Sequence[Columns]) -> Columns:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for number, columns in enumerate(episodes):
            for name, values in columns.items():
                file[f"data/demo_{number + 9}/{name}"] = values
    return {"path": path.with_suffix(".hdf5"), "boundaries": {"groups": "data"}}


def write_root_groups(path: Path, episodes: Sequence[Columns]) -> Columns:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for number, columns in enumerate(episodes):
            for name, values in columns.items():
                file[f"{number + 9}/{name}"] = values
    return {"path": path.with_suffix(".hdf5"), "boundaries": {"groups": ""}}


def joined(episodes: Sequence[Columns]) -> Columns:
    ends = [np.arange(len(columns["proprio"])) == len(columns["proprio"]) - 1 for columns in episodes]
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    return {**columns, "end": np.concatenate(ends), "lengths": [len(episode["proprio"]) for episode in episodes]}


def write_flat_npz(path: Path, episodes: Sequence[Columns]) -> Columns:
    np.savez(path.with_suffix(".npz"), **joined(episodes))
    return {"path": path.with_suffix(".npz"), "boundaries": {"ends": "end"}}


def write_flat_hdf5(path: Path, episodes: Sequence[Columns]) -> Columns:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, values in joined(episodes).items():
            file[name] = values
    return {"path": path.with_suffix(".h5"), "boundaries": {"lengths": "lengths"}}


def write_parquet(path: Path, episodes: Sequence[Columns]) -> Columns:
    """Small row groups, so that episodes lie across them."""
    columns = {name: list(values) for name, values in joined(episodes).items() if name != "lengths"}
    columns["episode"] = [f"run {number % 2}" for number, episode in enumerate(episodes) for _ in episode["proprio"]]
    parquet.write_table(pa.table(columns), path.with_suffix(".parquet"), row_group_size=3)
    return {"path": path.with_suffix(".parquet"), "boundaries": {"changes": ["episode"]}}


def write_csv(path: Path, episodes: Sequence[Columns]) -> Columns:
    """A CSV file has no vectors, so two columns are the state."""
    columns = joined(episodes)
    x, y = columns.pop("proprio").T
    del columns["lengths"]
    table = pd.DataFrame({"x": x, "y": y, **{name: values.reshape(len(values)) for name, values in columns.items()}})
    table.to_csv(path.with_suffix(".csv"))
    settings = {"observations": {"state": ["x", "y"]}, "boundaries": {"ends": "end"}}
    return {"path": path.with_suffix(".csv"), **settings}


def write_folders(path: Path, episodes: Sequence[Columns]) -> Columns:
    """Each folder has columns of its own and some together; folders without leading zeros."""
    for number, columns in enumerate(episodes):
        folder = path / f"episode_{number + 9}"
        folder.mkdir(parents=True)
        np.save(folder / "act.npy", columns["act"])
        np.savez(folder / "more.npz", rew=columns["rew"], done=columns["done"])
        np.save(folder / "proprio.npy", np.asfortranarray(columns["proprio"]))
    return {"path": path, "boundaries": {"folders": ""}, "reward": "more/rew", "terminal": "more/done"}


def write_npy(path: Path, episodes: Sequence[Columns]) -> Columns:
    path.mkdir()
    columns = joined(episodes)
    columns["stops"] = np.cumsum(columns.pop("lengths"))
    for name, values in columns.items():
        np.save(path / f"{name}.npy", values)
    return {"path": path, "boundaries": {"stops": "stops"}}


FLAT = [write_flat_npz, write_flat_hdf5, write_parquet, write_csv, write_npy]
WRITERS = [write_npz, write_hdf5_files, write_groups, write_root_groups, write_folders, *FLAT]


def require_counting(source: MappedSource, lengths: Sequence[int] = LENGTHS) -> None:
    """Whether these are the aligned counting episodes, with a true end for even numbers."""
    assert source.episode_count == len(lengths)
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange(lengths[number] + 1)
        assert raw.observations["state"].tolist() == np.stack([count, -count], axis=1).tolist()
        assert raw.actions.tolist() == (count[:-1, None] + 0.25).tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.terminated is (number % 2 == 0)
        align(raw, source.describe())


def ways() -> list[tuple[str, Callable[..., Columns]]]:
    """Every convention in every layout; in a flat file all columns have as many rows."""
    return [
        (name, write) for name in CONVENTIONS for write in WRITERS if write not in FLAT or not name.startswith("N + 1")
    ]


@pytest.mark.parametrize(("convention", "write"), ways())
def test_every_row_is_aligned(tmp_path, convention, write):
    make, settings = CONVENTIONS[convention]
    layout = write(tmp_path / "data", [make(number, length) for number, length in enumerate(LENGTHS)])
    source = MappedSource(**{**ROLES, **settings, **layout})
    require_counting(source)
    provenance = source.describe().provenance
    assert provenance["episodes"] == 3
    assert all(raw.lost == Lost() for raw in read_all(source))
    assert set(provenance["ignored_columns"]) <= {"lengths", "end", ""}
    assert provenance["boundaries"] == layout.get("boundaries", {})


def without_arrival(number: int, transitions: int) -> Columns:
    columns = final_observation(number, transitions)
    return {**columns, "proprio": columns["proprio"][:-1]}


@pytest.mark.parametrize("write", WRITERS)
def test_missing_final_observation_drops_the_last_transition(tmp_path, write):
    layout = write(tmp_path / "data", [without_arrival(number, length) for number, length in enumerate(LENGTHS)])
    source = MappedSource(**{**ROLES, **layout})
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange(LENGTHS[number])
        assert raw.observations["state"][:, 0].tolist() == count.tolist()
        assert raw.actions[:, 0].tolist() == (count[:-1] + 0.25).tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.terminated is False
        assert raw.lost == Lost(transitions=1, reward=count[-1] + 0.5, terminal=number % 2 == 0)
        align(raw, source.describe())


@pytest.mark.parametrize("write", WRITERS)
def test_missing_final_observation_can_be_repeated(tmp_path, write):
    layout = write(tmp_path / "data", [without_arrival(number, length) for number, length in enumerate(LENGTHS)])
    same = {"same": layout.get("observations", {"state": "proprio"})["state"]}
    source = MappedSource(final_transition="repeat", privileged=same, **{**ROLES, **layout})
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange(LENGTHS[number])
        assert raw.observations["state"][:, 0].tolist() == [*count, count[-1]]
        assert raw.privileged["same"][:, 0].tolist() == [*count, count[-1]]
        assert raw.actions[:, 0].tolist() == (count + 0.25).tolist()
        assert raw.rewards.tolist() == (count + 0.5).tolist()
        assert raw.terminated is (number % 2 == 0)
        assert raw.lost == Lost()
        align(raw, source.describe())


def test_alignment_is_kept_from_files_to_batch(tmp_path):
    episodes = [stable_worldmodel(number, 6 + number) for number in range(3)]
    source = MappedSource(**{**ROLES, **CONVENTIONS["stable-worldmodel"][1], **write_npz(tmp_path / "data", episodes)})
    store = write_store(source, tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.observations["state"][..., 0]
    assert (count[:, 1:] - count[:, :-1] == 1).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def test_any_end_column_ends_an_episode_and_the_last_needs_none(tmp_path):
    columns = joined([rlds(number, length) for number, length in enumerate(LENGTHS)])
    columns["timeout"] = columns["end"] & ~columns["done"]
    columns["timeout"][-1] = columns["done"][-1] = False
    np.savez(tmp_path / "data.npz", **columns)
    settings = {"filled_last_row": True, "boundaries": {"ends": ["done", "timeout"]}}
    source = MappedSource(tmp_path / "data.npz", **ROLES, **settings)
    assert [len(raw.rewards) for raw in read_all(source)] == [3, 5, 2]
    assert [raw.terminated for raw in read_all(source)] == [True, False, False]


def test_images_nested_columns_and_column_rewards(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 7, 3), np.uint8)
    columns = final_observation(0, 3)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["obs/camera/rgb"], file["act"], file["rew"] = frames, columns["act"], columns["rew"][:, None]
        file["obs/more"], file["done"] = frames, columns["done"][:, None]
    source = MappedSource(tmp_path / "data.h5", **{**ROLES, "observations": {"image": "obs/camera/rgb"}})
    (raw,) = read_all(source)
    assert np.array_equal(raw.observations["image"], frames)
    assert raw.rewards.tolist() == [0.5, 1.5, 2.5]
    assert raw.terminated
    assert source.describe().provenance["ignored_columns"] == {"obs/more": "not named in the settings"}


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_integer_actions_become_one_hot(tmp_path, dtype):
    columns = {**rlds(0, 3), "act": np.array([2, 0, 1, 0]).astype(dtype)}
    if dtype is np.float32:
        columns["act"][-1] = NAN
    layout = write_npz(tmp_path / "data", [columns])
    source = MappedSource(**{**ROLES, **layout}, filled_last_row=True, discrete=3)
    (raw,) = read_all(source)
    assert raw.actions.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    align(raw, source.describe())
    fractions = write_npz(tmp_path / "more", [rlds(0, 3)])
    with pytest.raises(UserError, match=r"^episode 0 of .*'act' contains fractions, expected whole"):
        MappedSource(**{**ROLES, **fractions}, filled_last_row=True, discrete=3).read(0)


def test_ambiguous_one_hot_actions_beside_padding_are_refused(tmp_path):
    columns = {**rlds(0, 3), "act": np.array([[1, 0], [0, 1], [1, 0], [NAN, NAN]])}
    layout = write_npz(tmp_path / "data", [columns])
    with pytest.raises(UserError, match="'act' contains only one-hot rows: set discrete to 2"):
        MappedSource(**{**ROLES, **layout}, filled_last_row=True)
    source = MappedSource(**{**ROLES, **layout}, filled_last_row=True, discrete=2)
    assert align(source.read(0), source.describe()).action[1:].tolist() == [[1, 0], [0, 1], [1, 0]]


def test_reward_and_terminal_may_be_absent(tmp_path):
    columns = final_observation(0, 3)
    del columns["rew"], columns["done"]
    source = MappedSource(**{**ROLES, **write_npz(tmp_path / "data", [columns]), "reward": None, "terminal": None})
    episode = align(source.read(0), source.describe())
    assert episode.reward.tolist() == [0, 0, 0, 0]
    assert not episode.is_terminal.any()
    assert source.describe().provenance["reward"] is None


def test_nan_outside_the_padding_is_reported(tmp_path):
    columns = rlds(0, 3)
    columns["act"][1] = NAN
    source = MappedSource(**{**ROLES, **write_npz(tmp_path / "data", [columns])}, filled_last_row=True)
    with pytest.raises(UserError, match=r"^episode 0 of .*episode_9\.npz: actions is nan at step 1"):
        align(source.read(0), source.describe())


def test_padding_read_as_a_transition_is_reported(tmp_path):
    source = MappedSource(**{**ROLES, **write_npz(tmp_path / "data", [rlds(0, 3)])}, final_transition="repeat")
    with pytest.raises(UserError, match="actions is nan at step 3"):
        align(source.read(0), source.describe())


def with_arrivals(number: int, transitions: int) -> Columns:
    """Without a final observation in ``proprio``, but with the observation after each step."""
    columns = final_observation(number, transitions)
    return {**columns, "proprio": columns["proprio"][:-1], "after": columns["proprio"][1:]}


AFTER: Columns = {"next_observations": {"state": "after"}}


@pytest.mark.parametrize("write", [write for write in WRITERS if write not in (write_folders, write_csv)])
def test_next_observations_give_the_final_observation(tmp_path, write):
    layout = write(tmp_path / "data", [with_arrivals(number, length) for number, length in enumerate(LENGTHS)])
    source = MappedSource(**ROLES, **layout, **AFTER)
    require_counting(source)
    assert not source.describe().doubts
    assert all(raw.lost == Lost() for raw in read_all(source))


def test_next_observations_also_complete_privileged_columns_and_images(tmp_path):
    columns = with_arrivals(0, 3)
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 8, 8, 3), np.uint8)
    layout = write_npz(tmp_path / "data", [{**columns, "rgb": frames[:-1], "rgb_after": frames[1:]}])
    settings = {"observations": {"image": "rgb"}, "privileged": {"state": "proprio"}}
    source = MappedSource(**{**ROLES, **settings, **layout}, next_observations={"image": "rgb_after", "state": "after"})
    (raw,) = read_all(source)
    assert raw.observations["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert raw.privileged["state"][:, 0].tolist() == [0, 1, 2, 3]
    assert raw.terminated


def test_next_observations_of_several_columns_complete_them_and_cut_at_breaks(tmp_path):
    episodes = [with_arrivals(number, length) for number, length in enumerate(LENGTHS)]
    columns = joined([{**columns, "done": np.zeros(len(columns["done"]))} for columns in episodes])
    for name in ("proprio", "after"):
        columns[f"{name}_x"], columns[f"{name}_y"] = columns.pop(name).T
    np.savez(tmp_path / "all.npz", **columns)
    source = MappedSource(
        **{**ROLES, "path": tmp_path / "all.npz", "observations": {"state": ["proprio_x", "proprio_y"]}},
        next_observations={"state": ["after_x", "after_y"]},
        boundaries={"breaks": ["done"]},
    )
    assert [len(raw.rewards) for raw in read_all(source)] == list(LENGTHS)
    for raw in read_all(source):
        assert np.diff(raw.observations["state"][:, 0]).tolist() == [1] * len(raw.rewards)


def test_unused_next_observations_are_doubted(tmp_path):
    columns = with_arrivals(0, 3)
    columns["next_proprio"] = columns.pop("after")
    layout = write_npz(tmp_path / "data", [columns, columns])
    assert [
        "next_observations={state: next_proprio}" in doubt
        for doubt in MappedSource(**ROLES, **layout).describe().doubts
    ] == [True]
    settings = {"next_observations": {"state": "next_proprio"}}
    assert not MappedSource(**ROLES, **layout, **settings).describe().doubts


def test_broken_next_observations_are_refused_or_cut(tmp_path):
    columns = joined([with_arrivals(number, length) for number, length in enumerate(LENGTHS)])
    columns["done"][7] = False
    np.savez(tmp_path / "data.npz", **columns)
    source = MappedSource(tmp_path / "data.npz", **ROLES, **AFTER)
    with pytest.raises(UserError, match=r"^episode 0 of .*'after' at step 2 differs from the following .*breaks: \[\]"):
        source.read(0)
    source = MappedSource(tmp_path / "data.npz", **{**ROLES, "terminal": None}, **AFTER, boundaries={"breaks": []})
    assert [raw.observations["state"][:, 0].tolist() for raw in read_all(source)] == [
        [1000.0 * number + step for step in range(length + 1)] for number, length in enumerate(LENGTHS)
    ]


def overwritten(*lengths: int) -> Columns:
    """The environment reset itself in the last step of every episode, also of one that is not in the file."""
    columns = joined([with_arrivals(number, length) for number, length in enumerate(lengths)])
    stops = np.cumsum(lengths)
    columns["after"][stops - 1] = [[1000.0 * number, -1000.0 * number] for number in range(1, len(lengths) + 1)]
    return columns


@pytest.mark.parametrize("autoreset", [None, "same_step"])
def test_final_observation_overwritten_by_a_reset_counts_as_missing(tmp_path, autoreset):
    np.savez(tmp_path / "data.npz", **overwritten(3, 4, 2))
    source = MappedSource(tmp_path / "data.npz", **ROLES, **AFTER, boundaries={"ends": "end"}, autoreset=autoreset)
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange((3, 4, 2)[number])
        assert raw.observations["state"][:, 0].tolist() == count.tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.lost == Lost(transitions=1, reward=count[-1] + 0.5, terminal=number % 2 == 0)
    told = [doubt for doubt in source.describe().doubts if "in 3 episodes, with the last one of the file" in doubt]
    assert len(told) == (autoreset is None)


def test_arrival_of_a_single_overwritten_episode_is_not_used_and_those_of_others_are(tmp_path):
    columns = joined([with_arrivals(number, length) for number, length in enumerate((3, 4, 2, 3))])
    columns["after"][2] = columns["proprio"][3]
    np.savez(tmp_path / "data.npz", **columns)
    settings = {**ROLES, **AFTER, "boundaries": {"ends": "end"}}
    source = MappedSource(tmp_path / "data.npz", **settings)
    assert [raw.lost.transitions for raw in read_all(source)] == [1, 0, 0, 1]  # the last may be overwritten as well
    source = MappedSource(tmp_path / "data.npz", **settings, autoreset="disabled")
    assert [raw.observations["state"][-1, 0] for raw in read_all(source)] == [1000, 1004, 2002, 3003]
    assert not source.describe().doubts


def test_last_episode_of_every_file_with_overwritten_ones_counts_as_overwritten(tmp_path):
    right = joined([with_arrivals(number, 3) for number in range(2)])
    layout = write_npz(tmp_path / "data", [overwritten(3, 4), right, overwritten(2, 3)])
    source = MappedSource(**ROLES, **AFTER, **layout, boundaries={"ends": "end"})
    assert [raw.lost.transitions for raw in read_all(source)] == [1, 1, 0, 0, 1, 1]


def reset_rows(*lengths: int) -> Columns:
    """After every end follows a row with the final observation, an ignored action and no reward."""
    columns = joined([rlds(number, length) for number, length in enumerate(lengths)])
    columns["done"], columns["end"] = np.roll(columns["done"], -1), np.roll(columns["end"], -1)
    ignored = np.isnan(columns["rew"])
    columns["act"][ignored], columns["rew"][ignored] = 0.77, 0
    return columns


@pytest.mark.parametrize("with_next", [False, True])
def test_row_after_an_end_holds_the_final_observation_after_a_reset_in_the_next_step(tmp_path, with_next):
    columns = reset_rows(*LENGTHS)
    columns["after"] = np.roll(columns["proprio"], -1, axis=0)
    np.savez(tmp_path / "data.npz", **columns)
    settings = {**ROLES, **(AFTER if with_next else {}), "boundaries": {"ends": "end"}}
    source = MappedSource(tmp_path / "data.npz", **settings, autoreset="next_step")
    require_counting(source)
    assert not source.describe().doubts
    assert "autoreset=next_step" in "".join(MappedSource(tmp_path / "data.npz", **settings).describe().doubts)


def test_last_episode_without_a_reset_row_lacks_its_final_observation(tmp_path):
    columns = {name: values[:-1] for name, values in reset_rows(3, 2, 4).items()}
    np.savez(tmp_path / "data.npz", **columns)
    settings = {**ROLES, "boundaries": {"ends": "end"}, "autoreset": "next_step"}
    lost = [raw.lost for raw in read_all(MappedSource(tmp_path / "data.npz", **settings))]
    assert lost == [Lost(), Lost(), Lost(transitions=1, reward=2003.5, terminal=True)]


def test_few_or_sparse_rewards_after_ends_raise_no_doubt(tmp_path):
    columns = joined([without_arrival(number, length) for number, length in enumerate((3, 4, 3))])
    np.savez(tmp_path / "dense.npz", **columns)
    np.savez(tmp_path / "sparse.npz", **{**columns, "rew": columns["done"].astype(float)})
    for name in ("dense", "sparse"):
        source = MappedSource(tmp_path / f"{name}.npz", **ROLES, boundaries={"ends": "end"})
        assert not source.describe().doubts


@pytest.mark.parametrize("write", [write_npz, write_hdf5_files])
@pytest.mark.parametrize("make", [final_observation, without_arrival, rlds])
def test_arrays_with_an_axis_of_episodes_are_read_as_a_batch(tmp_path, write, make):
    batch = {name: np.stack(parts) for name, parts in _transposed([make(number, 4) for number in range(3)]).items()}
    settings = {**ROLES, **write(tmp_path / "data", [batch]), "filled_last_row": make is rlds}
    source = MappedSource(**{**settings, "boundaries": {"batch": True}}, final_transition="repeat")
    assert source.episode_count == 3
    for number, raw in enumerate(read_all(source)):
        count = 1000.0 * number + np.arange(5)
        assert raw.observations["state"][:4, 0].tolist() == count[:4].tolist()
        assert raw.observations["state"][4, 0] == count[4 - (make is without_arrival)]
        assert raw.actions[:, 0].tolist() == (count[:-1] + 0.25).tolist()
        assert raw.rewards.tolist() == (count[:-1] + 0.5).tolist()
        assert raw.name.endswith(f"[{number}]")
        align(raw, source.describe())


def _transposed(episodes: Sequence[Columns]) -> dict[str, list[Any]]:
    return {name: [episode[name] for episode in episodes] for name in episodes[0]}


def test_axis_of_episodes_is_never_flattened_silently(tmp_path):
    batch = {name: np.stack(parts) for name, parts in _transposed([rlds(number, 4) for number in range(3)]).items()}
    layout = write_npz(tmp_path / "data", [batch])
    for settings in (ROLES, {**ROLES, "reward": None, "terminal": None}):
        with pytest.raises(UserError, match=r"rows of shape \[5.*boundaries=\{batch: true\}"):
            MappedSource(**{**settings, **layout})
    (doubt,) = (
        MappedSource(
            **{**ROLES, "reward": None, "terminal": None},
            **write_npz(tmp_path / "narrow", [{**batch, "act": batch["act"][..., 0]}] * 2),
        )
        .describe()
        .doubts
    )
    assert "rows of 'proprio' are as long as those of 'act'" in doubt
    flat = write_npz(tmp_path / "flat", [rlds(0, 4)])
    source = {**ROLES, "observations": {"state": "rew"}, **flat, "boundaries": {"batch": True}}
    with pytest.raises(UserError, match="has one axis, expected"):
        MappedSource(**source).read(0)


def test_stream_without_ends_is_cut_every_so_many_rows_and_doubted_otherwise(tmp_path):
    columns = {**without_arrival(0, 10), "done": np.zeros(10)}
    layout = {"path": write_npz(tmp_path / "data", [columns])["path"] / "episode_9.npz"}
    for settings in ({}, {"boundaries": {"ends": ["done"]}}):
        doubts = MappedSource(**ROLES, **layout, **settings).describe().doubts
        assert ["dataset.source.boundaries" in doubt for doubt in doubts] == [True]
    marked = write_npz(tmp_path / "marked", [{**columns, "done": np.arange(10) == 9}])
    assert not MappedSource(**ROLES, **marked, boundaries={"ends": "done"}).describe().doubts
    source = MappedSource(**ROLES, **layout, boundaries={"every": 4})
    assert [raw.observations["state"][:, 0].tolist() for raw in read_all(source)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert not source.describe().doubts


def test_values_in_the_first_row_of_a_column_that_precedes_are_doubted(tmp_path):
    shifted = {**rlds(0, 4), "act": np.full((5, 1), 0.5), "rew": np.array([NAN, 1, 2, 3, 4])}
    source = MappedSource(**ROLES, **write_npz(tmp_path / "data", [shifted, shifted]), alignment="precedes")
    (doubt,) = source.describe().doubts
    assert "'act' is not 0 in the first row" in doubt
    assert "dataset.source.alignment" in doubt


def test_zeros_in_the_first_rows_of_actions_that_follow_are_doubted(tmp_path):
    episodes = [{name: np.nan_to_num(v) for name, v in precedes(number, 4).items()} for number in range(3)]
    layout = write_npz(tmp_path / "data", episodes)
    (doubt,) = MappedSource(**ROLES, **layout).describe().doubts
    assert "dataset.source.alignment=precedes" in doubt
    assert not MappedSource(**ROLES, **layout, alignment="precedes").describe().doubts
    for name, change in {"resting": {"act": np.zeros((4, 1))}, "rewarded": {"act": np.arange(4.0)}}.items():
        layout = write_npz(tmp_path / name, [{**final_observation(number, 4), **change} for number in range(3)])
        assert not MappedSource(**ROLES, **layout).describe().doubts


SETTINGS: dict[str, tuple[Columns, str]] = {
    "alignment": ({"alignment": "after"}, "alignment is 'after'; allowed: follows or precedes"),
    "half an alignment": (
        {"alignment": {"action": "follows"}},
        r"alignment has the keys \['action'\], expected action and",
    ),
    "final transition": ({"final_transition": "keep"}, "final_transition is 'keep'; allowed: drop or repeat"),
    "boundaries": ({"boundaries": {"starts": "x"}}, r"boundaries names starts; allowed: null or one of"),
    "two boundaries": ({"boundaries": {"ends": "x", "lengths": "y"}}, "boundaries names ends, lengths; allowed"),
    "ends": ({"boundaries": {"ends": 3}}, "boundaries has ends: 3; allowed: a column or a list of columns"),
    "every": ({"boundaries": {"every": 1}}, "boundaries has every: 1; allowed: a whole number of rows above 1"),
    "batch": ({"boundaries": {"batch": False}}, "boundaries has batch: False; allowed: true"),
    "breaks": ({"boundaries": {"breaks": []}}, "boundaries names breaks, but next_observations is empty"),
    "autoreset": ({"autoreset": "never"}, "autoreset is 'never'; allowed: next_step, same_step, disabled or null"),
    "reset rows": ({"autoreset": "next_step"}, r"autoreset is next_step, but boundaries is None; allowed: \{ends: col"),
    "padded reset rows": ({"autoreset": "next_step", "alignment": "precedes"}, "needs alignment=follows"),
    "padded steps": ({"next_observations": {"state": "x"}, "filled_last_row": True}, "next_observations needs align"),
    "next of nothing": ({"next_observations": {"x": "y"}}, "next_observations lacks 'state'; allowed: every name of"),
    "same next": ({"next_observations": {"state": "proprio"}}, "name the same column"),
    "no observations": ({"observations": {}}, "no observation is named"),
    "no column": ({"observations": {"state": "prop"}}, r"data: no episode matches .*'prop' is missing; available:"),
    "no action": (
        {"action": "acts"},
        "'acts' is missing; .*; set dataset.source.action to one of them, or to null if no",
    ),
    "no ends": ({"boundaries": {"ends": "end"}}, "'end' is missing; available:"),
    "groups in npz": ({"boundaries": {"groups": "data"}}, "only HDF5 files have groups"),
    "episodes": ({"episodes": 0}, "episodes is 0"),
    "path": ({"path": "/nowhere/x.npz"}, r"/nowhere/x\.npz: no such file"),
    "ending": ({"path": "/nowhere/x.mat"}, r"the name ends in '\.mat'; supported: \.npz, \.hdf5"),
    "discrete": ({"discrete": -2}, "discrete is -2; allowed: 2 to"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_invalid_setting_error_names_the_allowed_values(tmp_path, case):
    changes, message = SETTINGS[case]
    layout = write_npz(tmp_path / "data", [final_observation(0, 3)])
    with pytest.raises(UserError, match=message):
        MappedSource(**{**ROLES, **layout, **changes})


DAMAGE: dict[str, tuple[Columns, str]] = {
    "no reward": ({"rew": None}, "'rew' is missing"),
    "objects": ({"rew": np.array([None] * 3)}, "'rew' holds pickled objects"),
    "text": ({"rew": np.array(["a"] * 3)}, "'rew' holds <U1"),
    "single value": ({"rew": np.float64(3)}, "'rew' is a single value"),
    "two rewards": ({"rew": np.zeros((3, 2))}, "expected one number"),
    "fewer rewards": ({"rew": np.zeros(2)}, "'rew' has 2 rows for 4 observations, expected 3 or 4 if it follows"),
    "more actions": ({"act": np.zeros((5, 1))}, "'act' has 5 rows for 4 observations"),
    "other actions": ({"act": np.zeros((3, 2))}, r"'act' holds float64\[2\] per row"),
    "more flags": ({"done": np.zeros(6)}, "'done' has 6 rows, expected 3 or 4"),
    "early flag": ({"done": np.array([0, 1, 0])}, "is terminal at row 1 of 3"),
    "no rows": (
        {"proprio": np.zeros((0, 2)), "act": np.zeros((0, 1)), "rew": np.zeros(0), "done": np.zeros(0)},
        "has fewer than two observations, expected at least one transition",
    ),
    "one row": (
        {"proprio": np.zeros((1, 2)), "act": np.zeros((0, 1)), "rew": np.zeros(0), "done": np.zeros(0)},
        "at least one transition",
    ),
    "NaN": ({"proprio": np.full((4, 2), NAN)}, "observation 'state' is nan at step 0"),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("place", [0, 1])
def test_damaged_episode_is_named_and_others_stay_readable(tmp_path, case, place):
    changes, message = DAMAGE[case]
    damaged = {name: values for name, values in {**final_observation(0, 3), **changes}.items() if values is not None}
    episodes = [final_observation(0, 3), final_observation(0, 3)]
    episodes.insert(place, damaged)
    source = MappedSource(**{**ROLES, **write_npz(tmp_path / "data", episodes)})
    for number in {0, 1, 2} - {place}:
        assert source.read(number).rewards.tolist() == [0.5, 1.5, 2.5]
    with pytest.raises(UserError, match=rf"^episode {place} of .*episode_{place + 9}\.npz: .*{message}"):
        align(source.read(place), source.describe())
    assert source.describe().provenance["episodes"] == 3


@pytest.mark.parametrize("write", [write_npz, write_hdf5_files])
def test_truncated_file_is_named_and_the_others_stay_readable(tmp_path, write):
    layout = write(tmp_path / "data", [final_observation(number, 3) for number in range(3)])
    damaged = next(layout["path"].glob("episode_9.*"))
    damaged.write_bytes(damaged.read_bytes()[:-50])
    source = MappedSource(**{**ROLES, **layout})
    assert [source.read(number).rewards[0] for number in (1, 2)] == [1000.5, 2000.5]
    with pytest.raises(UserError, match=rf"^episode 0 of .*{damaged.name}: unreadable"):
        source.read(0)


FLAT_DAMAGE: dict[str, tuple[Columns, str]] = {
    "fewer rewards": ({"rew": np.zeros(5)}, "the columns have different numbers of rows"),
    "lengths too long": ({"lengths": [4, 6, 4]}, "'lengths' sums to 14, expected positive whole numbers that sum to"),
    "negative length": ({"lengths": [4, 10, -1]}, "expected positive whole numbers that sum to 13 rows"),
    "half lengths": ({"lengths": [4.5, 4.5, 4]}, "expected positive whole numbers"),
}


@pytest.mark.parametrize("case", FLAT_DAMAGE)
def test_inconsistent_flat_columns_are_refused(tmp_path, case):
    changes, message = FLAT_DAMAGE[case]
    columns = joined([rlds(number, length) for number, length in enumerate(LENGTHS)])
    np.savez(tmp_path / "data.npz", **{**columns, **changes})
    settings = {"filled_last_row": True, "boundaries": {"lengths": "lengths"}}
    with pytest.raises(UserError, match=rf"data\.npz: no episode matches the settings; the first error: .*{message}"):
        MappedSource(tmp_path / "data.npz", **ROLES, **settings)


def link_out(file: h5py.File) -> None:
    del file["rew"]
    file["rew"] = h5py.ExternalLink("/etc/passwd", "/x")


def claim_much(file: h5py.File) -> None:
    del file["rew"]
    file.create_dataset("rew", (1 << 50,), float, chunks=(1 << 10,))  # no chunk is ever written


def hold_text(file: h5py.File) -> None:
    del file["rew"]
    file["rew"] = ["1", "2", "3"]


def keep_elsewhere(file: h5py.File) -> None:
    del file["rew"]
    layout = h5py.VirtualLayout((3,), float)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "rewards", (3,))
    file.create_virtual_dataset("rew", layout)


def make_group(file: h5py.File) -> None:
    del file["rew"]
    file.create_group("rew")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (link_out, "'rew' is an external link"),
        (claim_much, "claims 9007199254740992 bytes of which 0 are stored"),
        (hold_text, "holds text; allowed: numbers"),
        (keep_elsewhere, "stores its values in other files"),
        (make_group, "is a group, expected an array"),
    ],
)
def test_tampered_hdf5_file_is_refused(tmp_path, tamper, message):
    layout = write_hdf5_files(tmp_path / "data", [final_observation(number, 3) for number in range(2)])
    with h5py.File(tmp_path / "data" / "episode_10.h5", "a") as file:
        tamper(file)
    source = MappedSource(**{**ROLES, **layout})
    assert source.read(0).rewards.tolist() == [0.5, 1.5, 2.5]
    with pytest.raises(UserError, match=rf"^episode 1 of .*episode_10\.h5.*{message}"):
        source.read(1)


def test_missing_groups_are_named(tmp_path):
    layout = write_groups(tmp_path / "data", [final_observation(0, 3)])
    with pytest.raises(UserError, match=r"data\.hdf5.*'demos' is missing"):
        MappedSource(**{**ROLES, **layout, "boundaries": {"groups": "demos"}})
    with pytest.raises(UserError, match=r"data\.hdf5.*no groups below 'data/demo_9'"):
        MappedSource(**{**ROLES, **layout, "boundaries": {"groups": "data/demo_9"}})


def test_episodes_can_be_limited_and_equal_data_have_equal_provenance(tmp_path):
    episodes = [final_observation(number, 3) for number in range(3)]
    layouts = [write_npz(tmp_path / name, episodes) for name in ("a", "b")]
    assert MappedSource(**{**ROLES, **layouts[0]}, episodes=2).episode_count == 2
    first, second = (MappedSource(**{**ROLES, **layout}).describe().provenance for layout in layouts)
    assert first == second
    assert first["alignment"] == {"action": "follows", "reward": "follows"}


@pytest.mark.parametrize("terminal", ["done", None])
def test_scanning_opens_a_file_no_more_often_for_more_episodes(tmp_path, monkeypatch, terminal):
    opened, openings = tables.opened, []
    monkeypatch.setattr(tables, "opened", lambda path: openings.append(path) or opened(path))
    counts = []
    for episodes in (2, 20):
        layout = write_groups(tmp_path / str(episodes), [without_arrival(number, 2) for number in range(episodes)])
        openings.clear()
        MappedSource(**{**ROLES, **layout, "terminal": terminal}).describe()
        counts.append(len(openings))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("write", [write_npz, write_groups])
def test_scanning_counts_every_table(tmp_path, write):
    layout = write(tmp_path / "data", [final_observation(number, 3) for number in range(7)])
    items: list[None] = []
    with counting(lambda: items.append(None)):
        MappedSource(**{**ROLES, **layout})
    assert len(items) == 7 * (2 if write is write_groups else 1)  # groups are listed before they are looked at
    items.clear()
    MappedSource(**{**ROLES, **layout})
    assert items == []  # outside of the block
