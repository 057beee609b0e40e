"""Columns of JPEG and PNG files in npz and HDF5 files: decoded like raw images, or refused by episode and step."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from dreamset.core.errors import UserError
from dreamset.datasets import write_store
from dreamset.datasets.sources.codecs import ImageCodec
from dreamset.datasets.sources.dreamer import DreamerSource
from dreamset.datasets.sources.mapped import MappedSource

SHAPE = (40, 32, 3)
ROLES: dict[str, Any] = {"observations": {"image": "view"}, "action": "action", "reward": None, "terminal": None}
LENGTHS = (3, 4)


def frames(rows: int, shape: tuple[int, ...] = SHAPE, *, seed: int = 0) -> np.ndarray:
    """Smooth images, all different, which JPEG distorts little."""
    ramp = np.arange(shape[1]) * 2 + np.arange(rows)[:, None, None] * 20 + 11 * seed  # [rows, 1, W]
    return np.broadcast_to(ramp.reshape(rows, 1, -1, *[1] * (len(shape) - 2)), (rows, *shape)).astype(np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind)
    return buffer.getvalue()


def decoded(rows: Sequence[bytes], mode: str = "RGB") -> np.ndarray:
    """What the imaging library makes of the files."""
    return np.stack([np.asarray(Image.open(io.BytesIO(row)).convert(mode)) for row in rows])


def padded(rows: Sequence[bytes]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.frombuffer(row.ljust(longest, b"\0"), np.uint8) for row in rows])


def npz(path: Path, view: np.ndarray) -> None:
    np.savez_compressed(path.with_suffix(".npz"), view=view, action=np.full((len(view), 1), 0.1, np.float32))


def hdf5(path: Path, view: np.ndarray) -> None:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset("view", data=view, chunks=True, compression="gzip")
        file["action"] = np.full((len(view), 1), 0.1, np.float32)


def put_padded(path: Path, rows: Sequence[bytes], *, write: Callable[[Path, np.ndarray], None]) -> None:
    write(path, padded(rows))


def put_byte_strings(path: Path, rows: Sequence[bytes], *, write: Callable[[Path, np.ndarray], None]) -> None:
    write(path, np.array(rows, f"S{max(map(len, rows))}"))


def put_opaque(path: Path, rows: Sequence[bytes], *, write: Callable[[Path, np.ndarray], None]) -> None:
    view = padded(rows)
    write(path, view.view(f"V{view.shape[1]}")[:, 0])


def put_ragged(path: Path, rows: Sequence[bytes], *, write: Any = None) -> None:  # noqa: ARG001 - HDF5 only
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        view = file.create_dataset("view", len(rows), h5py.vlen_dtype(np.uint8))
        for step, row in enumerate(rows):
            view[step] = np.frombuffer(row, np.uint8)
        file["action"] = np.full((len(rows), 1), 0.1, np.float32)


WAYS = {
    f"{put.__name__} {write.__name__}": (put, write)
    for put in (put_padded, put_byte_strings, put_opaque)
    for write in (npz, hdf5)
} | {"put_ragged hdf5": (put_ragged, hdf5)}


def save(folder: Path, *episodes: Sequence[bytes], way: str = "put_padded npz") -> Path:
    folder.mkdir()
    put, write = WAYS[way]
    for number, rows in enumerate(episodes):
        put(folder / f"{number}", rows, write=write)
    return folder


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("way", WAYS)
def test_files_in_rows_are_decoded(tmp_path, way, kind):
    episodes = [[encode(image, kind) for image in frames(rows, seed=rows)] for rows in LENGTHS]
    source = MappedSource(save(tmp_path / "data", *episodes, way=way), **ROLES)
    assert source.describe().observations["image"].shape == SHAPE
    assert not source.describe().doubts
    for number, rows in enumerate(episodes):
        actual = source.read(number).observations["image"]
        np.testing.assert_array_equal(actual, decoded(rows))
        assert np.abs(actual.astype(int) - frames(len(rows), seed=len(rows))).max() <= (0 if kind == "PNG" else 24)


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.fromarray(frames(1, (40, 32))[0]), "L"),
        (Image.fromarray(frames(1)[0]).convert("RGBA"), "RGBA"),
        (Image.fromarray(frames(1)[0]).quantize(16), "RGB"),  # a palette
        (Image.fromarray(frames(1, (40, 32))[0]).convert("1"), "L"),  # bits
        (Image.fromarray(frames(1, (40, 32))[0]).convert("LA"), "LA"),
    ],
    ids=["grey", "alpha", "palette", "bits", "grey alpha"],
)
def test_every_kind_of_png_with_8_bits_is_decoded(tmp_path, image, mode):
    rows = [encode(image, "PNG")] * 3
    source = MappedSource(save(tmp_path / "data", rows), **ROLES)
    wanted = decoded(rows, mode).reshape(3, 40, 32, -1)
    np.testing.assert_array_equal(source.read(0).observations["image"], wanted)
    assert source.describe().observations["image"].shape == wanted.shape[1:]


def test_images_longer_than_the_head_of_a_file_are_recognised(tmp_path):
    """The size may stand behind a long comment, beyond the first bytes of an archive's entry."""
    row = encode(frames(1)[0], "JPEG")
    comment = b"\xff\xfe" + (60000).to_bytes(2, "big") + bytes(59998)
    rows = [row[:2] + comment + row[2:]] * 3
    for way in ("put_padded npz", "put_padded hdf5"):
        source = MappedSource(save(tmp_path / way, rows, way=way), **ROLES)
        np.testing.assert_array_equal(source.read(0).observations["image"], decoded(rows))


