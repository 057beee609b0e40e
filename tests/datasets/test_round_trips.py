"""Any episodes survive round trips through stores and exports; any damage is named."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import MinariSource, RawEpisode, SequenceSampler, Store, write_store
from dreamset.datasets.exports import export_minari, export_npz
from dreamset.datasets.exports.minari import minari_id
from dreamset.datasets.sources import SourceDescription
from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.store_source import StoreSource
from dreamset.datasets.transforms import RenameColumns

FEW = settings(max_examples=12, deadline=None)
KINDS = {
    "state": ArraySpec((3,), "float32"),
    "speed": ArraySpec((1,), "float32"),
    "image": ArraySpec((32, 40, 3), "uint8"),  # large enough for Minari to make a JPEG of it
    "mask": ArraySpec((3, 5, 1), "uint8"),
    "stack": ArraySpec((8, 9, 5), "uint8"),  # of five grey frames
}


@dataclass(frozen=True)
class Episodes:
    """Random episodes, each a function of the seed and its number."""

    lengths: tuple[int, ...]  # in transitions
    observations: tuple[str, ...]
    privileged: tuple[str, ...]
    choices: int  # 0: a continuous action of two numbers
    seed: int

    @property
    def episode_count(self) -> int:
        return len(self.lengths)

    def describe(self) -> SourceDescription:
        size = self.choices or 2
        low = (0.0,) * size if self.choices else (-1.0, -2.0)
        high = (1.0,) * size if self.choices else (1.0, 0.5)
        return SourceDescription(
            {name: KINDS[name] for name in self.observations},
            {name: KINDS[name] for name in self.privileged},
            ActionSpec(size, bool(self.choices), low, high),
            {"format": "random"},
        )

    def read(self, number: int) -> RawEpisode:
        generator = np.random.default_rng([self.seed, number])
        length = self.lengths[number]

        def column(name: str) -> np.ndarray:
            shape = (length + 1, *KINDS[name].shape)
            if KINDS[name].dtype == "uint8":
                return generator.integers(0, 256, shape, np.uint8)
            return generator.normal(0, 10.0 ** generator.integers(-20, 20), shape).astype(np.float32)

        return RawEpisode(
            f"episode {number}",
            {name: column(name) for name in self.observations},
            self._actions(generator, length),
            generator.normal(size=length).astype(np.float32),
            bool(generator.integers(2)),
            {name: column(name) for name in self.privileged},
        )

    def _actions(self, generator: np.random.Generator, length: int) -> np.ndarray:
        if self.choices:
            return np.eye(self.choices, dtype=np.float32)[generator.integers(self.choices, size=length)]
        return generator.uniform((-1, -2), (1, 0.5), (length, 2)).astype(np.float32)


@st.composite
def sources(draw: st.DrawFn) -> Episodes:
    names = draw(st.permutations(list(KINDS)))
    cut = draw(st.integers(1, len(names)))
    return Episodes(
        lengths=tuple(draw(st.lists(st.integers(1, 12), min_size=2, max_size=6))),
        observations=tuple(names[:cut]),
        privileged=tuple(names[cut:][: draw(st.integers(0, 2))]),
        choices=draw(st.sampled_from([0, 2, 5])),
        seed=draw(st.integers(0, 2**32)),
    )


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def assert_holds(store: Store, source: Episodes) -> None:
    """Row by row, by the time rule: row t + 1 is the arrival that action t led to."""
    assert len(store.lengths) == source.episode_count
    for number in range(source.episode_count):
        raw, rows = source.read(number), store.read(number)
        zero = np.zeros((1, raw.actions.shape[1]), np.float32)
        end = [False] * len(raw.rewards) + [True]
        wanted = {
            **raw.observations,
            "action": np.concatenate([zero, raw.actions]),
            "reward": np.concatenate([[np.float32(0)], raw.rewards]),
            "is_first": np.array(end[::-1]),
            "is_last": np.array(end),
            "is_terminal": np.array(end) & raw.terminated,
            **{f"privileged.{name}": values for name, values in raw.privileged.items()},
        }
        assert rows.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_array_equal(rows[name], values, strict=True)


def nothing() -> None:
    pass


@FEW
@given(
    source=sources(), shard_bytes=st.sampled_from([1, 700, 1 << 20]), compression=st.sampled_from([None, "lzf", "gzip"])
)
def test_any_source_round_trips_through_a_store(source, shard_bytes, compression):
    with folder() as root:
        store = write_store(source, root / "store", shard_bytes=shard_bytes, compression=compression)
        store.verify()
        assert_holds(store, source)
        assert_holds(write_store(StoreSource(store.path), root / "again"), source)


@FEW
@given(source=sources())
def test_any_source_round_trips_through_minari(source):
    with folder() as root:
        store = write_store(source, root / "store")
        export_minari(store, root / "minari", nothing)
        back = MinariSource(root / "minari" / minari_id(store), privileged=source.privileged)
        assert back.describe().observations == source.describe().observations
        assert back.describe().action == source.describe().action
        assert_holds(write_store(back, root / "back"), source)


@FEW
@given(source=sources())
def test_any_source_round_trips_through_npz(source):
    with folder() as root:
        export_npz(write_store(source, root / "store"), root / "npz", nothing)
        action = source.describe().action
        kind = {"discrete": action.size} if action.discrete else {"action_low": action.low, "action_high": action.high}
        names = {f"privileged.{name}": name for name in source.privileged}
        back = DreamerSource(root / "npz", observations=source.observations, privileged=list(names), **kind)
        assert_holds(write_store(RenameColumns(names)(back), root / "back"), source)


@FEW
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    window=st.integers(1, 12),
    crossing=st.booleans(),
    seed=st.integers(0, 99),
)
def test_windows_over_any_lengths_equal_rows_of_the_store(lengths, window, crossing, seed):
    source = Episodes(tuple(lengths), ("state",), (), 0, seed)
    with folder() as root:
        store = write_store(source, root / "store", shard_bytes=400)
        episodes = store.split("train").tolist()
        rows = np.concatenate([store.read(episode)["state"] for episode in episodes])
        last = np.concatenate([store.read(episode)["is_last"] for episode in episodes])
        starts = [
            start for start in range(len(rows) - window + 1) if crossing or not last[start : start + window - 1].any()
        ]
        if not starts:
            with pytest.raises(UserError, match=r"lower batch\.length to"):
                SequenceSampler(store, split="train", batch_size=1, length=window, seed=0, crossing=crossing)
            return
        sampler = SequenceSampler(store, split="train", batch_size=200, length=window, seed=seed, crossing=crossing)
        assert sampler.windows == len(starts)
        batch = sampler.sample()
        allowed = {rows[start : start + window].tobytes(): last[start : start + window].tolist() for start in starts}
        drawn = [row.tobytes() for row in batch.observations["state"].numpy()]
        assert set(drawn) <= allowed.keys()
        assert len(set(drawn)) > 0.5 * min(len(allowed), 200)
        for row, ends in zip(drawn, batch.is_last.tolist(), strict=True):
            assert ends == allowed[row]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "store"
    write_store(Episodes((4, 6, 3, 5), ("state", "image"), ("speed",), 0, 7), path, shard_bytes=600)
    return path


def read_everything(path: Path) -> None:
    store = Store.open(path)
    store.verify()
    for episode in range(len(store.lengths)):
        store.read(episode)


@FEW
@given(data=st.data())
def test_any_changed_or_missing_byte_of_a_shard_or_the_index_is_named(pristine, data):
    name = data.draw(st.sampled_from([file.name for file in pristine.iterdir() if file.suffix != ".json"]))
    with folder() as root:
        shutil.copytree(pristine, root / "store")
        read_everything(root / "store")
        damaged = root / "store" / name
        content = bytearray(damaged.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content = content[:place]
        else:
            content[place] ^= data.draw(st.integers(1, 255))
        damaged.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_everything(root / "store")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_changed_byte_of_dataset_json_is_refused_or_changes_the_digest(pristine, tmp_path, seed):
    shutil.copytree(pristine, tmp_path / "store")
    digest = Store.open(tmp_path / "store").digest
    damaged = tmp_path / "store" / "dataset.json"
    generator = np.random.default_rng(seed)
    content = bytearray(damaged.read_bytes())
    content[generator.integers(len(content))] ^= int(generator.integers(1, 128))
    damaged.write_bytes(content)
    try:
        store = Store.open(tmp_path / "store")
    except UserError:
        return
    assert store.digest != digest
