"""Several sources in one dataset, and transforms that mark episodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import Store, write_store
from dreamset.datasets.sources.actions import UNKNOWN_SPACE
from dreamset.datasets.sources.mapped import MappedSource
from dreamset.datasets.sources.parts import Parts
from dreamset.datasets.transforms import Demonstrations, FoldActions, WithoutActions
from tests.datasets.conftest import CounterSource


def save(folder: Path, number: int, transitions: int, *, acted: bool = True) -> Path:
    """Writes the counting episode of two numbers as a file, with or without actions and rewards."""
    count = 1000.0 * number + np.arange(transitions + 1, dtype=np.float32)
    columns = {"x": np.stack([count, -count], axis=1)}
    if acted:
        columns |= {"act": np.stack([count[:-1], count[:-1]], axis=1) % 7 / 7, "rew": count[:-1] + 0.5}
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{number}.npz", **columns)
    return folder


def mapped(folder: Path, **changes: Any) -> MappedSource:
    roles: dict[str, Any] = {"observations": {"state": "x"}, "action": "act", "reward": "rew", "terminal": None}
    return MappedSource(folder, **roles | changes)


def video(folder: Path, **changes: Any) -> MappedSource:
    return mapped(folder, action=None, reward=None, **changes)


def test_action_null_reads_episodes_without_actions(tmp_path):
    source = video(save(tmp_path / "videos", 3, 5, acted=False), action_size=2, action_high=[1.0, 4.0])
    assert source.describe().action == ActionSpec(2, False, (-1.0, -1.0), (1.0, 4.0))
    raw = source.read(0)
    assert raw.actions is None
    assert len(raw.rewards) == 5
    np.testing.assert_array_equal(raw.observations["state"][:, 0], 3000 + np.arange(6))


def test_action_null_keeps_recorded_rewards_at_their_transitions(tmp_path):
    raw = mapped(save(tmp_path / "data", 1, 4), action=None).read(0)
    assert raw.actions is None
    np.testing.assert_array_equal(raw.rewards, 1000.5 + np.arange(4))


def test_discrete_gives_the_size_of_the_missing_action(tmp_path):
    folder = save(tmp_path / "videos", 3, 5, acted=False)
    assert video(folder, discrete=3).describe().action == ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match="discrete is 3 and action_size 2"):
        video(folder, discrete=3, action_size=2)
    with pytest.raises(UserError, match="action_size is 2, but the column 'act' tells the size"):
        mapped(save(tmp_path / "data", 1, 4), action_size=2)


def test_missing_action_column_is_an_error_that_names_the_setting(tmp_path):
    with pytest.raises(
        UserError, match=r"'act' is missing; .*set dataset.source.action to .* or to null if no actions"
    ):
        mapped(save(tmp_path / "videos", 3, 5, acted=False), reward=None)


def test_unknown_action_space_is_refused_before_anything_is_written(tmp_path):
    source = video(save(tmp_path / "videos", 3, 5, acted=False))
    assert source.describe().action == UNKNOWN_SPACE
    with pytest.raises(UserError, match=r"action space is unknown; set dataset\.source\.action_size"):
        write_store(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_parts_are_marked_and_take_the_action_space_of_the_others(tmp_path):
    for number in (0, 1):
        save(tmp_path / "expert", number, 4)
        save(tmp_path / "novice", 2 + number, 5)
        save(tmp_path / "videos", 4 + number, 6, acted=False)
        save(tmp_path / "foreign", 6 + number, 3)
    parts = Parts(
        {
            "videos": {"source": video(tmp_path / "videos")},
            "expert": {"source": mapped(tmp_path / "expert")},
            "novice": {"source": mapped(tmp_path / "novice"), "demonstration": False},
            "foreign": {"source": mapped(tmp_path / "foreign"), "acted": False, "demonstration": False},
        }
    )
    store = write_store(parts, tmp_path / "store")
    assert store.spec.action == ActionSpec(2, False, (-1.0, -1.0), (1.0, 1.0))
    assert store.acted.tolist() == [False, False, True, True, True, True, False, False]
    assert store.demonstration.tolist() == [True, True, True, True, False, False, False, False]
    assert [store.read(number)["state"][0, 0] // 1000 for number in range(8)] == [4, 5, 0, 1, 2, 3, 6, 7]
    assert not store.read(6)["action"].any()
    told = [(part["part"], part["acted"], part["demonstration"]) for part in store.info["source"]["parts"]]
    assert told == [
        ("videos", False, True),
        ("expert", True, True),
        ("novice", True, False),
        ("foreign", False, False),
    ]


def test_part_has_transforms_of_its_own():
    parts = Parts(
        {
            "slow": {"source": CounterSource((8,)), "transforms": [FoldActions(2)]},
            "fast": {"source": CounterSource((3,))},
        }
    )
    assert [len(parts.read(number).rewards) for number in range(parts.episode_count)] == [4, 3]


def test_parts_with_other_actions_are_refused_by_name(tmp_path):
    save(tmp_path / "a", 0, 4)
    other = mapped(save(tmp_path / "b", 1, 4), action_high=2.0)
    with pytest.raises(UserError, match=r"part 'b' of dataset.source.parts: its action are .*those of part 'a'"):
        Parts({"a": {"source": mapped(tmp_path / "a")}, "b": {"source": other}})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "dataset.source.parts is empty"),
        ({"a": {"acted": False}}, "dataset.source.parts.a has no source; allowed: source, transforms, acted, demon"),
        ({"a": {"source": CounterSource((3,)), "actions": False}}, r"a has the unknown settings \['actions'\]"),
    ],
)
def test_invalid_part_error_names_the_allowed_settings(parts, message):
    with pytest.raises(UserError, match=message):
        Parts(parts)


def test_reference_scores_are_those_of_the_parts_with_actions():
    class Scored(CounterSource):
        def describe(self):
            description = super().describe()
            return replace(description, provenance={**description.provenance, "ref_min_score": 1.0})

    scored, plain = {"source": Scored((3,))}, {"source": CounterSource((4,))}
    assert Parts({"a": scored, "b": {**plain, "acted": False}}).describe().provenance["ref_min_score"] == 1.0
    assert "ref_min_score" not in Parts({"a": scored, "b": plain}).describe().provenance


def marks(source: Any) -> tuple[list[bool], list[bool]]:
    episodes = [source.read(number) for number in range(source.episode_count)]
    return [raw.actions is not None for raw in episodes], [raw.demonstration for raw in episodes]


def test_without_actions_keeps_those_of_as_many_seeded_episodes():
    source = CounterSource([3] * 10)
    acted, demonstration = marks(WithoutActions(keep=4, seed=1)(source))
    assert sum(acted) == 4
    assert all(demonstration)
    assert acted == marks(WithoutActions(keep=4, seed=1)(source))[0]
    assert acted != marks(WithoutActions(keep=4, seed=2)(source))[0]
    described = WithoutActions(keep=4, seed=1)(source).describe().provenance["transforms"][-1]
    assert described == {
        "transform": "WithoutActions",
        "keep": 4,
        "seed": 1,
        "kept": [number for number, known in enumerate(acted) if known],
    }
    more = marks(WithoutActions(keep=6, seed=1)(source))[0]
    assert all(known for known, before in zip(more, acted, strict=True) if before)  # fewer are a part of more
    with pytest.raises(UserError, match="keep is 11; allowed: 0 to 10"):
        WithoutActions(keep=11)(source)


def test_demonstrations_are_the_highest_returns_or_drawn_from_a_seed():
    def turned(number, raw):
        return replace(raw, rewards=raw.rewards * (-1 if number == 3 else 1))

    source = CounterSource([3] * 5, turned)  # the return rises with the number, but for the fourth episode
    assert marks(Demonstrations(2)(source)) == ([True] * 5, [False, False, True, False, True])
    drawn = [tuple(marks(Demonstrations(2, seed=seed)(source))[1]) for seed in range(6)]
    assert {sum(marks) for marks in drawn} == {2}
    assert len(set(drawn)) > 1
    assert marks(Demonstrations(0)(source))[1] == [False] * 5
    with pytest.raises(UserError, match="Demonstrations: episodes is -1; allowed: 0 to 5"):
        Demonstrations(-1)(source)


def test_marks_of_several_transforms_add_up(tmp_path):
    source = Demonstrations(2)(WithoutActions(keep=1, seed=0)(CounterSource([3] * 4)))
    store: Store = write_store(source, tmp_path / "store")
    assert store.acted.sum() == 1
    assert store.demonstration.tolist() == [False, False, True, True]
    assert [step["transform"] for step in store.info["source"]["transforms"]] == ["WithoutActions", "Demonstrations"]
