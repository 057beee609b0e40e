"""Statistics: interquartile means computed by hand, and the coverage of bootstrap intervals."""

import numpy as np
import pytest

from dreamset.pipeline.evaluation.statistics import bootstrap, coverage_note, interquartile_mean, mean


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end() -> None:
    assert interquartile_mean(np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])) == np.mean([2, 3, 4, 5])


def test_an_interval_covers_the_true_mean_as_often_as_its_confidence() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for repeat in range(200):
        sample = generator.normal(3.0, 2.0, size=40)
        estimate = bootstrap([sample], mean, confidence=0.9, resamples=300, seed=repeat)
        covered += estimate.low <= 3.0 <= estimate.high
    assert 0.82 <= covered / 200 <= 0.96


def test_an_interval_is_wider_if_seeds_disagree() -> None:
    generator = np.random.default_rng(0)
    agree = [generator.normal(0, 1, 50) for _ in range(3)]
    disagree = [group + shift for group, shift in zip(agree, (-5, 0, 5), strict=True)]
    narrow = bootstrap(agree, mean, confidence=0.95, resamples=500)
    wide = bootstrap(disagree, mean, confidence=0.95, resamples=500)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    groups = [np.arange(10.0)]
    first = bootstrap(groups, interquartile_mean, confidence=0.95, resamples=100, seed=1)
    assert first == bootstrap(groups, interquartile_mean, confidence=0.95, resamples=100, seed=1)
    assert first != bootstrap(groups, interquartile_mean, confidence=0.95, resamples=100, seed=2)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(1, "not that of trainings"), (2, "2 training seeds"), (3, "75 to 78 %"), (4, "82 to 83 %"), (5, "")],
)
def test_reader_is_told_where_seeds_are_too_few(seeds: int, said: str) -> None:
    note = coverage_note(seeds)
    assert said in note
    assert bool(note) == bool(said)
