from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamset.core.errors import UserError
from dreamset.core.spec import ArraySpec
from dreamset.datasets import write_store
from dreamset.datasets.mixing import ROWS_OF_A_SOURCE, MixedSampler, Part
from dreamset.datasets.sampler import WindowSampler
from dreamset.datasets.strategies import UniformEpisodes

SHIFT = 500.0  # of the clock of online episodes, so that every row says where it comes from


@pytest.fixture
def sources(tmp_path, counter_source):
    """An offline and an online dataset with equal counts and different clocks."""

    def shifted(_number, episode):
        return replace(episode, privileged={"clock": episode.privileged["clock"] + SHIFT})

    stores = [
        write_store(counter_source([20, 20, 20]), tmp_path / "offline"),
        write_store(counter_source([20, 20, 20], shifted), tmp_path / "online"),
    ]
    return [WindowSampler(store, split="train", length=5) for store in stores]


def mixed(sources, *shares, batch_size=8, **settings):
    parts = [Part(source, share) for source, share in zip(sources, shares, strict=True)]
    return MixedSampler(parts, batch_size=batch_size, **({"seed": 0} | settings))


def online(batch) -> list[bool]:
    """Which sequences come from the online dataset; each comes from a single dataset."""
    shift = batch.privileged["clock"][..., 0] - 2 * batch.observations["state"][..., 0]
    assert torch.equal(shift, shift[:, :1].expand_as(shift))
    assert set(shift.unique().tolist()) <= {0.0, SHIFT}
    return (shift[:, 0] == SHIFT).tolist()


def clocks(batch) -> list[float]:
    return batch.privileged["clock"][:, 0, 0].tolist()


def test_every_source_fills_its_share_of_each_batch(sources):
    sampler = mixed(sources, 3.0, 1.0)
    for _ in range(20):
        assert online(sampler.sample()) == [False] * 6 + [True] * 2


