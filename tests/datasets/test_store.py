import json
import mmap
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import Store
from dreamset.datasets.shard import Shard


@pytest.fixture
def shard(make_store) -> Path:
    return make_store(6, 9, 4).path / "shard-00000.h5"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    change(manifest)
    (folder / "dataset.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("shard_bytes", [1, 400, 1 << 20])
def test_episode_reads_the_same_however_it_is_sharded(make_store, shard_bytes):
    store = make_store(6, 9, 4, 7, shard_bytes=shard_bytes)
    assert store.lengths.tolist() == [7, 10, 5, 8]
    for episode in range(4):
        rows = store.read(episode)
        assert rows["state"][:, 0].tolist() == [1000 * episode + t for t in range(store.lengths[episode])]
    assert store.read(1, 2, 4)["action"][:, 0].tolist() == [1001.25, 1002.25]


def test_h5py_and_memory_map_read_the_same(shard):
    store = Store.open(shard.parent)
    with h5py.File(shard) as file:
        assert dict(file.attrs) == {"alignment": "action_precedes_observation", "format_version": 2}
        assert set(file) == {*store.columns, "ep_len", "ep_offset", "ep_return"}
        assert file["ep_len"][()].tolist() == [7, 10, 5]
        assert file["ep_offset"][()].tolist() == [0, 7, 17]
        for name in store.columns:
            joined = np.concatenate([store.read(episode)[name] for episode in range(3)])
            assert np.array_equal(file[name][()], joined)
            assert file[name].chunks is None


def test_columns_are_read_only_aligned_views(shard):
    rows = Store.open(shard.parent).read(1)
    for values in rows.values():
        assert not values.flags.writeable
        assert not values.flags.owndata
        assert values.flags.aligned


@pytest.mark.parametrize(("start", "stop"), [(0, 8), (-1, 2), (3, 2)])
def test_rows_beyond_the_episode_are_refused(shard, start, stop):
    store = Store.open(shard.parent)
    assert len(store.read(0, 0, 7)["reward"]) == 7
    with pytest.raises(IndexError, match="of episode 0, which has 7"):
        store.read(0, start, stop)


def test_pickled_store_opens_the_same_files(shard):
    store = Store.open(shard.parent)
    data = pickle.dumps(store)
    assert len(data) < 500
    assert pickle.loads(data).digest == store.digest


def test_verify_names_the_shard_with_one_flipped_byte(make_store):
    store = make_store(6, 9, 4, shard_bytes=1)
    store.verify()
    damaged = store.path / "shard-00001.h5"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=r"shard-00001\.h5: its checksum is"):
        Store.open(store.path).verify()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.99])
def test_truncated_shard_is_refused(shard, kept):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"shard-00000\.h5"):
        Store.open(shard.parent)


def test_missing_shard_or_dataset_is_named(shard):
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-00000\.h5: no such file"):
        Store.open(shard.parent)
    with pytest.raises(UserError, match=r"nowhere: contains no dataset\.json"):
        Store.open(shard.parent / "nowhere")


def replace_column(name: str, make: Callable[[h5py.File, np.ndarray], None]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        del file[name]
        make(file, values)

    return change


def put_virtual(file: h5py.File, values: np.ndarray) -> None:
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "reward", values.shape)
    file.create_virtual_dataset("reward", layout)


def put_external(file: h5py.File, values: np.ndarray) -> None:
    file.create_dataset("reward", values.shape, values.dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


TAMPERED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "external link": (
        replace_column("reward", lambda file, _: file.__setitem__("reward", h5py.ExternalLink("/etc/passwd", "/x"))),
        "'reward' is an external link, which is refused",
    ),
    "soft link": (
        replace_column("reward", lambda file, _: file.__setitem__("reward", h5py.SoftLink("/action"))),
        "'reward' is a soft link, which is refused",
    ),
    "virtual dataset": (replace_column("reward", put_virtual), "'reward' stores its values in other files"),
    "external storage": (replace_column("reward", put_external), "'reward' stores its values in other files"),
    "group": (lambda file: file.create_group("extra"), "'extra' is a group"),
    "text": (lambda file: file.create_dataset("note", data=["x"]), "'note' is object"),
    "another dtype": (
        replace_column("reward", lambda file, values: file.create_dataset("reward", data=values.astype(float))),
        r"'reward' is float64\[22\], dataset.json says float32\[22\]",
    ),
    "a row less": (
        replace_column("reward", lambda file, values: file.create_dataset("reward", data=values[1:])),
        r"'reward' is float32\[21\], dataset.json says float32\[22\]",
    ),
    "missing column": (lambda file: file.pop("reward"), r"columns \['reward'\] are missing"),
    "overlapping episodes": (lambda file: file["ep_offset"].__setitem__(1, 3), "do not cover its 22 rows"),
    "wrong lengths": (lambda file: file["ep_len"].__setitem__(0, 8), "do not cover its 22 rows"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_shard_is_refused(make_store, case):
    shard = make_store(6, 9, 4).path / "shard-00000.h5"
    tamper, message = TAMPERED[case]
    with h5py.File(shard, "a") as file:
        tamper(file)
    edit_manifest(shard.parent, lambda manifest: manifest["shards"][0].update(bytes=shard.stat().st_size))
    store = Store.open(shard.parent)
    with pytest.raises(UserError, match=message):
        store.read(0)


def test_unknown_version_is_refused(shard):
    edit_manifest(shard.parent, lambda manifest: manifest.update(format_version=99))
    with pytest.raises(UserError, match=r"format version 99 .* this release reads versions 2 and 3"):
        Store.open(shard.parent)


def test_shard_outside_the_folder_is_refused(shard):
    edit_manifest(shard.parent, lambda manifest: manifest["shards"][0].update(file="../../shard-00000.h5"))
    with pytest.raises(UserError, match="lies outside the folder"):
        Store.open(shard.parent)


@pytest.mark.parametrize("change", [{"splits": ["train"]}, {"shards": []}])
def test_splits_and_shards_that_contradict_the_index_are_refused(shard, change):
    edit_manifest(shard.parent, lambda manifest: manifest.update(change))
    with pytest.raises(UserError, match="do not assign each of the 3 episodes"):
        Store.open(shard.parent)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"x" + content[1:]])
