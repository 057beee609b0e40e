"""Specifications of observations and actions."""

import json

import pytest
import torch

from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec, VectorStatistics
from tests.builders import patched_spec, tiny_spec

UNEVEN = ActionSpec(3, discrete=False, low=(-2.0, 0.0, 10.0), high=(2.0, 1.0, 30.0))


def test_normalize_maps_the_bounds_to_minus_one_and_one() -> None:
    rows = torch.tensor([UNEVEN.low, UNEVEN.high, (0.0, 0.5, 20.0), (1.0, 0.25, 15.0)])
    expected = torch.tensor([[-1.0] * 3, [1.0] * 3, [0.0] * 3, [0.5, -0.5, -0.5]])
    assert torch.equal(UNEVEN.normalize(rows), expected)


def test_denormalize_is_the_inverse_of_normalize() -> None:
    action = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    there = UNEVEN.denormalize(action)
    assert not torch.allclose(there, action)
    torch.testing.assert_close(UNEVEN.normalize(there), action, rtol=0, atol=1e-14)
    low, high = torch.tensor(UNEVEN.low), torch.tensor(UNEVEN.high)
    assert ((there >= low) & (there <= high)).all()


@pytest.mark.parametrize(
    "spec",
    [
        ActionSpec(2, discrete=False, low=(-1.0, 0.0), high=(5.0, float("inf"))),
        ActionSpec(2, discrete=True, low=(0.0, 0.0), high=(1.0, 1.0)),
    ],
    ids=["unbounded", "one_hot"],
)
def test_normalize_leaves_unbounded_and_one_hot_actions_unchanged(spec: ActionSpec) -> None:
    action = torch.tensor([[0.25, 1.0]])
    assert torch.equal(spec.normalize(action), action)
    assert torch.equal(spec.denormalize(action), action)


def test_action_spec_refuses_a_wrong_number_of_bounds() -> None:
    with pytest.raises(ValueError, match="size 2"):
        ActionSpec(2, discrete=False, low=(0.0,), high=(1.0, 1.0))


@pytest.mark.parametrize(
    "spec",
    [
        tiny_spec(),
        patched_spec(),
        DataSpec(
            observations={"camera.front": ArraySpec((8, 8, 1), "uint8")},
            action=ActionSpec(2, discrete=False, low=(float("-inf"), 0.1), high=(float("inf"), 0.3)),
            privileged={},
            statistics={"x": VectorStatistics((0.1, 1e-30), (1 / 3, 7.0))},
        ),
    ],
    ids=["bounded", "patches", "unbounded"],
)
def test_data_spec_survives_a_json_round_trip(spec: DataSpec) -> None:
    again = DataSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again.action) == hash(spec.action)  # tuples again, not lists


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [((8, 8, 3), "uint8", True), ((8, 8, 3), "float32", False), ((8, 8), "uint8", False), ((3,), "float32", False)],
)
def test_is_image_requires_three_axes_of_bytes(shape: tuple[int, ...], dtype: str, image: bool) -> None:
    assert ArraySpec(shape, dtype).is_image is image


def test_json_mentions_encoders_only_for_patch_features() -> None:
    """Descriptions without patch features are the same bytes as before there were any."""
    observations = patched_spec().to_json()["observations"]
    assert {name for name, array in observations.items() if "encoder" in array} == {"patches"}
