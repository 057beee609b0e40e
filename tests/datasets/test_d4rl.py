"""D4RL files as their scripts write them: flat arrays, here of counting episodes."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import SequenceSampler, write_store
from dreamset.datasets.episode import Lost
from dreamset.datasets.sources.base import read_all
from dreamset.datasets.sources.d4rl import facts as d4rl_facts
from dreamset.datasets.sources.d4rl.source import D4RLSource, fetch

WIDE = {"action_low": -10.0, "action_high": 1e6}
TERMINAL, TIMEOUT, NEITHER = "terminal", "timeout", "neither"
EPISODES = ((4, TERMINAL), (3, TIMEOUT), (5, TERMINAL), (2, NEITHER))


def arrays(*episodes: tuple[int, str]) -> dict[str, np.ndarray]:
    """Observation t of episode e is 1000 e + t; the action taken there + 0.25 and its reward + 0.5."""
    step = np.concatenate([1000.0 * number + np.arange(rows) for number, (rows, _) in enumerate(episodes)])
    last = np.concatenate([np.arange(rows) == rows - 1 for rows, _ in episodes])
    end = np.concatenate([np.full(rows, end) for rows, end in episodes])
    return {
        "observations": np.stack([step, -step], axis=1).astype(np.float32),
        "next_observations": np.stack([step + 1, -step - 1], axis=1).astype(np.float32),
        "actions": (step[:, None] + 0.25).astype(np.float32),
        "rewards": (step + 0.5).astype(np.float32),
        "terminals": last & (end == TERMINAL),
        "timeouts": last & (end == TIMEOUT),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes arrays; None omits one."""

    def write_file(columns: dict[str, np.ndarray], **changes: Any) -> Path:
        path = tmp_path / "counter.hdf5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            for name, values in {**columns, **changes}.items():
                if values is not None:
                    file.create_dataset(name, data=values, compression="gzip" if np.ndim(values) else None)
        return path

    return write_file


def read(path: Path, **settings: Any) -> list[Any]:
    return list(read_all(D4RLSource(path, **WIDE, **settings)))


def summary(path: Path, **settings: Any) -> list[tuple[list[float], list[float], list[float], bool]]:
    """(observations, actions, rewards, terminated) of every episode, the offset of its number removed."""
    actual = []
    for number, raw in enumerate(read(path, **settings)):
        state = raw.observations["state"]
        assert (state[:, 1] == -state[:, 0]).all()
        columns = (state[:, 0], raw.actions[:, 0], raw.rewards)
        actual.append((*((values - 1000 * number).tolist() for values in columns), raw.terminated))
    return actual


def counted(transitions: int, *, terminated: bool) -> tuple[list[float], list[float], list[float], bool]:
    steps = [float(t) for t in range(transitions + 1)]
    return steps, [t + 0.25 for t in steps[:-1]], [t + 0.5 for t in steps[:-1]], terminated


def test_final_observations_come_from_the_next_observations(write):
    wanted = [counted(rows, terminated=end == TERMINAL) for rows, end in EPISODES]
    assert summary(write(arrays(*EPISODES))) == wanted


def test_last_transition_is_dropped_and_counted_without_next_observations(write):
    path = write(arrays(*EPISODES), next_observations=None)
    assert summary(path) == [counted(rows - 1, terminated=False) for rows, _ in EPISODES]
    source = D4RLSource(path, **WIDE)
    assert [raw.lost for raw in read_all(source)] == [
        Lost(transitions=1, reward=1000 * number + rows - 0.5, terminal=end == TERMINAL)
        for number, (rows, end) in enumerate(EPISODES)
    ]
    assert source.describe().provenance["last_episode_unfinished"] is True


def test_last_observation_can_be_repeated_without_next_observations(write):
    path = write(arrays(*EPISODES), next_observations=None)
    wanted = [counted(rows, terminated=end == TERMINAL) for rows, end in EPISODES]
    for observations, *_ in wanted:
        observations[-1] = observations[-2]
    assert summary(path, final_transition="repeat") == wanted
    assert all(raw.lost == Lost() for raw in read(path, final_transition="repeat"))


