"""Which arrays are images is the same rule in every reader and in environments; what only looks like one is a doubt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import yaml
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, write_store
from dreamset.datasets.sources.base import Source
from dreamset.datasets.sources.d4rl.source import D4RLSource
from dreamset.datasets.sources.dreamer import DreamerSource, DreamerV3Source, VD4RLSource
from dreamset.datasets.sources.mapped import MappedSource
from dreamset.datasets.transforms import AsImage, SelectColumns
from dreamset.environments.gym import adapt

ROWS = 4
LAST = np.arange(ROWS) == ROWS - 1
ROLES: dict[str, Any] = {"observations": {"image": "image"}, "action": "action", "reward": "reward", "terminal": None}
ACTION = spaces.Box(-1, 1, (1,), np.float32)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (ROWS, *shape), np.uint8)


def columns(image: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "image": image,
        "action": np.zeros((ROWS, 1), np.float32),
        "reward": np.ones(ROWS, np.float32),
        "is_first": np.arange(ROWS) == 0,
        "is_last": LAST,
        "is_terminal": LAST,
    }


def npz(folder: Path, image: np.ndarray) -> Path:
    np.savez(folder / f"20240101T000000-a-b-{ROWS}.npz", **columns(image))
    return folder


def d4rl(folder: Path, image: np.ndarray) -> Path:
    names = {"image": "observations", "action": "actions", "reward": "rewards", "is_terminal": "terminals"}
    with h5py.File(folder / "data.hdf5", "w") as file:
        for old, new in names.items():
            file[new] = columns(image)[old]
    return folder / "data.hdf5"


def shards(folder: Path, image: np.ndarray) -> Path:
    with h5py.File(folder / "0.hdf5", "w") as file:
        file["observation"], file["action"], file["reward"] = list(columns(image).values())[:3]
        file["discount"], file["step_type"] = np.ones(ROWS), np.minimum(np.arange(ROWS), 1) + LAST
    return folder


READERS: dict[str, tuple[Callable[[Path, np.ndarray], Path], Callable[[Path], Source]]] = {
    "mapped": (npz, lambda path: MappedSource(path, **ROLES)),
    "dreamer": (npz, DreamerSource),
    "dreamer v3": (npz, DreamerV3Source),
    "vd4rl": (shards, VD4RLSource),
    "d4rl": (d4rl, lambda path: D4RLSource(path, final_transition="repeat")),
}


@pytest.fixture
def minari(record) -> Callable[..., MinariSource]:
    def write(image: np.ndarray, space: gymnasium.Space[Any], layout: str = "hdf5") -> MinariSource:
        flags = {"terminations": LAST[1:].tolist(), "truncations": [False] * (ROWS - 1)}
        episode = {"actions": np.zeros((ROWS - 1, 1), np.float32), "rewards": [1.0] * (ROWS - 1), **flags}
        return MinariSource(record([{**episode, "observations": image}], space, ACTION, data_format=layout))

    return write


SHAPES = {  # stored -> the same as [rows, H, W, C]
    (40, 36, 3): lambda x: x,
    (3, 40, 36): lambda x: np.moveaxis(x, 1, -1),
    (2, 40, 36): lambda x: np.moveaxis(x, 1, -1),
    (5, 40, 36): lambda x: np.moveaxis(x, 1, -1),
    (40, 36): lambda x: x[..., None],
    (4, 40, 36, 1): lambda x: np.stack([x[:, k, :, :, 0] for k in range(4)], -1),
    (3, 40, 36, 3): lambda x: np.concatenate([x[:, k] for k in range(3)], -1),
}


def about_images(source: Any) -> list[str]:
    """The doubts of a source, without those about ends and alignment: the files here are too short for these."""
    return [doubt for doubt in source.describe().doubts if " may be images: " in doubt]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reader", READERS)
def test_bytes_are_images_with_channels_last(tmp_path, reader, shape):
    write, source_of = READERS[reader]
    image = pixels(*shape)
    source = source_of(write(tmp_path, image))
    wanted = SHAPES[shape](image)
    actual = source.read(0).observations["image"]
    np.testing.assert_array_equal(actual[:ROWS], wanted)
    assert source.describe().observations["image"].shape == wanted.shape[1:]
    assert not about_images(source)


@pytest.mark.parametrize("layout", ["hdf5", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_recording_and_environment_agree_on_images(minari, shape, layout):
    image = pixels(*shape)
    space = spaces.Box(0, 255, shape, np.uint8)
    wanted = SHAPES[shape](image)
    recorded = minari(image, space, layout).read(0).observations["image"]
    np.testing.assert_array_equal(recorded, wanted)

    class Shown(gymnasium.Env[np.ndarray, np.ndarray]):
        observation_space, action_space = space, ACTION

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
            return image[0], {}

    environment = adapt(Shown(), "Shown-v0")
    observation, _ = environment.reset()
    np.testing.assert_array_equal(observation["image"], wanted[0])
    assert environment.observation_space["image"].shape == wanted.shape[1:]


def test_images_of_another_size_are_named_by_their_episode(tmp_path):
    for number, height in enumerate((40, 40, 36)):
        np.savez(tmp_path / f"{number}.npz", **columns(pixels(height, 40, 3, seed=number)))
    source = MappedSource(tmp_path, **ROLES)
    with pytest.raises(
        UserError, match=r"^episode 2 of .*'image' holds uint8\[36, 40, 3\] per row, expected uint8\[40, 40, 3\]"
    ):
        source.read(2)
    assert len(write_store(source, tmp_path / "store", on_invalid="quarantine").lengths) == 2


UNCLEAR = {  # what only looks like images
    "floats": pixels(40, 36, 3) / np.float32(255),
    "floats, channels first": (pixels(3, 40, 36) / 255).astype(np.float32),
    "flags": pixels(40, 36) > 127,
    "depth": pixels(40, 36, 1).astype(np.uint16) * 257,
    "flat bytes": pixels(40 * 40 * 3),
    "flat floats": (pixels(48 * 48 * 3) / 255).astype(np.float32),
}


def transform_in(doubt: str) -> AsImage:
    """The transform that a doubt advises."""
    settings = yaml.safe_load(doubt[doubt.index("{") : doubt.rindex("}") + 1])
    assert settings.pop("_target_") == "dreamset.datasets.transforms.AsImage"
    return AsImage(**settings)


@pytest.mark.parametrize("case", UNCLEAR)
@pytest.mark.parametrize("reader", READERS)
def test_likely_images_are_doubted_and_the_advised_transform_settles_it(tmp_path, reader, case):
    write, source_of = READERS[reader]
    stored = UNCLEAR[case]
    source = source_of(write(tmp_path, stored))
    (doubt,) = about_images(source)
    assert f"{stored.dtype}{list(stored.shape[1:])} per row is read as a vector of {stored[0].size} numbers" in doubt
    images = transform_in(doubt)(source)
    assert not about_images(images)
    (column,) = {**images.describe().observations, **images.describe().privileged}.values()
    assert column.is_image
    raw = images.read(0)
    (values,) = {**raw.observations, **raw.privileged}.values()
    levels = stored.astype(np.float64) * {"f": 255, "b": 255, "u": 1}[stored.dtype.kind]
    levels /= 257 if stored.dtype == np.uint16 else 1
    order = np.moveaxis(levels, 1, -1) if case == "floats, channels first" else levels
    np.testing.assert_array_equal(values[:ROWS], np.rint(order).reshape(ROWS, *column.shape))


@pytest.mark.parametrize("layout", ["hdf5", "parquet"])
def test_spaces_of_float_images_are_doubted(minari, layout):
    image = (pixels(40, 36, 3) / 255).astype(np.float32)
    source = minari(image, spaces.Box(0, 1, (40, 36, 3), np.float32), layout)
    (doubt,) = about_images(source)
    assert doubt.startswith("'state' may be images: float32[40, 36, 3] per row is read as a vector of 4320 numbers")
    actual = transform_in(doubt)(source).read(0).observations["state"]
    np.testing.assert_array_equal(actual, np.rint(image * 255))


def test_doubt_about_an_unused_column_is_not_told(tmp_path):
    values = columns(pixels(40, 36, 3) / 255)
    np.savez(tmp_path / "0.npz", **values, position=np.zeros((ROWS, 2)))
    observations = {"image": "image", "position": "position"}
    assert not about_images(MappedSource(tmp_path, **{**ROLES, "observations": {"position": "position"}}))
    source = MappedSource(tmp_path, **{**ROLES, "observations": observations})
    assert len(about_images(source)) == 1
    assert len(about_images(SelectColumns(["position", "image"])(source))) == 1
    assert not about_images(SelectColumns(["position"])(source))


def test_small_and_plain_vectors_are_not_doubted(tmp_path):
    values = columns(np.zeros((ROWS, 31, 40)))
    np.savez(tmp_path / "0.npz", **values, long=np.zeros((ROWS, 4096)), other=np.zeros((ROWS, 9, 9, 9, 3)))
    names = {name: name for name in ("image", "long", "other")}
    assert not about_images(MappedSource(tmp_path, **{**ROLES, "observations": names}))


def test_encoded_observations_of_d4rl_name_the_reader_for_them(tmp_path):
    row = b"\x89PNG\r\n\x1a\n" + bytes(90)
    path = d4rl(tmp_path, np.stack([np.frombuffer(row, np.uint8)] * ROWS))
    with pytest.raises(UserError, match="'observations' holds JPEG or PNG files; read the file with dataset=hdf5_fol"):
        D4RLSource(path)
