"""Invalid episodes either stop ingestion or are quarantined with their reasons."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamset.core.errors import UserError
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.card import summary_markdown

Change = Callable[[int, RawEpisode], RawEpisode]

WRONG = 3  # the episode that is spoilt


def with_nan(_number: int, episode: RawEpisode) -> RawEpisode:
    state = episode.observations["state"].copy()
    state[2, 1] = np.nan
    return replace(episode, observations={**episode.observations, "state": state})


def with_rows_missing(_number: int, episode: RawEpisode) -> RawEpisode:
    return replace(episode, observations={**episode.observations, "image": episode.observations["image"][:-1]})


def with_wild_action(_number: int, episode: RawEpisode) -> RawEpisode:
    return replace(episode, actions=np.where(np.arange(len(episode.actions))[:, None] == 1, -7, episode.actions))


def with_column_missing(_number: int, episode: RawEpisode) -> RawEpisode:
    return replace(episode, privileged={})


def unreadable(number: int, _episode: RawEpisode) -> RawEpisode:
    raise UserError(f"episode_{number} of counter: cut short; copy it again")


def copied(number: int, episode: RawEpisode) -> RawEpisode:
    """A copy of episode 1 with another name."""
    rows = len(episode.rewards) + 1
    shift = np.float32(1000 * (number - 1))
    state = episode.observations["state"] + np.array([-shift, shift])
    image = np.broadcast_to((1000 + np.arange(rows))[:, None, None, None] % 256, (rows, 2, 3, 1)).astype(np.uint8)
    return replace(
        episode,
        observations={"state": state, "image": image},
        actions=episode.actions - shift,
        rewards=episode.rewards - shift,
        privileged={"clock": episode.privileged["clock"] - 2 * shift},
        terminated=False,
    )


CASES: dict[str, tuple[Change, str]] = {
    "nan": (with_nan, "observation 'state' is nan at step 2, element [1]; every value must be finite"),
    "missing rows": (with_rows_missing, "observation 'image' has 5 rows, expected 6 (for 5 rewards)"),
    "wild action": (with_wild_action, "actions is -7 at step 1, element [0]; allowed: [0, inf]"),
    "missing column": (with_column_missing, "privileged columns are [], every episode must have ['clock']"),
    "unreadable": (unreadable, "cut short; copy it again"),
    "duplicate": (copied, "equals episode_1 of counter; remove one"),
}


def only(wanted: int, change: Change) -> Change:
    return lambda number, episode: change(number, episode) if number == wanted else episode


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def first_states(store: Store) -> list[float]:
    return [float(store.read(episode)["state"][0, 0]) for episode in range(len(store.lengths))]


@pytest.mark.parametrize("case", CASES)
def test_invalid_episode_stops_ingestion_and_keeps_the_old_store(make_store, counter_source, case):
    change, reason = CASES[case]
    old = make_store(4, 4)
    before = content(old.path)
    with pytest.raises(UserError) as caught:
        write_store(counter_source([5] * 6, only(WRONG, change)), old.path, shard_bytes=1)
    message = str(caught.value)
    assert message.startswith("episode_3 of counter: ")
    assert reason in message
    assert "\n" not in message
    assert content(old.path) == before
    assert [item.name for item in old.path.parent.iterdir()] == [old.path.name]


@pytest.mark.parametrize("case", CASES)
def test_invalid_episode_is_quarantined_with_its_reason(counter_source, tmp_path, case):
    change, reason = CASES[case]
    store = write_store(counter_source([5] * 6, only(WRONG, change)), tmp_path / "store", on_invalid="quarantine")
    assert first_states(store) == [0, 1000, 2000, 4000, 5000]
    assert store.info["counts"] == {"episodes": 5, "rows": 30, "transitions": 25}
    (entry,) = store.info["quarantined"]
    assert entry["episode"] == WRONG
    assert reason in entry["reason"]
    card = summary_markdown(store)
    assert "## Quarantined: 1 episodes" in card
    assert f"| 3 | {entry['reason']} |" in card


def test_valid_store_has_an_empty_quarantine(make_store, counter_source, tmp_path):
    strict, lenient = make_store(5, 5, 5), write_store(counter_source([5] * 3), tmp_path / "b", on_invalid="quarantine")
    assert strict.info["quarantined"] == lenient.info["quarantined"] == []
    assert "Quarantined" not in summary_markdown(strict)
    assert content(strict.path) == content(lenient.path)


def spoil_some(number: int, episode: RawEpisode) -> RawEpisode:
    """Every case once, in the episodes 3, 6, 9, ..."""
    changes = [change for change, _ in CASES.values()]
    return changes[number // 3 - 1](number, episode) if number % 3 == 0 and 0 < number <= 3 * len(changes) else episode


def test_all_kinds_of_invalid_episodes_are_counted_and_listed_in_order(counter_source, tmp_path):
    heard: list[int] = []
    store = write_store(
        counter_source([5] * 20, spoil_some),
        tmp_path / "store",
        on_invalid="quarantine",
        validation_fraction=0.5,
        on_episode=heard.append,
    )
    wrong = [3, 6, 9, 12, 15, 18]
    assert [entry["episode"] for entry in store.info["quarantined"]] == wrong
    for entry, (_, reason) in zip(store.info["quarantined"], CASES.values(), strict=True):
        assert reason in entry["reason"]
    assert first_states(store) == [1000 * number for number in range(20) if number not in wrong]
    assert heard == list(range(1, 21))
    shares = [store.split("train").tolist(), store.split("validation").tolist()]
    assert [len(share) for share in shares] == [7, 7]
    assert sorted(shares[0] + shares[1]) == list(range(14))


def test_split_covers_kept_episodes_only(counter_source, tmp_path):
    """Quarantined episodes do not shift the split, which is drawn over the kept episodes."""
    store = write_store(
        counter_source([5] * 20, spoil_some), tmp_path / "store", on_invalid="quarantine", validation_fraction=0.5
    )
    clean = write_store(counter_source([5] * 14), tmp_path / "clean", validation_fraction=0.5)
    assert store.split("train").tolist() == clean.split("train").tolist()


def test_split_function_receives_the_kept_episodes(counter_source, tmp_path):
    told: list[list[int]] = []

    def by_parity(kept):
        told.append(list(kept))
        odd = np.array(kept) % 2 == 1
        return {"train": np.flatnonzero(~odd), "odd": np.flatnonzero(odd)}

    source = counter_source([5] * 6, only(2, with_nan))
    store = write_store(source, tmp_path / "store", on_invalid="quarantine", splits=by_parity)
    assert told == [[0, 1, 3, 4, 5]]
    assert [first_states(store)[episode] for episode in store.split("odd")] == [1000, 3000, 5000]
    assert store.info["split_settings"] == {"given": True}
    rows = np.concatenate([store.read(episode)["state"] for episode in store.split("train")]).astype(np.float64)
    np.testing.assert_allclose(store.spec.statistics["state"].mean, rows.mean(axis=0))


@pytest.mark.parametrize("positions", [[0, 1], [0, 1, 2, 2], [0, 1, 2, 3, 4]])
def test_split_function_must_assign_every_kept_episode_once(counter_source, tmp_path, positions):
    with pytest.raises(ValueError, match="each of the 3 episodes must be in exactly one split"):
        write_store(counter_source([5] * 3), tmp_path / "store", splits=lambda _: {"train": np.array(positions)})
    assert not list(tmp_path.iterdir())


def test_all_invalid_episodes_error_names_the_first_reason(make_store, counter_source):
    old = make_store(4, 4)
    before = content(old.path)
    with pytest.raises(UserError, match="all 3 episodes are invalid; the first one: episode_0 of counter: obs"):
        write_store(counter_source([5] * 3, with_nan), old.path, on_invalid="quarantine")
    assert content(old.path) == before


def test_single_valid_episode_is_refused(counter_source, tmp_path):
    source = counter_source([5] * 3, lambda number, episode: with_nan(number, episode) if number else episode)
    with pytest.raises(UserError, match=r"the dataset has 1 episode\(s\), expected 2 or more"):
        write_store(source, tmp_path / "store", on_invalid="quarantine")


@pytest.mark.parametrize("on_invalid", ["error", "quarantine"])
def test_errors_other_than_user_errors_are_raised_unchanged(counter_source, tmp_path, on_invalid):
    def defect(_number: int, _episode: RawEpisode) -> RawEpisode:
        raise ZeroDivisionError("a defect in a reader")

    with pytest.raises(ZeroDivisionError):
        write_store(counter_source([5] * 3, only(1, defect)), tmp_path / "store", on_invalid=on_invalid)
    assert not list(tmp_path.iterdir())


def test_wrong_setting_is_not_quarantined(counter_source, tmp_path):
    with pytest.raises(UserError, match=r"^compression is 'jpeg'; allowed:"):
        write_store(
            counter_source([5] * 3),
            tmp_path / "store",
            on_invalid="quarantine",
            compression="jpeg",
            shard_bytes=1,
        )
    with pytest.raises(UserError, match="on_invalid is 'ignore'; allowed: error or quarantine"):
        write_store(counter_source([5] * 3), tmp_path / "store", on_invalid="ignore")


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_bytes_do_not_depend_on_the_workers(counter_source, tmp_path, workers):
    source = counter_source([5 + number % 4 for number in range(20)], spoil_some)
    stores = [
        write_store(source, tmp_path / str(count), on_invalid="quarantine", shard_bytes=500, workers=count)
        for count in (2, workers)
    ]
    assert len(stores[0].info["shards"]) > 3
    assert content(stores[0].path) == content(stores[1].path)


def test_duplicates_with_equal_names_are_detected(counter_source, tmp_path):
    def twin(_number: int, _episode: RawEpisode) -> RawEpisode:
        return replace(counter_source([5]).read(0), name="the episode")

    with pytest.raises(UserError, match="the episode: equals the episode"):
        write_store(counter_source([5, 5], twin), tmp_path / "store")


@pytest.mark.parametrize("column", ["state", "image", "clock", "action", "reward", "end", "length"])
def test_different_episodes_are_not_duplicates(counter_source, tmp_path, column):
    """Also a single different pixel, if images are small enough to be hashed completely."""

    def nearly(number: int, _episode: RawEpisode) -> RawEpisode:
        episode = counter_source([5]).read(0)
        return _altered(episode, column) if number else episode

    assert len(write_store(counter_source([5, 5], nearly), tmp_path / "store").lengths) == 2


def _altered(episode: RawEpisode, column: str) -> RawEpisode:
    if column == "end":
        return replace(episode, terminated=not episode.terminated)
    if column == "length":
        return replace(
            episode,
            observations={name: values[:-1] for name, values in episode.observations.items()},
            privileged={name: values[:-1] for name, values in episode.privileged.items()},
            actions=episode.actions[:-1],
            rewards=episode.rewards[:-1],
        )
    parts = {**episode.observations, **episode.privileged, "action": episode.actions, "reward": episode.rewards}
    values = parts[column].copy()
    values.reshape(-1)[-1] += 1
    if column in episode.observations:
        return replace(episode, observations={**episode.observations, column: values})
    changed = {"clock": {"privileged": {"clock": values}}, "action": {"actions": values}, "reward": {"rewards": values}}
    return replace(episode, **changed[column])