def test_episode_without_transition_is_skipped_and_counted(write):
    path = write(arrays((3, TIMEOUT), (1, TERMINAL), (3, TERMINAL)), next_observations=None)
    source = D4RLSource(path, **WIDE)
    assert [raw.observations["state"][0, 0] for raw in read_all(source)] == [0, 2000]
    provenance = source.describe().provenance
    assert (provenance["episodes"], provenance["episodes_in_file"]) == (2, 3)
    assert provenance["episodes_without_transition"] == 1


def test_alignment_is_kept_from_file_to_batch(write, tmp_path):
    path = write(arrays((6, TERMINAL), (6, TIMEOUT), (9, TERMINAL)))
    store = write_store(D4RLSource(path, **WIDE), tmp_path / "store", seed=1)
    batch = SequenceSampler(store, split="train", batch_size=64, length=4, seed=0).sample()
    count = batch.observations["state"][..., 0]
    assert (count[:, 1:] - count[:, :-1] == 1).all()
    assert (batch.is_first == (count % 1000 == 0)).all()
    assert (batch.action[..., 0] == (count - 0.75) * ~batch.is_first).all()
    assert (batch.reward == (count - 0.5) * ~batch.is_first).all()


def test_double_precision_columns_with_an_extra_axis_are_read(write):
    columns = {name: values.astype(np.float64) for name, values in arrays(*EPISODES).items()}
    for name in ("rewards", "terminals", "timeouts"):
        columns[name] = columns[name][:, None]
    path = write(columns)
    assert summary(path) == [counted(rows, terminated=end == TERMINAL) for rows, end in EPISODES]
    (first, *_) = read(path)
    assert first.observations["state"].dtype == first.actions.dtype == np.float32


def test_float_terminals_without_timeouts_are_read(write):
    columns = arrays((3, TERMINAL), (4, TERMINAL))
    path = write(
        columns, terminals=columns["terminals"].astype(np.float32), timeouts=None, next_observations=None, infos=None
    )
    assert summary(path, dataset_id="kitchen-complete-v0") == [counted(n, terminated=False) for n in (2, 3)]
    source = D4RLSource(path, dataset_id="kitchen-complete-v0")
    assert source.describe().provenance["cut_at_timeouts"] is False


def endless(rows: int, *waypoints: int) -> dict[str, np.ndarray]:
    columns = arrays((rows, NEITHER))
    columns["terminals"][list(waypoints)] = True
    return {name: values for name, values in columns.items() if name not in ("timeouts", "next_observations")}


def test_maze2d_episode_continues_after_a_waypoint(write):
    path = write(endless(700, 20, 21, 350))
    known = read(path, dataset_id="maze2d-umaze-v1")
    assert [len(raw.rewards) for raw in known] == [299, 299, 99]
    assert [raw.observations["state"][0, 0] for raw in known] == [0, 300, 600]
    assert not any(raw.terminated for raw in known)
    assert D4RLSource(path, dataset_id="maze2d-large-dense-v1").episode_count == 1
    provenance = D4RLSource(path, dataset_id="maze2d-umaze-v1").describe().provenance
    assert (provenance["cut_at_terminals"], provenance["cut_at_length"]) == (False, 300)
    assert (provenance["ref_min_score"], provenance["ref_max_score"]) == (23.85, 161.86)


def test_settings_override_published_facts(write):
    path = write(endless(700, 20, 350))
    settings = {"dataset_id": "maze2d-umaze-v1", "cut_at_terminals": True, "episode_length": 200}
    starts = [raw.observations["state"][0, 0] for raw in read(path, **settings)]
    assert starts == [0, 21, 221, 351, 551]
    assert [raw.observations["state"][0, 0] for raw in read(path)] == [0, 21, 351]
    assert [raw.terminated for raw in read(path, final_transition="repeat")] == [True, True, False]


