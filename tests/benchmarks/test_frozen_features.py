"""The probes of frozen features: the regression, and that the test states choose nothing."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are not installed

from benchmarks import frozen_features
from benchmarks.frozen_features import main, probe, r_squared, ridge, splits


def linear(count: int = 60, size: int = 100, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] and a truth [N, 2] that is linear in three of them."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(count, size)) + 5
    weights = np.zeros((size, 2))
    weights[:3] = [[1, 0], [0, 2], [-1, 1]]
    return features, features @ weights + 3 + noise * generator.normal(size=(count, 2))


def test_ridge_equals_the_solution_with_one_weight_per_feature() -> None:
    features, truth = linear(noise=0.5)
    fit, test = np.arange(40), np.arange(40, 60)
    predicted, wanted = ridge(features, truth, fit, test, 0.1)
    centre, mean = features[fit].mean(0), truth[fit].mean(0)
    known = features[fit] - centre
    weight = 0.1 * (known**2).sum() / len(fit)
    solved = np.linalg.inv(known.T @ known + weight * np.eye(100)) @ known.T @ (truth[fit] - mean)
    np.testing.assert_allclose(predicted, (features[test] - centre) @ solved + mean, rtol=1e-8)
    np.testing.assert_array_equal(wanted, truth[test])


def test_r_squared_is_one_for_the_truth_and_zero_for_its_mean() -> None:
    _, truth = linear()
    assert r_squared(truth, truth) == 1
    assert r_squared(np.broadcast_to(truth.mean(0), truth.shape), truth) == pytest.approx(0)


def test_linear_truth_is_found_and_noise_is_not() -> None:
    features, truth = linear(count=400, size=20)
    (split,) = splits(400, 1)
    assert probe(features, truth, split) > 0.99
    assert probe(features, np.random.default_rng(1).normal(size=(400, 2)), split) < 0.1


def test_splits_are_disjoint_complete_and_differ() -> None:
    first, second = splits(40, 2)
    assert [len(part) for part in first] == [20, 10, 10]
    assert sorted(np.concatenate(first).tolist()) == list(range(40))
    assert not np.array_equal(first[0], second[0])


def test_test_states_choose_no_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    features, truth = linear(noise=1.0)
    (split,) = splits(60, 1)
    calls: list[tuple[list[int], list[int], float]] = []

    def seen(features, truth, fit, test, penalty):
        calls.append((fit.tolist(), test.tolist(), penalty))
        return ridge(features, truth, fit, test, penalty)

    monkeypatch.setattr(frozen_features, "ridge", seen)
    probe(features, truth, split)
    *choosing, (fitted, tested, _) = calls
    assert len(choosing) == len(frozen_features.PENALTIES)
    assert not {number for fit, test, _ in choosing for number in fit + test} & set(split[2].tolist())
    assert (sorted(fitted), tested) == (sorted([*split[0], *split[1]]), split[2].tolist())


def test_script_prints_the_tables_and_writes_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.csv"
    sizes = ["--states", "24", "--repeats", "2", "--frames", "2", "--rounds", "1"]
    main(["--tasks", "puck", "--features", "pixels", "random-block-10", "--csv", str(file), *sizes])
    table = pd.read_csv(file)
    assert list(table["features"]) == ["pixels"] * 2 + ["random-block-10"] * 2
    assert list(table["part"]) == ["puck", "goal"] * 2
    assert (table["lowest"] <= table["r2"]).all()
    printed = capsys.readouterr().out
    assert "| features | puck: puck | puck: goal |" in printed
    assert "| random weights, block 10 | " in printed
    assert "| 8.1 |" in printed  # 36 x 112 half-precision numbers


def test_unknown_features_are_an_error_that_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--features", "block-11"])
    assert "--features lists block-11; choose from pixels, block-10" in capsys.readouterr().err