def test_dreamer_episodes_may_hold_files(tmp_path):
    rows = [encode(image, "PNG") for image in frames(4)]
    last = np.arange(4) == 3
    columns = {"action": np.zeros((4, 1), np.float32), "reward": np.zeros(4, np.float32), "is_terminal": last}
    for number in range(2):
        view = np.pad(padded(rows), ((0, 0), (0, number)))  # every file may have another length
        np.savez(tmp_path / f"2024-{number}-4.npz", view=view, **columns)
    source = DreamerSource(tmp_path)
    assert {name: spec.shape for name, spec in source.describe().observations.items()} == {"view": SHAPE}
    for number in range(2):
        np.testing.assert_array_equal(source.read(number).observations["view"], frames(4))


def broken(rows: list[bytes], change: Callable[[bytes], bytes], step: int = 1) -> list[bytes]:
    return [change(row) if number == step else row for number, row in enumerate(rows)]


OTHER = encode(frames(1, (32, 40, 3))[0], "PNG")
HUGE = encode(frames(1)[0], "JPEG")
PLACE = HUGE.index(b"\xff\xc0") + 5  # of height and width
HUGE = HUGE[:PLACE] + b"\xff" * 4 + HUGE[PLACE + 4 :]
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda row: row[: len(row) // 2], "is not a readable JPEG or PNG"),
    "no file": (lambda _: b"hello" * 30, "is not a readable JPEG or PNG"),
    "empty": (lambda _: b"", "is not a readable JPEG or PNG"),
    "another size": (lambda _: OTHER, r"is an image of \[32, 40, 3\], expected \[40, 32, 3\]"),
    "grey": (lambda _: encode(frames(1, (40, 32))[0], "PNG"), r"is an image of \[40, 32\], expected \[40, 32, 3\]"),
    "16 bits": (
        lambda _: encode(Image.fromarray(frames(1, (40, 32))[0].astype(np.uint16)), "PNG"),
        "is an image in mode I;16; allowed: grey or RGB of 8 bits",
    ),
    "enormous": (lambda _: HUGE, r"is not a readable JPEG or PNG .*pixels"),
}