def test_cut_by_length_keeps_the_arrival_and_is_not_terminal(write):
    path = write(arrays((7, TERMINAL)), timeouts=None)
    actual = read(path, episode_length=3)
    assert [raw.observations["state"][:, 0].tolist() for raw in actual] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7]]
    assert [raw.terminated for raw in actual] == [False, False, True]
    with pytest.raises(UserError, match="episode_length is 1; allowed: 2 or more"):
        D4RLSource(path, episode_length=1)


def test_missing_boundary_is_reported_for_its_episode_only(write):
    columns = arrays((3, TIMEOUT), (4, TIMEOUT), (3, TIMEOUT), (3, TERMINAL))
    columns["timeouts"][6] = False
    source = D4RLSource(write(columns), **WIDE)
    assert source.episode_count == 3
    with pytest.raises(
        UserError, match=r"episode_1 \(rows 3 to 9\) of .*counter.hdf5: .* at step 3 differs .*cut_at_breaks=true"
    ):
        source.read(1)
    assert source.read(0).observations["state"][:, 0].tolist() == [0, 1, 2, 3]
    assert source.read(2).observations["state"][:, 0].tolist() == [3000, 3001, 3002, 3003]


def test_episode_terminals_of_d3rlpy_end_episodes_without_being_true_ends(write):
    columns = arrays(*EPISODES)
    changes = {"timeouts": None, "episode_terminals": (columns["terminals"] | columns["timeouts"]).astype(np.float32)}
    path = write(columns, **changes)
    assert summary(path) == [counted(rows, terminated=end == TERMINAL) for rows, end in EPISODES]
    provenance = D4RLSource(path, **WIDE).describe().provenance
    assert provenance["cut_at_timeouts"] is True
    assert provenance["ignored_columns"] == {}


def qlearning(*episodes: tuple[int, str]) -> dict[str, np.ndarray]:
    """Without timeouts; the last step of an episode without true end is omitted."""
    columns = arrays(*episodes)
    kept = ~columns.pop("timeouts")
    return {name: values[kept] for name, values in columns.items()}


@pytest.mark.parametrize("ends", [(TIMEOUT, TIMEOUT, TIMEOUT), (TIMEOUT, TERMINAL, TIMEOUT)])
def test_breaks_cut_the_result_of_qlearning_dataset(write, ends):
    lengths = (6, 5, 7)
    path = write(qlearning(*zip(lengths, ends, strict=True)))
    kept = [length - (end == TIMEOUT) for length, end in zip(lengths, ends, strict=True)]
    wanted = [counted(rows, terminated=end == TERMINAL) for rows, end in zip(kept, ends, strict=True)]
    assert summary(path, cut_at_breaks=True) == wanted
    assert not D4RLSource(path, cut_at_breaks=True).describe().doubts
    with pytest.raises(UserError, match=r"episode_0 .*cut_at_breaks=true"):
        summary(path)


def test_unusable_cut_at_breaks_is_refused(write):
    path = write(arrays(*EPISODES), next_observations=None)
    with pytest.raises(UserError, match="cut_at_breaks is true, but the file has no 'next_observations'"):
        D4RLSource(path, cut_at_breaks=True)
    with pytest.raises(UserError, match="cut_at_breaks is true and autoreset is next_step; allowed: one of both"):
        D4RLSource(write(arrays(*EPISODES)), cut_at_breaks=True, autoreset="next_step")


def same_step(*episodes: tuple[int, str]) -> dict[str, np.ndarray]:
    """The next observation of a last row is the first observation of the next episode."""
    columns = arrays(*episodes)
    stops = np.cumsum([rows for rows, _ in episodes])
    firsts = 1000.0 * np.arange(1, len(episodes) + 1)
    columns["next_observations"][stops - 1] = np.stack([firsts, -firsts], axis=1)
    return columns


@pytest.mark.parametrize("autoreset", [None, "same_step"])
def test_final_observation_overwritten_by_a_reset_counts_as_missing(write, autoreset):
    episodes = ((4, TERMINAL), (6, TIMEOUT), (5, TERMINAL))
    path = write(same_step(*episodes))
    assert summary(path, autoreset=autoreset) == [counted(rows - 1, terminated=False) for rows, _ in episodes]
    source = D4RLSource(path, **WIDE, autoreset=autoreset)
    assert [raw.lost.reward for raw in read_all(source)] == [3.5, 1005.5, 2004.5]
    assert source.describe().provenance["overwritten_final_observations"] == 3
    told = [doubt for doubt in source.describe().doubts if "in 3 episodes, with the last one of the file" in doubt]
    assert len(told) == (autoreset is None)


