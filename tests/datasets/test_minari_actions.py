"""Every action space of Minari becomes one vector: concatenated numbers or one joint choice."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.datasets import MinariSource, write_store
from dreamset.datasets.sources.minari.actions import action_decoder

ONE = spaces.Box(-np.inf, np.inf, (1,), np.float64)
every_layout = pytest.mark.parametrize("layout", ["hdf5", "arrow", "parquet"])


def box(*shape: int, low: float = -1.0, high: float = 1.0) -> spaces.Box:
    return spaces.Box(low, high, shape, np.float32)


@pytest.fixture
def recorded(record, minari_counter):
    """The source of two equal episodes of three transitions with these actions."""

    def write(actions: Any, space: spaces.Space[Any], layout: str = "hdf5") -> MinariSource:
        episodes = [{**minari_counter(number, 3), "actions": actions} for number in range(2)]
        return MinariSource(record(episodes, ONE, space, data_format=layout))

    return write


def decoded(source: MinariSource) -> list[int]:
    rows = source.read(1).actions
    assert rows.dtype == np.float32
    assert (rows.sum(axis=1) == 1).all()
    return rows.argmax(axis=1).tolist()


def one_hot(size: int) -> ActionSpec:
    return ActionSpec(size, discrete=True, low=(0.0,) * size, high=(1.0,) * size)


@every_layout
def test_several_choices_are_numbered_in_c_order(recorded, layout, tmp_path):
    source = recorded(np.array([[0, 2], [1, 0], [1, 2]]), spaces.MultiDiscrete([2, 3]), layout)
    assert source.describe().action == one_hot(6)
    assert decoded(source) == [2, 3, 5]
    assert source.describe().provenance["actions"]["parts"] == [{"name": "", "choices": [2, 3], "start": [0, 0]}]
    store = write_store(source, tmp_path / "store")
    assert store.read(0)["action"].argmax(axis=1).tolist() == [0, 2, 3, 5]


def test_several_choices_with_own_starts_and_axes_are_decoded(recorded):
    space = spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[5, -1], [0, 7]])
    source = recorded(np.array([[[5, -1], [0, 7]], [[5, 0], [0, 8]], [[6, 1], [0, 8]]]), space)
    assert source.describe().action.size == 12
    assert decoded(source) == [0, 3, 11]
    assert source.describe().provenance["actions"]["parts"][0]["start"] == [5, -1, 0, 7]


@every_layout
def test_multi_binary_actions_are_binary_numbers(recorded, layout):
    source = recorded(np.array([[0, 0, 1], [1, 0, 0], [1, 1, 1]], np.int8), spaces.MultiBinary(3), layout)
    assert source.describe().action == one_hot(8)
    assert decoded(source) == [1, 4, 7]


@every_layout
def test_nested_choices_are_combined_in_the_order_of_the_space(recorded, layout):
    space = spaces.Tuple((spaces.Discrete(2, start=1), spaces.Dict(b=spaces.MultiBinary(1), a=spaces.Discrete(3))))
    actions = (np.array([1, 2, 2]), {"a": np.array([2, 0, 1]), "b": np.array([[1], [0], [1]], np.int8)})
    source = recorded(actions, space, layout)
    assert decoded(source) == [0 * 6 + 1 * 3 + 2, 1 * 6 + 0 * 3 + 0, 1 * 6 + 1 * 3 + 1]
    assert source.describe().provenance["actions"] == {
        "kind": "one-hot among all combinations, of which the last choice changes fastest",
        "parts": [
            {"name": "_index_0", "choices": [2], "start": [1]},
            {"name": "_index_1.b", "choices": [2], "start": [0]},
            {"name": "_index_1.a", "choices": [3], "start": [0]},
        ],
    }


@every_layout
def test_nested_boxes_are_concatenated_in_the_order_of_the_space(recorded, layout):
    space = spaces.Dict(wrist=box(2, 2, high=5.0), arm=spaces.Tuple((box(1, low=-3.0), box())))
    wrist = np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 4
    arm = (np.float32([[-3], [-2], [-1]]), np.float32([0.25, 0.5, 0.75]))
    source = recorded({"wrist": wrist, "arm": arm}, space, layout)
    wanted = np.concatenate([wrist.reshape(3, 4), arm[0], arm[1][:, None]], axis=1)
    assert source.read(1).actions.tolist() == wanted.tolist()
    assert source.describe().action == ActionSpec(6, False, (*[-1.0] * 4, -3.0, -1.0), (*[5.0] * 4, 1.0, 1.0))
    assert source.describe().provenance["actions"] == {
        "kind": "numbers, side by side",
        "parts": [
            {"name": "wrist", "shape": [2, 2]},
            {"name": "arm._index_0", "shape": [1]},
            {"name": "arm._index_1", "shape": []},
        ],
    }


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0, 0], [1, 3], [0, 0]], r"episode_1 of .*'actions' is 3 at step 1, element \[1\]; allowed: 0 to 2"),
        ([[0, 0], [0, 0], [-1, 0]], r"'actions' is -1 at step 2, element \[0\]; allowed: 0 to 1"),
    ],
)
def test_choice_outside_its_space_is_named(recorded, actions, message):
    with pytest.raises(UserError, match=message):
        recorded(np.array(actions), spaces.MultiDiscrete([2, 3])).read(1)


def test_fractional_choices_are_refused():
    decoder = action_decoder({"type": "Tuple", "subspaces": [{"type": "Discrete", "n": 2}]}, "here")
    assert decoder.decode([np.array([[1], [0]])], "here").tolist() == [[0, 1], [1, 0]]
    with pytest.raises(UserError, match=r"there: 'actions/_index_0' holds float64\[\] per row, its space"):
        decoder.decode([np.array([0.5])], "there")


DISCRETE = {"type": "Discrete", "n": 2, "start": 0}
BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"type": "Dict", "subspaces": {"a": BOX, "b": DISCRETE}}, "here: the action space mixes Box with Discrete"),
        ({"type": "Tuple", "subspaces": [DISCRETE, {"type": "Text"}]}, "has Discrete and Text; supported: Box"),
        ({"type": "Dict", "subspaces": {}}, "has no part; supported: Box"),
        ({"type": "MultiDiscrete", "nvec": [64, 65]}, "has 64 x 65 combinations; allowed: 1 to 4096"),
        ({"type": "MultiBinary", "n": 13}, r"has 2 x 2 x 2 x 2 x 2 x 2 x 2 x 2 x \.\.\. combinations"),
        ({"type": "MultiBinary", "n": 10**9}, "a MultiBinary of shape .* allowed: 1 to"),
        ({"type": "MultiDiscrete", "nvec": [3, 0]}, "has 3 x 0 combinations"),
        ({"type": "Box", "shape": [0], "dtype": "float32", "low": [], "high": []}, r"a Box of shape \[0\]"),
    ],
)
def test_unsupported_action_space_is_refused(space, message):
    with pytest.raises(UserError, match=message):
        _ = action_decoder(space, "here").spec


def test_maximum_number_of_combinations_is_accepted():
    assert action_decoder({"type": "MultiBinary", "n": 12}, "here").spec.size == 4096
    assert action_decoder({"type": "Discrete", "n": 5000}, "here").spec.size == 5000