@pytest.mark.parametrize("way", ["put_padded npz", "put_padded hdf5", "put_ragged hdf5"])
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_image_is_named_by_episode_and_step(tmp_path, way, case):
    change, message = DAMAGE[case]
    rows = [encode(image, "PNG") for image in frames(3)]
    source = MappedSource(save(tmp_path / "data", rows, broken(rows, change), rows, way=way), **ROLES)
    for number in (0, 2):
        np.testing.assert_array_equal(source.read(number).observations["image"], frames(3))
    with pytest.raises(UserError, match=rf"^episode 1 of .*1\.\w+: 'view' at step 1 {message}") as caught:
        source.read(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_first_image_costs_only_its_episode(tmp_path, case, place):
    change, message = DAMAGE[case]
    episodes = [[encode(image, "PNG") for image in frames(3, seed=seed)] for seed in range(3)]
    episodes.insert(place, broken(episodes[0], change, 0))
    source = MappedSource(save(tmp_path / "data", *episodes), **ROLES)
    store = write_store(source, tmp_path / "store", on_invalid="quarantine")
    assert len(store.lengths) == 3
    (quarantined,) = store.info["quarantined"]
    assert quarantined["episode"] == place
    assert re.search(f"'view' at step 0 {message}", quarantined["reason"])


def test_column_that_begins_like_an_image_is_never_a_vector(tmp_path):
    rows = [encode(frames(1)[0], "PNG")[:40] + bytes(100)] * 3
    with pytest.raises(UserError, match="'view' begins with a damaged or very large image"):
        MappedSource(save(tmp_path / "data", rows), **ROLES)


def test_very_large_image_is_refused_before_it_is_decoded(tmp_path):
    rows = [encode(Image.new("L", (5000, 8)), "PNG")] * 3
    with pytest.raises(UserError, match="'view' begins with a damaged or very large image"):
        MappedSource(save(tmp_path / "data", rows), **ROLES)


def test_damage_of_an_unused_column_does_not_matter(tmp_path):
    rows = [encode(frames(1)[0], "PNG")[:40] + bytes(100)] * 3
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file["spare"], file["view"] = padded(rows), frames(3)
        file["action"] = np.full((3, 1), 0.1)
    source = MappedSource(tmp_path / "data.hdf5", **ROLES)
    np.testing.assert_array_equal(source.read(0).observations["image"], frames(3))


def test_short_vector_that_begins_like_a_file_stays_a_vector(tmp_path):
    view = np.full((3, 5), [255, 216, 255, 0, 7], np.uint8)
    npz(tmp_path / "data", view)
    raw = MappedSource(tmp_path / "data.npz", **ROLES).read(0)
    assert raw.observations["image"].tolist() == view.tolist()


def test_files_behind_an_empty_first_row_are_doubted(tmp_path):
    rows = [
        b"",
        *(encode(image, "PNG") for image in np.random.default_rng(0).integers(0, 256, (2, 40, 32, 3), np.uint8)),
    ]
    source = MappedSource(save(tmp_path / "data", rows), **ROLES)
    doubt, *_ = source.describe().doubts
    assert re.match(
        r"'image' may be images: uint8\[\d+\] per row .*; if it holds JPEG or PNG files, write a file", doubt
    )
    ragged = save(tmp_path / "ragged", rows, way="put_ragged hdf5")
    with pytest.raises(UserError, match="expected numbers, or JPEG and PNG files"):
        MappedSource(ragged, **ROLES)


def test_object_arrays_and_text_are_refused_with_the_allowed_forms(tmp_path):
    view = np.array([b"\x89PNG\r\n\x1a\n" + bytes(90)] * 3, object)
    np.savez(tmp_path / "data.npz", view=view, action=np.zeros((3, 1)))
    with pytest.raises(UserError, match=r"'view' holds object\[\] per row, expected numbers, or JPEG and PNG files"):
        MappedSource(tmp_path / "data.npz", **ROLES)
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file["view"], file["action"] = ["a", "b", "c"], np.zeros((3, 1))
    with pytest.raises(UserError, match=r"'view' holds object\[\] per row, expected numbers, or JPEG and PNG files"):
        MappedSource(tmp_path / "data.hdf5", **ROLES)


def test_more_pixels_than_memory_are_refused_in_one_line():
    files = np.broadcast_to(np.zeros(100, np.uint8), (10**7, 100))
    with pytest.raises(UserError, match=r"^here: 10000000 images of \[4096, 4096, 3\] exceed the memory"):
        ImageCodec((4096, 4096, 3)).decode(files, "here")