def test_arrival_of_an_unfinished_episode_is_used_after_resets_in_the_same_step(write):
    columns = same_step((4, TERMINAL), (6, TIMEOUT), (3, TERMINAL))
    columns["terminals"][-1] = False
    columns["next_observations"][-1] = columns["observations"][-1] + np.array([1, -1])
    transitions = [len(raw.rewards) for raw in read(write(columns))]
    assert transitions == [3, 5, 3]


def test_disabled_autoreset_uses_every_next_observation(write):
    path = write(same_step((4, TERMINAL), (3, TIMEOUT)))
    source = D4RLSource(path, **WIDE, autoreset="disabled")
    assert [raw.observations["state"][-1, 0] for raw in read_all(source)] == [1000, 2000]
    assert not source.describe().doubts


def next_step(*episodes: tuple[int, str]) -> dict[str, np.ndarray]:
    """After every end follows a row with the final observation, an ignored action and no reward."""
    columns = arrays(*((rows + 1, end) for rows, end in episodes))
    resets = columns["terminals"] | columns["timeouts"]
    for name in ("terminals", "timeouts"):
        columns[name] = np.roll(columns[name], -1)
    columns["actions"][resets], columns["rewards"][resets] = 0.77, 0
    columns["next_observations"] = np.roll(columns["observations"], -1, axis=0)
    return columns


@pytest.mark.parametrize("change", [{}, {"next_observations": None}])
def test_row_after_an_end_holds_the_final_observation_after_a_reset_in_the_next_step(write, change):
    episodes = ((4, TERMINAL), (6, TIMEOUT), (5, TERMINAL))
    path = write(next_step(*episodes), **change, **{"infos/speed": np.arange(18)})
    wanted = [counted(rows, terminated=end == TERMINAL) for rows, end in episodes]
    assert summary(path, autoreset="next_step") == wanted
    source = D4RLSource(path, **WIDE, autoreset="next_step", privileged=["infos.speed"])
    assert [len(raw.privileged["infos.speed"]) for raw in read_all(source)] == [5, 7, 6]
    assert not source.describe().doubts
    assert "autoreset=next_step" in "".join(D4RLSource(path, **WIDE).describe().doubts)


def test_only_the_last_part_of_a_limited_episode_has_the_reset_row(write):
    path = write(next_step((5, TERMINAL), (2, TERMINAL)), next_observations=None)
    states = [raw.observations["state"][:, 0].tolist() for raw in read(path, autoreset="next_step", episode_length=3)]
    assert states == [[0, 1, 2], [3, 4, 5], [1000, 1001, 1002]]


def test_last_episode_without_a_reset_row_lacks_its_final_observation(write):
    columns = {name: values[:-1] for name, values in next_step((4, TERMINAL), (3, TERMINAL)).items()}
    _, last = read(write(columns, next_observations=None), autoreset="next_step")
    assert last.lost == Lost(transitions=1, reward=1002.5, terminal=True)
    assert last.observations["state"][:, 0].tolist() == [1000, 1001, 1002]


def test_rows_without_any_end_are_doubted_unless_they_are_cut(write):
    columns = {**arrays((30, NEITHER)), "next_observations": None}
    (doubt,) = D4RLSource(write(columns)).describe().doubts
    assert "nothing marks the end of an episode" in doubt
    assert "dataset.source.episode_length" in doubt
    assert not D4RLSource(write(columns), episode_length=10).describe().doubts
    assert not D4RLSource(write(arrays(*EPISODES))).describe().doubts