def test_rows_of_different_sources_have_different_numbers(sources):
    batch = mixed(sources, 1.0, 1.0).sample()
    assert set((batch.row[:4] // ROWS_OF_A_SOURCE).flatten().tolist()) == {0}
    assert set((batch.row[4:] // ROWS_OF_A_SOURCE).flatten().tolist()) == {1}


@pytest.mark.parametrize(
    ("batch_size", "shares"), [(16, (0.9, 0.1)), (4, (1, 1, 1)), (3, (0.7, 0.1, 0.2)), (1, (2, 1))]
)
def test_fractional_shares_are_exact_on_average_and_within_a_row_per_batch(sources, batch_size, shares):
    sampler = mixed((sources * 2)[: len(shares)], *shares, batch_size=batch_size)
    exact = batch_size * np.array(shares) / sum(shares)
    rows = np.array([sampler.rows(number) for number in range(10_000)])
    assert (rows.sum(axis=1) == batch_size).all()
    assert (rows >= np.floor(exact)).all()
    assert (rows <= np.ceil(exact)).all()
    np.testing.assert_allclose(rows.mean(axis=0), exact, atol=2e-3)
    assert online(sampler.batch(7)).count(True) == sum(sampler.rows(7)[1::2])


def test_integer_shares_are_exact_in_floating_point(sources):
    assert (0.7 + 0.1) * 10 < 8
    sampler = mixed([*sources, sources[0]], 0.7, 0.1, 0.2, batch_size=10)
    assert {tuple(sampler.rows(number)) for number in range(10_000)} == {(7, 1, 2)}


def test_batch_depends_on_its_number_alone(sources):
    sampler = mixed(sources, 0.7, 0.3)
    in_order = [clocks(sampler.sample()) for _ in range(4)]
    assert len({tuple(values) for values in in_order}) == 4
    resumed = mixed(sources, 0.7, 0.3)
    resumed.load_state_dict({"next_number": 2})
    assert [clocks(resumed.sample()), clocks(resumed.sample())] == in_order[2:]
    assert clocks(mixed(sources, 0.7, 0.3).batch(3)) == in_order[3]
    assert clocks(mixed(sources, 0.7, 0.3, seed=1).batch(3)) != in_order[3]
    assert clocks(mixed(sources, 0.7, 0.3, rank=1).batch(3)) != in_order[3]


def test_sources_draw_independently(sources):
    clock = np.array(clocks(mixed(sources, 1, 1, batch_size=20).sample()))
    assert (clock[:10] != clock[10:] - SHIFT).any()


def test_share_of_an_empty_source_goes_to_the_others(sources):
    offline, recent = sources
    before = MixedSampler([Part(offline, 0.5), Part(None, 0.5)], batch_size=8, seed=0)
    assert online(before.sample()) == [False] * 8
    after = MixedSampler([Part(offline, 0.5), Part(recent, 0.5)], batch_size=8, seed=0)
    after.load_state_dict(before.state_dict())
    unbroken = mixed(sources, 0.5, 0.5)
    unbroken.sample()
    batch = after.sample()
    assert online(batch) == [False] * 4 + [True] * 4
    assert clocks(batch) == clocks(unbroken.sample())


def test_draws_of_a_source_do_not_depend_on_earlier_sources(sources):
    alone = MixedSampler([Part(None, 0.5), Part(sources[1], 0.5)], batch_size=4, seed=0)
    both = MixedSampler([Part(sources[0], 0.5), Part(sources[1], 0.5)], batch_size=8, seed=0)
    assert clocks(alone.sample()) == clocks(both.sample())[4:]


def test_each_source_has_its_own_windows_and_strategy(make_store):
    store = make_store(30, 2, 2, 2, validation_fraction=0.25)
    assert len(store.split("train")) == 3
    assert 0 in store.split("train")
    long = WindowSampler(store, split="train", length=3)
    fair = WindowSampler(store, split="train", length=3, strategy=UniformEpisodes())
    batch = mixed([long, fair], 1, 1, batch_size=2000).sample()
    episodes = (batch.observations["state"][:, 0, 0] // 1000).reshape(2, 1000)
    assert (episodes == 0).float().mean(dim=1).tolist() == pytest.approx([29 / 31, 1 / 3], abs=0.05)


CHANGES = {
    "observations.image.shape": lambda spec: replace(
        spec, observations=spec.observations | {"image": ArraySpec((4, 4, 1), "uint8")}
    ),
    "action.low": lambda spec: replace(spec, action=replace(spec.action, low=(-9.0,))),
    "privileged.clock.shape": lambda spec: replace(spec, privileged={}),
    "privileged.more.shape": lambda spec: replace(
        spec, privileged=dict(spec.privileged) | {"more": ArraySpec((1,), "float32")}
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_different_sources_error_names_the_first_difference(make_store, name):
    first, other = make_store(9, 9, name="first"), make_store(9, 9, name="other")
    other.spec = CHANGES[name](other.spec)
    parts = [WindowSampler(store, split="train", length=5) for store in (first, other)]
    with pytest.raises(UserError, match=rf"source 1 of the mixture has {name} = .*, the first has "):
        mixed(parts, 1, 1)


def test_sources_may_differ_in_statistics_but_not_in_windows(make_store):
    stores = [make_store(9, 9, name="first"), make_store(9, 30, name="other")]
    assert stores[0].spec.statistics != stores[1].spec.statistics
    first, other = (WindowSampler(store, split="train", length=5) for store in stores)
    assert mixed([first, other], 1, 1).spec == stores[0].spec
    with pytest.raises(UserError, match="source 1 of the mixture has window length = 4, the first has 5"):
        mixed([first, WindowSampler(stores[1], split="train", length=4)], 1, 1)


def test_invalid_shares_and_sources_are_refused(sources):
    for shares in [(1.0, 0.0), (1.0, -1.0), (1.0, float("nan"))]:
        with pytest.raises(UserError, match=r"shares of a mixture are .*; allowed: numbers above 0"):
            mixed(sources, *shares)
    with pytest.raises(UserError, match="shares of a mixture are"):
        MixedSampler([], batch_size=4, seed=0)
    with pytest.raises(UserError, match="no source of the mixture has data"):
        mixed([None, None], 1, 1)
    with pytest.raises(UserError, match="batch_size is 0"):
        mixed(sources, 1, 1, batch_size=0)
