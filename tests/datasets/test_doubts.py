"""Each doubt about a store appears for the data that raise it, names a setting that exists, and else stays silent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.doubts import doubts, ignored_columns
from dreamset.datasets.episode import Lost
from dreamset.datasets.sources import SourceDescription
from tests.pipeline.test_message_keys import wrong

ROWS = 40
NOTHING = Lost()
BOX = ActionSpec(2, discrete=False, low=(-1.0, -1.0), high=(1.0, 1.0))


@dataclass(frozen=True)
class Episodes:
    """Two plausible episodes with a true end each; the fields are what a test changes."""

    state: Callable[[np.ndarray], np.ndarray] = lambda state: state
    actions: Callable[[np.ndarray], np.ndarray] = lambda actions: actions
    rewards: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards
    action: ActionSpec = BOX
    terminated: bool = True
    lost: Lost = NOTHING
    provenance: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    episode_count: int = 2

    def describe(self) -> SourceDescription:
        state = {"state": ArraySpec((3,), "float32")}
        return SourceDescription(state, {}, self.action, {"format": "memory", **self.provenance}, self.doubts)

    def read(self, number: int) -> RawEpisode:
        random = np.random.default_rng(number)
        state = self.state(random.standard_normal((ROWS + 1, 3))).astype(np.float32)
        actions = self.actions(random.uniform(-1, 1, (ROWS, 2))).astype(np.float32)
        rewards = self.rewards(random.random(ROWS))
        return RawEpisode(f"episode {number}", {"state": state}, actions, rewards, self.terminated, {}, self.lost)


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Store]:
    return lambda **changes: write_store(Episodes(**changes), tmp_path / "store")


def test_plausible_data_raise_no_doubt(store: Callable[..., Store]) -> None:
    assert doubts(store().info) == []


def test_a_dataset_without_true_ends_raises_no_doubt(store: Callable[..., Store]) -> None:
    assert doubts(store(terminated=False, provenance={"ignored_columns": {"infos/qpos": "not selected"}}).info) == []


def changed(element: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Sets one element of one row."""

    def change(rows: np.ndarray) -> np.ndarray:
        rows[3, element] = value
        return rows

    return change


def named(*columns: str, **settings: Any) -> dict[str, Any]:
    return {"ignored_columns": dict.fromkeys(columns, "not named in the settings"), **settings}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no reward": ({"rewards": np.zeros_like}, "every reward is 0, so no behaviour can be learned from it; compute"),
    "reward of another name": (
        {"rewards": np.zeros_like, "provenance": named("obs", "sparse_rewards", reward=None)},
        "set dataset.source.reward to sparse_rewards",
    ),
    "reward that the reader cannot name": (
        {"rewards": np.zeros_like, "provenance": named("env/rew")},
        "although 'env/rew' is among the ignored columns",
    ),
    "ends of another name": (
        {"terminated": False, "provenance": named("Dones", terminal=None)},
        "the column 'Dones' is ignored; if it marks true ends, set dataset.source.terminal to Dones",
    ),
    "success instead of ends": (
        {"terminated": False, "provenance": named("next/success")},
        "the column 'next/success' is ignored; if it marks true ends, name it in the settings",
    ),
    "time limits within files": (
        {"terminated": False, "provenance": named("timeouts", boundaries={})},
        "set dataset.source.boundaries to {ends: [timeouts]}",
    ),
    "true ends left out": (
        {"terminated": False, "lost": Lost(1, 0.0, True)},
        "which are left out, hold 2 of 2 true ends; set dataset.source.final_transition to repeat",
    ),
    "reward left out": (
        {
            "rewards": lambda rewards: 0 * rewards + 0.01,
            "lost": Lost(1, -1.0, False),
            "provenance": {"next_observations": {}},
        },
        "hold a reward of -2 (kept: 0.8); set dataset.source.final_transition to repeat, or name the columns of the "
        "next observations in dataset.source.next_observations",
    ),
    "every reward and true end left out": (
        {"rewards": np.zeros_like, "terminated": False, "lost": Lost(1, 1.0, True)},
        "the last transitions, which are left out, hold 2 of 2 true ends and a reward of 2 (kept: 0); set",
    ),
    "reward column of zeros": (
        {"rewards": np.zeros_like, "provenance": {"reward": "rewards"}},
        "set dataset.source.reward to another column",
    ),
    "huge rewards": ({"rewards": lambda rewards: -500 - rewards}, "rewards reach -501"),
    "constant observation": ({"state": lambda state: 0 * state + 5}, "observation 'state' never changes"),
    "far observation": (
        {"state": changed(1, -2e4)},
        "observation 'state' reaches -2e+04 in element 1; check the column",
    ),
    "actions that are all 0": ({"actions": np.zeros_like}, "every action is 0"),
    "narrow actions": (
        {"actions": lambda actions: actions * [1, 0.02]},
        "less than 5% of the allowed range of the action is used in element 1; if the reader has",
    ),
    "one choice": (
        {
            "actions": lambda actions: 0 * actions + [0, 1],
            "action": ActionSpec(2, discrete=True, low=(0.0, 0.0), high=(1.0, 1.0)),
        },
        "only 1 of 2 actions is ever taken",
    ),
    "clipped actions": (
        {
            "actions": lambda actions: np.clip(3 * actions, -1, 1),
            "provenance": {"transforms": [{"transform": "ClipActions"}]},
        },
        "of the action values lie on a bound after ClipActions",
    ),
    "doubt of the reader": ({"doubts": ("'image' is read as a vector",)}, "'image' is read as a vector"),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES)
def test_suspicious_data_raise_exactly_one_doubt(
    store: Callable[..., Store], changes: dict[str, Any], expected: str
) -> None:
    (sentence,) = doubts(store(**changes).info)
    assert expected in sentence
    assert wrong(sentence) == []


def test_outlier_is_far_in_standard_deviations(store: Callable[..., Store]) -> None:
    info = store(state=changed(2, 90.0)).info
    assert doubts(info) == []
    info["spec"]["statistics"]["state"] = {"mean": [0.0, 0.0, 1.0], "std": [1.0, 1.0, 0.5]}  # as of many more rows
    (sentence,) = doubts(info)
    assert sentence.startswith("observation 'state' reaches 90 in element 2, 178 standard deviations from its mean")


def test_clipped_share_needs_the_transform(store: Callable[..., Store]) -> None:
    assert doubts(store(actions=lambda actions: np.clip(3 * actions, -1, 1)).info) == []


def test_relabelled_or_named_rewards_raise_no_doubt_about_others(store: Callable[..., Store]) -> None:
    assert doubts(store(provenance=named("other_reward", "done", reward="reward", terminal="t")).info) == []


def test_older_stores_tell_only_the_doubts_of_their_reader(store: Callable[..., Store]) -> None:
    info = dict(store(rewards=np.zeros_like).info)
    del info["seen"], info["doubts"], info["lost"]
    assert doubts(info) == []


def test_ignored_columns_of_merged_stores_count_and_unknown_forms_do_not() -> None:
    parts = [{"ignored_columns": {"a": "text"}}, {"ignored_infos": {"b": "text"}, "ignored_columns": ["c"]}]
    assert ignored_columns({"format": "merged", "parts": parts}) == {"a": "text", "b": "text"}
    assert ignored_columns({"format": "my own", "parts": 3}) == {}