INFOS = {  # of a file of 7 rows
    "infos/qpos": np.stack([np.arange(7), np.arange(7) * 2], axis=1),
    "infos/action_log_probs": np.arange(7) * 0.5,
    "infos/short": np.arange(6),
    "infos/words": np.array([b"word"] * 7),
    "metadata/algorithm": np.bytes_(b"SAC"),
    "metadata/policy/weights": np.zeros((2, 2)),
    "seed": np.float64(3),
}


def test_selected_infos_drop_every_last_transition(write):
    path = write(arrays((3, TERMINAL), (4, TIMEOUT)), **INFOS)
    assert D4RLSource(path).describe().privileged == {}
    source = D4RLSource(path, **WIDE, privileged=["infos.qpos", "infos.action_log_probs"])
    _, second = read_all(source)
    assert second.privileged["infos.qpos"].tolist() == [[3, 6], [4, 8], [5, 10], [6, 12]]
    assert second.privileged["infos.action_log_probs"].tolist() == [[1.5], [2], [2.5], [3]]
    assert second.observations["state"][:, 0].tolist() == [1000, 1001, 1002, 1003]
    assert (second.actions[:, 0].tolist(), second.terminated) == ([1000.25, 1001.25, 1002.25], False)
    assert [raw.lost for raw in read_all(source)] == [Lost(1, 2.5, terminal=True), Lost(1, 1003.5, terminal=False)]
    with pytest.raises(UserError, match=r"'infos/qpos' has no row for the final observation.* final_transition=repeat"):
        D4RLSource(path, privileged=["infos.qpos"], final_transition="repeat")


def test_ignored_columns_are_listed_with_reasons(write):
    path = write(arrays((3, TERMINAL), (4, TIMEOUT)), **INFOS)
    assert D4RLSource(path, privileged=["infos.qpos"]).describe().provenance["ignored_columns"] == {
        "infos.action_log_probs": "not selected",
        "infos/short": "6 rows instead of 7",
        "infos/words": "|S4, not numbers",
        "metadata/algorithm": "describes how it was collected",
        "metadata/policy/weights": "describes how it was collected",
        "seed": "no rows instead of 7",
    }
    with pytest.raises(UserError, match=r"'infos\.speed' of the setting 'privileged' does not exist; available:"):
        D4RLSource(path, privileged=["infos.speed"])
    with pytest.raises(UserError, match="no observation is selected"):
        D4RLSource(path, observations=[])


def test_episodes_and_bounds_can_be_set(write):
    path = write(arrays(*EPISODES))
    source = D4RLSource(path, episodes=2, action_low=[-2.0], action_high=3.0)
    assert source.episode_count == 2
    assert (source.describe().action.low, source.describe().action.high) == ((-2.0,), (3.0,))
    assert source.describe().provenance["episodes_in_file"] == 4
    with pytest.raises(UserError, match=r"counter.hdf5.*2 bounds are set"):
        D4RLSource(path, action_low=[-1.0, -1.0])
    with pytest.raises(UserError, match="final_transition is 'keep'; allowed: drop or repeat"):
        D4RLSource(path, final_transition="keep")
    with pytest.raises(UserError, match="set discrete to the number of choices"):
        D4RLSource(write(arrays(*EPISODES), actions=np.arange(14)))


def test_provenance_has_the_origin_but_no_path(write):
    provenance = D4RLSource(write(arrays(*EPISODES)), dataset_id="hopper-medium-v2").describe().provenance
    assert (provenance["ref_min_score"], provenance["ref_max_score"]) == (-20.272305, 3234.3)
    assert (provenance["file"], len(provenance["sha256"])) == ("counter.hdf5", 64)
    assert "ref_min_score" not in D4RLSource(write(arrays(*EPISODES))).describe().provenance