def test_damaged_index_is_named(shard, damage):
    index = shard.parent / "episodes.npz"
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(UserError, match=r"episodes\.npz: its checksum is not"):
        Store.open(shard.parent)
    index.unlink()
    with pytest.raises(UserError, match=r"episodes\.npz: no such file"):
        Store.open(shard.parent)


def test_shard_with_other_episodes_is_refused(make_store):
    store, other = make_store(6, 9, 4), make_store(7, 8, 4, name="other")
    (store.path / "shard-00000.h5").write_bytes((other.path / "shard-00000.h5").read_bytes())
    with pytest.raises(UserError, match=r"its episodes are not those of episodes\.npz"):
        store.read(0)


def test_store_replaced_while_open_is_reported(make_store):
    old = make_store(5, 5, 5, shard_bytes=1)
    old.read(0)
    make_store(6, 6, 6, shard_bytes=1)
    with pytest.raises(UserError, match="was replaced by another dataset while it was being read"):
        old.read(1)


def test_least_recently_used_shards_are_closed(make_store, monkeypatch):
    monkeypatch.setattr("dreamset.datasets.store._MOST_MAPPED", 2)
    store = make_store(3, 4, 5, 6, shard_bytes=1)
    for episode in (0, 1, 2, 3, 0, 2):
        assert store.read(episode)["state"][0, 0] == 1000 * episode
        assert len(store._shards) <= 2


@pytest.mark.parametrize("compression", ["lzf", "gzip", "lz4", "zstd"])
def test_compressed_store_reads_the_same_and_is_smaller(make_store, compression):
    if compression in ("lz4", "zstd"):
        pytest.importorskip("hdf5plugin")
    plain, packed = make_store(6000, 5000), make_store(6000, 5000, name="packed", compression=compression)
    again = make_store(6000, 5000, name="again", compression=compression)
    assert again.digest == packed.digest
    for episode in range(2):
        for name, values in plain.read(episode, 5, 250).items():
            np.testing.assert_array_equal(packed.read(episode, 5, 250)[name], values, strict=True)
    packed.verify()
    size = {store: (store.path / "shard-00000.h5").stat().st_size for store in (plain, packed)}
    assert size[packed] < 0.8 * size[plain]


def test_unknown_compression_is_refused(make_store):
    with pytest.raises(UserError, match="compression is 'jpeg'; allowed: lzf, gzip, lz4, zstd or null"):
        make_store(3, 3, compression="jpeg")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_dataset_json_is_named(shard, text):
    (shard.parent / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json: damaged"):
        Store.open(shard.parent)


@pytest.mark.parametrize("entry", ["spec", "splits", "shards"])
def test_incomplete_dataset_json_is_named(shard, entry):
    edit_manifest(shard.parent, lambda manifest: manifest.pop(entry))
    with pytest.raises(UserError, match=f"dataset.json: incomplete .*{entry}"):
        Store.open(shard.parent)


@pytest.mark.parametrize("change", [lambda m: m["shards"][0].pop("sha256"), lambda m: break_dtype(m)])
def test_incomplete_entry_of_dataset_json_is_named_on_opening(shard, change):
    edit_manifest(shard.parent, change)
    with pytest.raises(UserError, match=r"dataset\.json: incomplete"):
        Store.open(shard.parent)


def break_dtype(manifest: dict[str, Any]) -> None:
    manifest["spec"]["observations"]["state"]["dtype"] = "float33"


class Advised:
    """A fake memory map that records the requested bytes."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def madvise(self, _option: int, start: int, length: int) -> None:
        self.ranges.append((start, start + length))


def test_read_ahead_covers_the_rows_rounded_to_pages():
    advised = Advised()
    empty = np.zeros(0)
    shard = Shard({}, advised, [(100, 5000)], empty, empty, empty)  # type: ignore[arg-type]
    shard.will_need(3, 7)
    ((start, stop),) = advised.ranges
    assert stop == 100 + 7 * 5000
    assert start % mmap.PAGESIZE == 0
    assert 0 <= 100 + 3 * 5000 - start < mmap.PAGESIZE


def test_store_is_a_sequence_of_episodes(make_store):
    store = make_store(4, 7, 5)
    assert len(store) == 3
    returns = [float(episode["reward"].sum()) for episode in store]  # the loop ends at the last episode
    assert returns == pytest.approx(store.returns)
    assert store[-1]["reward"].sum() == pytest.approx(store.returns[2])
    with pytest.raises(IndexError, match=r"episode 3 of .*, which has 3"):
        store[3]


def test_representation_of_a_store_says_where_and_what_it_is(make_store):
    store = make_store(4, 7, 5)
    shown = repr(store)
    assert str(store.path) in shown
    assert f"3 episodes ({len(store.split('train'))} train, " in shown
    assert f"{store.lengths.sum()} rows" in shown
    assert all(name in shown for name in store.columns)
