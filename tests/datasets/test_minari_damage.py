"""Damaged and malicious files are refused with one line each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from dreamset.core.errors import UserError
from dreamset.datasets import MinariSource, write_store
from dreamset.datasets.sources.base import read_all


@pytest.fixture
def folder(record_counter) -> Path:
    return record_counter(4, 4, infos={"clock": np.arange(5)})


def read_every_episode(folder: Path) -> None:
    list(read_all(MinariSource(folder)))


def test_nan_names_file_episode_step_and_column_and_keeps_the_existing_store(folder, make_store):
    old = make_store(3, 3)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_1/observations"][2, 0] = np.nan
    with pytest.raises(UserError) as caught:
        write_store(MinariSource(folder), old.path)
    message = str(caught.value)
    for part in ("episode_1 of", "main_data.hdf5", "observation 'state' is nan at step 2, element [0]"):
        assert part in message
    assert "\n" not in message
    old.verify()
    assert not list(old.path.parent.glob(".*"))


def test_missing_folder_file_or_metadata_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        MinariSource(tmp_path / "nowhere")
    (folder / "data" / "metadata.json").rename(tmp_path / "metadata.json")
    with pytest.raises(UserError, match="the metadata lack 'observation_space'"):
        MinariSource(folder)
    (folder / "data" / "main_data.hdf5").unlink()
    with pytest.raises(UserError, match=r"contains neither metadata\.json nor main_data\.hdf5"):
        MinariSource(folder)
    (tmp_path / "metadata.json").rename(folder / "data" / "metadata.json")
    with pytest.raises(UserError, match=r"main_data\.hdf5: no such file"):
        MinariSource(folder)


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(folder, kept):
    file = folder / "data" / "main_data.hdf5"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"main_data\.hdf5: unreadable, truncated or not HDF5"):
        read_every_episode(folder)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_are_read_or_refused_but_never_crash(folder, tmp_path, seed):
    file = folder / "data" / "main_data.hdf5"
    content = bytearray(file.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(0, len(content), 40):
        content[place] ^= int(generator.integers(1, 256))
    file.write_bytes(content)
    try:
        store = write_store(MinariSource(folder), tmp_path / "store")
    except UserError:
        assert not list(tmp_path.glob("*store*"))
    else:
        store.verify()


def rewrite_metadata(folder: Path, **changes: Any) -> None:
    written = folder / "data" / "metadata.json"
    written.write_text(json.dumps({**json.loads(written.read_text()), **changes}))


def test_unknown_layout_error_names_the_remedy(folder):
    rewrite_metadata(folder, data_format="zarr")
    with pytest.raises(UserError, match=r"data format is zarr; supported: arrow, hdf5, parquet; .* data_format='hdf5'"):
        MinariSource(folder)


@pytest.mark.parametrize("total", ["many", -1, 2.5, None])
def test_damaged_number_of_episodes_is_named(folder, total):
    rewrite_metadata(folder, total_episodes=total)
    with pytest.raises(UserError, match=r"'total_episodes' in the metadata is .*, expected a count"):
        MinariSource(folder)


def test_impossible_number_of_episodes_is_refused_early(folder):
    rewrite_metadata(folder, total_episodes=10**12)
    with pytest.raises(UserError, match=r"main_data\.hdf5: the metadata promise 1000000000000 episodes"):
        MinariSource(folder)


def test_file_without_episodes_is_named(folder):
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file.clear()
    with pytest.raises(UserError, match=r"main_data\.hdf5: contains no episodes"):
        MinariSource(folder)


def test_link_within_a_path_is_refused(folder, tmp_path):
    """HDF5 reads a slash in a name as a path, so a part of the name may be a link to another file."""
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["x"] = np.zeros((5, 1))
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for number in range(2):
            del file[f"episode_{number}/observations"]
            file[f"episode_{number}/observations/away"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    box = {"type": "Box", "dtype": "float64", "shape": [1], "low": [0.0], "high": [1.0]}
    rewrite_metadata(folder, observation_space={"type": "Dict", "subspaces": {"away/x": box}})
    with pytest.raises(UserError, match="'away' is an external link, which is refused"):
        read_every_episode(folder)


@pytest.mark.parametrize("space", ["{", '{"type": "Box"}', "3", '{"shape": [1]}', '{"type": "Dict"}'])
def test_damaged_space_is_named(folder, space):
    rewrite_metadata(folder, observation_space=space)
    with pytest.raises(UserError, match="'observation_space' in the metadata"):
        MinariSource(folder)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_metadata_is_named(folder, text):
    (folder / "data" / "metadata.json").write_text(text)
    with pytest.raises(UserError, match=r"metadata\.json: "):
        MinariSource(folder)


def put_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), float)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "rewards", (4,))
    del file["episode_1/rewards"]
    file["episode_1"].create_virtual_dataset("rewards", layout)


def link(path: str, target: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[path]
        file[path] = target

    return change


def put(path: str, values: Any, **options: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, data=values, **options)

    return change


def put_references(file: h5py.File) -> None:
    del file["episode_1/observations"]
    file.create_dataset("episode_1/observations", (5,), h5py.special_dtype(ref=h5py.Reference))


TAMPERED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external episode": (link("episode_1", h5py.ExternalLink("/etc/passwd", "/x")), "'episode_1' is an external link"),
    "external column": (
        link("episode_1/rewards", h5py.ExternalLink("other.h5", "/x")),
        "'rewards' is an external link",
    ),
    "soft column": (link("episode_1/actions", h5py.SoftLink("/episode_0/actions")), "'actions' is a soft link"),
    "external info": (link("episode_1/infos/clock", h5py.ExternalLink("o.h5", "/x")), "'clock' is an external link"),
    "virtual rewards": (put_virtual, "stores its values in other files"),
    "object references": (put_references, "holds object elements"),
    "text rewards": (put("episode_1/rewards", ["1", "2", "3", "4"]), "holds text; allowed: numbers"),
    "missing rewards": (lambda file: file.pop("episode_1/rewards"), "episode_1 of .*: 'rewards' is missing"),
    "missing observations": (lambda file: file.pop("episode_1/observations"), "'observations' is missing"),
    "scalar observation": (put("episode_1/observations", 3.0), "is a single value, expected one row per step"),
    "no final observation": (put("episode_1/observations", np.zeros((4, 1))), "has 4 rows, expected 5"),
    "wider observation": (
        put("episode_1/observations", np.zeros((5, 2))),
        r"holds float64\[2\] per row, its space declares",
    ),
    "flags too short": (put("episode_1/terminations", np.zeros(3, bool)), "has 3 rows, expected 4"),
    "group for a column": (
        lambda file: (file.pop("episode_1/actions"), file.create_group("episode_1/actions")),
        "is a group",
    ),
    "missing episode": (lambda file: file.pop("episode_1"), "episode_1 of .*: the group is missing"),
    "array for an episode": (put("episode_1", [1.0]), "episode_1 of .*: the group is missing"),
    "array for infos": (put("episode_1/infos", [1.0]), "'infos/clock' is missing"),
    "rewards too short": (put("episode_1/rewards", np.zeros(3)), "has 4 rows, expected 3"),
    "text flags": (put("episode_1/terminations", list("abcd")), "holds text; allowed: numbers"),
    "flags in a table": (put("episode_1/terminations", np.zeros((4, 1), bool)), "expected one flag per transition"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_file_is_refused(folder, tmp_path, case):
    tamper, message = TAMPERED[case]
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        tamper(file)
    source = MinariSource(folder, privileged=["clock"])  # damage to one episode does not stop it
    assert source.read(0).privileged["clock"][:, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=message) as caught:
        write_store(source, tmp_path / "store")
    assert str(caught.value).startswith(f"episode_1 of {folder}/data/main_data.hdf5: ")
    assert not (tmp_path / "store").exists()


def test_impossible_size_is_refused_before_allocation(folder):
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        file.create_dataset("episode_1/rewards", (1 << 50,), float, chunks=(1 << 10,))  # no chunk is ever written
    with pytest.raises(UserError, match="claims 9007199254740992 bytes of which 0 are stored"):
        read_every_episode(folder)


@pytest.mark.parametrize("shape", [(40, 32, 3), (32, 40, 3)])
def test_image_that_is_damaged_or_of_another_size_is_named(record, minari_counter, shape):
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 32, 3), np.uint8)
    path = record(
        [{**minari_counter(0, 3), "observations": frames}],
        spaces.Box(0, 255, (40, 32, 3), np.uint8),
        spaces.Box(-10.0, 1e6, (1,), np.float32),
        jpeg_encoding=True,
    )
    if shape == (40, 32, 3):
        with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
            file["episode_0/observations"][2] = np.arange(50, dtype=np.uint8)
        message = "at step 2 is not a readable JPEG"
    else:
        written = path / "data" / "metadata.json"
        metadata = json.loads(written.read_text())
        space = {**json.loads(metadata["observation_space"]), "shape": shape, "low": 0, "high": 255}
        written.write_text(json.dumps({**metadata, "observation_space": json.dumps(space)}))
        message = r"at step 0 is an image of \[40, 32, 3\], expected \[32, 40, 3\]"
    with pytest.raises(UserError, match=message):
        read_every_episode(path)