def test_nan_is_reported_by_the_check(write, tmp_path):
    columns = arrays(*EPISODES)
    columns["observations"][5, 1] = columns["next_observations"][4, 1] = np.nan
    source = D4RLSource(write(columns), **WIDE)
    assert np.isnan(source.read(1).observations["state"][1, 1])
    with pytest.raises(UserError, match=r"episode_1 .*counter.hdf5: observation 'state' is nan at step 1, .* \[1\]"):
        write_store(source, tmp_path / "store")


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "no rewards": ({"rewards": None}, "'rewards' is missing, so the file is not a D4RL dataset"),
    "no terminals": ({"terminals": None}, "'terminals' is missing"),
    "rewards too short": ({"rewards": np.zeros(13)}, r"'rewards' has shape \(13,\), 'terminals' has 14 rows"),
    "timeouts too long": ({"timeouts": np.zeros(15, bool)}, r"'timeouts' has shape \(15,\)"),
    "wide terminals": ({"terminals": np.zeros((14, 2))}, r"'terminals' holds float64\[2\] per row"),
    "wide rewards": ({"rewards": np.zeros((14, 2))}, r"episode_0 .*'rewards' holds float64\[2\] per row"),
    "narrow arrivals": (
        {"next_observations": np.zeros((14, 1))},
        r"'next_observations' has shape \(14, 1\), .* has \(14, 2\)",
    ),
    "words for actions": ({"actions": np.array([b"left"] * 14)}, r"'actions' holds \|S4\[\] per row"),
    "objects": (
        {"observations": np.array(["a"] * 14, h5py.string_dtype()), "next_observations": None},
        "'observations' holds object",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_inconsistent_file_is_refused(write, case):
    changes, message = DAMAGED[case]
    with pytest.raises(UserError, match=message) as caught:
        read(write(arrays(*EPISODES), **changes))
    assert "counter.hdf5" in str(caught.value)


def test_empty_missing_and_truncated_files_are_refused(write, tmp_path):
    with pytest.raises(UserError, match=r"nowhere.hdf5: no such file"):
        D4RLSource(tmp_path / "nowhere.hdf5")
    path = write({name: values[:0] for name, values in arrays((1, TERMINAL)).items()})
    with pytest.raises(UserError, match=r"counter.hdf5: contains no steps"):
        D4RLSource(path)
    path = write(arrays(*EPISODES))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"counter.hdf5: unreadable, truncated or not HDF5"):
        read(path)


def test_external_link_is_refused(write):
    path = write(arrays(*EPISODES), rewards=None)
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.ExternalLink("other.hdf5", "/rewards")
    with pytest.raises(UserError, match="'rewards' is an external link"):
        D4RLSource(path)


def test_unknown_dataset_id_error_lists_similar_ids():
    root = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"
    assert {name: d4rl_facts.facts(name).url.removeprefix(root) for name in (
        "hopper-medium-v2", "walker2d-medium-replay-v0", "maze2d-umaze-v1", "antmaze-umaze-v2", "antmaze-large-play-v0",
        "kitchen-complete-v0", "pen-human-v1", "pen-human-v0",
    )} == {
        "hopper-medium-v2": "gym_mujoco_v2/hopper_medium-v2.hdf5",
        "walker2d-medium-replay-v0": "gym_mujoco/walker_mixed.hdf5",
        "maze2d-umaze-v1": "maze2d/maze2d-umaze-sparse-v1.hdf5",
        "antmaze-umaze-v2": "ant_maze_v2/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5",
        "antmaze-large-play-v0": "ant_maze_new/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse.hdf5",
        "kitchen-complete-v0": "kitchen/mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
        "pen-human-v1": "hand_dapg_v1/pen-human-v1.hdf5",
        "pen-human-v0": "hand_dapg/pen-v0_demos_clipped.hdf5",
    }  # fmt: skip
    with pytest.raises(UserError, match="'pen-human-v7' is not a D4RL dataset; available: pen-cloned-v0, "):
        d4rl_facts.facts("pen-human-v7")


