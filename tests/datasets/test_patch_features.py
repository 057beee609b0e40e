"""Patch features as a column: from the transform through the store to batches, and what refuses another encoder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets import Store, write_store
from dreamset.datasets.card import summary_markdown
from dreamset.datasets.combine import merge
from dreamset.datasets.doubts import doubts
from dreamset.datasets.exports import EXPORTS
from dreamset.datasets.mixing import MixedSampler, Part
from dreamset.datasets.sampler import SequenceSampler, WindowSampler
from dreamset.datasets.sources import SourceDescription
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.summary import facts
from dreamset.datasets.transforms import Grayscale, PatchFeatures, SelectColumns, StackFrames, transformed

LABEL = "halves:00ff"


@dataclass(frozen=True)
class Halves:
    """Mean and maximum of the upper and the lower half of an image: two patches, two channels."""

    folder: str = "/somewhere"  # must not be in the provenance
    digest: str = "00ff"
    scale: float = 1.0
    name: str = "halves"
    shape: tuple[int, int] = (2, 2)

    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        halves = images.reshape(len(images), 2, -1)
        return np.stack([halves.mean(-1), halves.max(-1)], axis=-1).astype(np.float16) * np.float16(self.scale)


@pytest.fixture
def coloured(counter_source):
    """Counting episodes whose images are random [4, 4, 3]."""

    def change(number, episode):
        rows = len(episode.rewards) + 1
        images = np.random.default_rng(number).integers(0, 256, (rows, 4, 4, 3), np.uint8)
        return replace(episode, observations={**episode.observations, "image": images})

    class Coloured(counter_source):
        def describe(self) -> SourceDescription:
            described = super().describe()
            image = ArraySpec((4, 4, 3), "uint8")
            return replace(described, observations={**described.observations, "image": image})

    def make(*lengths: int):
        return Coloured(list(lengths), change)

    return make


def stored(source: Any, path: Path, encoder: Any = None, **settings: Any) -> Store:
    return write_store(PatchFeatures(encoder or Halves())(source), path, **settings)


def expected(images: NDArray[np.uint8]) -> NDArray[np.float16]:
    halves = images.reshape(len(images), 2, -1)
    return np.stack([halves.mean(-1), halves.max(-1)], axis=-1).astype(np.float16)


def test_column_holds_the_features_of_every_image(coloured, tmp_path) -> None:
    store = stored(coloured(3, 5), tmp_path / "store")
    assert store.spec.observations["patches"] == ArraySpec((2, 2), "float16", LABEL)
    for episode in range(2):
        rows = store.read(episode)
        np.testing.assert_array_equal(rows["patches"], expected(rows["image"]))
        assert rows["patches"].dtype == np.float16


def test_statistics_are_one_mean_and_one_deviation_of_the_training_rows(coloured, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("dreamset.datasets.shard_writer._BLOCK", 12)  # three rows at a time
    store = stored(coloured(3, 5, 4, 6), tmp_path / "store", validation_fraction=0.25)
    rows = np.concatenate([store.read(int(episode))["patches"] for episode in store.split("train")]).astype(np.float64)
    assert len(store.split("validation")) == 1
    statistics = store.spec.statistics["patches"]
    np.testing.assert_allclose(statistics.mean, [rows.mean()], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, [rows.std()], rtol=1e-12)
    assert len(store.spec.statistics["state"].mean) == 2


def test_manifest_names_the_encoder_and_lists_no_patch(coloured, tmp_path) -> None:
    manifest = json.loads((stored(coloured(3, 5), tmp_path / "store").path / "dataset.json").read_text())
    assert manifest["spec"]["observations"]["patches"] == {"shape": [2, 2], "dtype": "float16", "encoder": LABEL}
    assert "encoder" not in manifest["spec"]["observations"]["image"]
    assert "patches" not in manifest["seen"]["vectors"]
    (transform,) = manifest["source"]["transforms"]
    assert transform["encoder"] == {"name": "halves", "digest": "00ff", "scale": 1.0}
    assert (transform["image"], transform["name"]) == ("image", "patches")


def test_equal_encoders_in_other_folders_give_equal_stores(coloured, tmp_path) -> None:
    stores = [stored(coloured(3, 5), tmp_path / name, Halves(folder=name)) for name in ("one", "other")]
    assert stores[0].digest == stores[1].digest


def test_batches_keep_half_precision(coloured, tmp_path) -> None:
    store = stored(coloured(6, 6, 6), tmp_path / "store")
    batch = SequenceSampler(store, split="train", batch_size=4, length=3, seed=0).sample()
    assert batch.observations["patches"].dtype == torch.float16
    assert batch.observations["patches"].shape == (4, 3, 2, 2)
    images = batch.observations["image"].flatten(0, 1).numpy()
    np.testing.assert_array_equal(batch.observations["patches"].flatten(0, 1).numpy(), expected(images))


def test_image_can_be_dropped_afterwards(coloured, tmp_path) -> None:
    transforms = [PatchFeatures(Halves()), SelectColumns(observations=["patches"])]
    store = write_store(transformed(coloured(3, 5), transforms), tmp_path / "store")
    assert set(store.spec.observations) == {"patches"}


def test_store_with_features_can_be_read_and_exported(coloured, tmp_path) -> None:
    first = stored(coloured(3, 5), tmp_path / "first")
    again = write_store(StoreSource(first.path), tmp_path / "again")
    assert again.spec == first.spec
    images = {episode: first.read(episode)["image"] for episode in range(2)}
    other = write_store(SelectColumns(observations=["patches"])(StoreSource(first.path)), tmp_path / "other")
    for episode, values in images.items():
        np.testing.assert_array_equal(other.read(episode)["patches"], expected(values))
    EXPORTS["npz"](first, tmp_path / "npz", lambda: None)
    with np.load(tmp_path / "npz" / "00000000-3.npz") as arrays:
        np.testing.assert_array_equal(arrays["patches"], first.read(0)["patches"])


def test_export_to_minari_keeps_the_values(coloured, tmp_path) -> None:
    store = stored(coloured(3, 5), tmp_path / "store")
    EXPORTS["minari"](store, tmp_path / "minari", lambda: None)
    import h5py

    (file,) = (tmp_path / "minari").rglob("main_data.hdf5")
    with h5py.File(file) as content:
        np.testing.assert_array_equal(content["episode_0/observations/patches"][()], store.read(0)["patches"])


def test_features_of_another_encoder_are_neither_merged_nor_mixed(coloured, tmp_path) -> None:
    first = stored(coloured(6, 6, 6), tmp_path / "first")
    other = stored(coloured(7, 7, 7), tmp_path / "other", Halves(digest="1234"))
    with pytest.raises(UserError, match=r"patches \(float16 \[2, 2\] of the encoder halves:1234\).* halves:00ff"):
        merge([first.path, other.path], tmp_path / "merged", on_episode=lambda _: None)
    parts = [Part(WindowSampler(store, split="train", length=3), 1.0) for store in (first, other)]
    with pytest.raises(UserError, match=r"observations.patches.encoder = halves:1234, the first has halves:00ff"):
        MixedSampler(parts, batch_size=4, seed=0)


def test_card_and_summary_name_the_encoder(coloured, tmp_path) -> None:
    store = stored(coloured(3, 5), tmp_path / "store")
    assert f"patches (patch features 2 x 2 of {LABEL})" in dict(facts(store))["observations"]
    assert f"| patches | observation | 2 x 2 | float16, {LABEL} |" in summary_markdown(store)


def test_constant_features_are_doubted(coloured, tmp_path) -> None:
    store = stored(coloured(3, 5), tmp_path / "store", Halves(scale=0.0))
    assert any("'patches' never changes" in doubt for doubt in doubts(store.info))


def test_features_that_are_not_finite_are_refused_with_their_place(coloured, tmp_path) -> None:
    with pytest.raises(UserError, match=r"observation 'patches' is (inf|nan) at step 0, element \[0, 0\]"):
        stored(coloured(3, 5), tmp_path / "store", Halves(scale=np.inf))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": "depth"}, r"'depth' is no image among the observations; available: \['image'\]"),
        ({"image": "state"}, r"'state' is no image among the observations"),
        ({"name": "state"}, "the observation 'state' exists already"),
    ],
)
def test_wrong_names_are_refused(coloured, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PatchFeatures(Halves(), **settings)(coloured(3))


@pytest.mark.parametrize("before", [Grayscale(), StackFrames(2)])
def test_images_without_three_channels_are_refused_before_reading(coloured, before: Any) -> None:
    with pytest.raises(UserError, match="place PatchFeatures before the transforms Grayscale and StackFrames"):
        transformed(coloured(3), [before, PatchFeatures(Halves())])
