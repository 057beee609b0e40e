"""Splits that the data declare, as in the masks of robomimic."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import write_store
from dreamset.datasets.sources.mapped.source import MappedSource
from dreamset.datasets.store import Store
from dreamset.datasets.transforms import TopReturns

ROLES: dict[str, Any] = {
    "observations": {"state": "obs/x"},
    "action": "actions",
    "reward": "rewards",
    "terminal": None,
    "boundaries": {"groups": "data"},
    "splits": {"train": "mask/train", "validation": "mask/valid"},
}
MASKS = {"train": ["demo_0", "demo_10", "demo_3"], "valid": ["demo_2"]}


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    """Demonstrations 0 to 3 and 10; number 1 is in no mask. The reward is the number."""
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number in (0, 1, 2, 3, 10):
            group = file.create_group(f"data/demo_{number}")
            group["obs/x"] = np.full((3, 1), float(number))
            group["actions"], group["rewards"] = np.full((3, 1), number / 20), np.full(3, float(number))
        for name, members in MASKS.items():
            file[f"mask/{name}"] = np.array(members, "S")
    return tmp_path / "demos.hdf5"


def numbers(store: Store, split: str) -> list[float]:
    """The demonstrations in a split of the store."""
    return [float(store.read(int(episode))["state"][0, 0]) for episode in store.split(split)]


@pytest.mark.parametrize("kind", ["S", "variable"])
def test_episodes_are_in_the_split_of_their_mask_and_others_are_left_out(demos, tmp_path, kind):
    if kind == "variable":
        with h5py.File(demos, "a") as file:
            for name, members in MASKS.items():
                del file[f"mask/{name}"]
                file[f"mask/{name}"] = members
    source = MappedSource(demos, **ROLES)
    store = write_store(source, tmp_path / "store", validation_fraction=0.9)
    assert numbers(store, "train") == [0, 3, 10]
    assert numbers(store, "validation") == [2]
    assert store.info["split_settings"] == {"declared": True}
    assert source.describe().provenance["episodes_outside_splits"] == 1


def test_declared_split_outlives_selection_and_quarantine(demos, tmp_path):
    with h5py.File(demos, "a") as file:
        file["data/demo_3/rewards"][0] = np.nan
    source = TopReturns(percent=60)(MappedSource(demos, **ROLES))  # without demonstration 0; NaN is left to the check
    store = write_store(source, tmp_path / "store", on_invalid="quarantine")
    assert len(store.info["quarantined"]) == 1
    assert (numbers(store, "train"), numbers(store, "validation")) == ([10], [2])


def test_without_masks_the_split_is_random(demos, tmp_path):
    source = MappedSource(demos, **{**ROLES, "splits": None})
    store = write_store(source, tmp_path / "store", validation_fraction=0.4, seed=3)
    assert (len(store.split("train")), len(store.split("validation"))) == (3, 2)
    assert store.info["split_settings"] == {"validation_fraction": 0.4, "seed": 3}


def test_declared_split_without_a_valid_episode_is_refused(demos, tmp_path):
    with h5py.File(demos, "a") as file:
        file["data/demo_2/rewards"][0] = np.nan
    with pytest.raises(UserError, match="the split 'validation' that the data declare has no episode"):
        write_store(MappedSource(demos, **ROLES), tmp_path / "store", on_invalid="quarantine")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": "mask/train"}, r"splits names \['train'\]; allowed: null, or both train and validation"),
        ({"train": "mask/train", "validation": "mask/none"}, "'mask/none' is missing"),
        ({"train": "mask/train", "validation": "mask/train"}, "'demo_0' is in both lists"),
        ({"train": "mask/both", "validation": "mask/valid"}, "'demo_2' is in both lists"),
        (
            {"train": "data/demo_0/rewards", "validation": "mask/valid"},
            r"holds float64 elements of shape \[3\], expected a",
        ),
        ({"train": "mask/others", "validation": "mask/nothing"}, "list none of the 5 episodes"),
    ],
)
def test_lists_that_declare_no_split_are_refused(demos, tmp_path, splits, message):
    with h5py.File(demos, "a") as file:
        for name, members in {"both": ["demo_2", "demo_0"], "others": ["demo_77"], "nothing": []}.items():
            file[f"mask/{name}"] = np.array(members, "S8")
    with pytest.raises(UserError, match=message):
        write_store(MappedSource(demos, **{**ROLES, "splits": splits}), tmp_path / "store")


def test_splits_need_groups(demos):
    with pytest.raises(UserError, match=r"splits list names of groups, so boundaries must be \{groups: ...\}"):
        MappedSource(demos, **{**ROLES, "boundaries": None})