@pytest.fixture
def installed_d4rl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that must not be imported, like d4rl, which needs an old simulator."""
    package = tmp_path / "site" / "d4rl"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no simulator')")
    tables = {"DATASET_URLS": {"hopper-medium-v2": "http://other/h.hdf5", "new-v9": "http://other/n.hdf5"}}
    tables |= {"REF_MIN_SCORE": {"hopper-medium-v2": 1.0}, "REF_MAX_SCORE": {"hopper-medium-v2": 2.0}}
    (package / "infos.py").write_text("\n".join(f"{name} = {table!r}" for name, table in tables.items()))
    monkeypatch.syspath_prepend(package.parent)
    d4rl_facts.published.cache_clear()
    yield
    d4rl_facts.published.cache_clear()


@pytest.mark.usefixtures("installed_d4rl")
def test_installed_d4rl_overrides_published_facts():
    known = d4rl_facts.facts("hopper-medium-v2")
    assert (known.url, known.ref_min_score, known.ref_max_score) == ("http://other/h.hdf5", 1.0, 2.0)
    assert d4rl_facts.facts("new-v9").ref_max_score is None
    assert d4rl_facts.facts("pen-human-v1").url.endswith("pen-human-v1.hdf5")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the local address that serves it; the cache of the d4rl package is empty."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def send_header(self, keyword: str, value: str) -> None:
            promised_too_much = keyword == "Content-Length" and "short" in self.path
            super().send_header(keyword, f"{value}9" if promised_too_much else value)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served"))) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_dataset_is_downloaded_once_with_progress(write, server, tmp_path):
    served, address = server
    content = write(arrays(*EPISODES)).read_bytes()
    (served / "x.hdf5").write_bytes(content)
    heard: list[tuple[int, int | None]] = []
    target = tmp_path / "data" / "hopper.hdf5"
    url = f"{address}/x.hdf5"
    assert fetch("hopper-medium-v2", target, url=url, on_bytes=lambda *bytes_: heard.append(bytes_)) == target
    assert target.read_bytes() == content
    assert heard[-1] == (len(content), len(content))
    (served / "x.hdf5").unlink()
    assert fetch("hopper-medium-v2", target, url=url) == target
    assert [path.name for path in target.parent.iterdir()] == ["hopper.hdf5"]


@pytest.mark.parametrize("file", ["missing.hdf5", "page.hdf5", "short.hdf5"])
def test_failed_download_leaves_no_file_and_names_the_remedy(write, server, tmp_path, file):
    served, address = server
    (served / "page.hdf5").write_text("<html>Please log in</html>")
    (served / "short.hdf5").write_bytes(write(arrays(*EPISODES)).read_bytes())
    message = {
        "missing.hdf5": "404.*by hand to .*target.hdf5",
        "page.hdf5": "did not return an HDF5 file",
        "short.hdf5": "the download failed",
    }[file]
    with pytest.raises(UserError, match=rf"{address}/{file}: .*{message}") as caught:
        fetch("hopper-medium-v2", tmp_path / "data" / "target.hdf5", url=f"{address}/{file}")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.usefixtures("server")
def test_address_without_a_server_or_with_another_scheme_is_refused(tmp_path):
    with pytest.raises(UserError, match="file:///etc/passwd: not an http or https address"):
        fetch("hopper-medium-v2", tmp_path / "x.hdf5", url="file:///etc/passwd")
    with pytest.raises(UserError, match=r"http://127.0.0.1:1/x.hdf5: the download failed"):
        fetch("hopper-medium-v2", tmp_path / "x.hdf5", url="http://127.0.0.1:1/x.hdf5")


def test_missing_file_without_dataset_id_is_refused(write):
    path = write(arrays(*EPISODES))
    assert fetch(None, path) == path
    with pytest.raises(UserError, match=r"nowhere.hdf5: no such file; .*path"):
        fetch(None, path.with_name("nowhere.hdf5"))


@pytest.mark.usefixtures("server")
def test_download_of_the_d4rl_package_is_copied(write, tmp_path):
    cached = tmp_path / "cache" / "hopper_medium-v2.hdf5"
    cached.parent.mkdir()
    write(arrays(*EPISODES)).rename(cached)
    target = fetch("hopper-medium-v2", tmp_path / "data" / "h.hdf5")
    assert target.read_bytes() == cached.read_bytes()
    cached.write_bytes(cached.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"hopper_medium-v2.hdf5: unreadable, truncated or not HDF5"):
        fetch("hopper-medium-v2", tmp_path / "data" / "other.hdf5")
