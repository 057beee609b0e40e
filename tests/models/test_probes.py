"""Probes, compared with least squares in NumPy, and the rows of open-loop prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamset.core.records import Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, DataSpec
from dreamset.models.probes import LinearProbe, open_loop, open_loop_starts, r_squared, recorded_trajectory
from tests.builders import seeded, tiny_batch, tiny_model

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 4)) * [1.0, 10.0, 0.1, 3.0] + [5.0, -3.0, 0.0, 100.0]
TARGET = FEATURES @ RANDOM.normal(size=(4, 2)) + 7 + RANDOM.normal(size=(60, 2)) * 0.5


@pytest.mark.parametrize("ridge", [0.0, 1.0, 50.0])
def test_linear_probe_is_a_ridge_regression_on_standardised_features(ridge: float) -> None:
    x = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0, ddof=1)
    rows = np.concatenate([x, np.sqrt(ridge) * np.eye(4)])  # ridge is equivalent to four more observations of zero
    values = np.concatenate([TARGET - TARGET.mean(0), np.zeros((4, 2))])
    weight, *_ = np.linalg.lstsq(rows, values)
    probe = LinearProbe.fit(torch.from_numpy(FEATURES), torch.from_numpy(TARGET), ridge=ridge)
    np.testing.assert_allclose(probe(torch.from_numpy(FEATURES)).numpy(), x @ weight + TARGET.mean(0), rtol=1e-9)


def test_linear_probe_of_more_features_than_rows_is_the_same_regression() -> None:
    features = RANDOM.normal(size=(12, 30)) * RANDOM.uniform(0.1, 10, size=30)
    target = RANDOM.normal(size=(12, 2))
    x = (features - features.mean(0)) / features.std(0, ddof=1)
    rows = np.concatenate([x, np.sqrt(2.0) * np.eye(30)])
    weight, *_ = np.linalg.lstsq(rows, np.concatenate([target - target.mean(0), np.zeros((30, 2))]))
    probe = LinearProbe.fit(torch.from_numpy(features), torch.from_numpy(target), ridge=2.0)
    np.testing.assert_allclose(probe.weight.numpy(), weight, rtol=1e-9, atol=1e-12)


def test_linear_probe_without_ridge_is_ordinary_least_squares() -> None:
    design = np.concatenate([FEATURES, np.ones((60, 1))], axis=1)
    held_out = RANDOM.normal(size=(10, 4))
    weight, *_ = np.linalg.lstsq(design, TARGET)
    probe = LinearProbe.fit(torch.from_numpy(FEATURES), torch.from_numpy(TARGET), ridge=0)
    expected = np.concatenate([held_out, np.ones((10, 1))], axis=1) @ weight
    np.testing.assert_allclose(probe(torch.from_numpy(held_out)).numpy(), expected, rtol=1e-7)


def test_constant_feature_does_not_change_the_linear_probe() -> None:
    features = torch.from_numpy(np.concatenate([FEATURES, np.full((60, 1), 3.0)], axis=1))
    with_constant = LinearProbe.fit(features, torch.from_numpy(TARGET))(features)
    without = LinearProbe.fit(features[:, :4], torch.from_numpy(TARGET))(features[:, :4])
    torch.testing.assert_close(with_constant, without)


def test_r_squared_is_one_for_ground_truth_and_zero_for_its_mean() -> None:
    target = torch.from_numpy(TARGET)
    torch.testing.assert_close(r_squared(target, target), torch.ones(2).double())
    torch.testing.assert_close(r_squared(target.mean(0).expand(60, 2), target), torch.zeros(2).double())
    assert (r_squared(-target, target) < 0).all()


def test_r_squared_of_each_element_matches_hand_computation() -> None:
    target = torch.tensor([[0.0, 5.0], [2.0, 5.0]])  # residual 0.5^2 + 0.5^2 of variance 2; the second never varies
    score = r_squared(torch.tensor([[0.5, 5.0], [1.5, 5.0]]), target)
    assert score[0].item() == pytest.approx(0.75)
    assert torch.isnan(score[1])


def test_open_loop_starts_leave_room_for_context_and_horizon() -> None:
    assert open_loop_starts(20, context=5, horizon=9, starts=3) == [4, 7, 10]
    assert open_loop_starts(14, context=5, horizon=9, starts=3) == [4]  # only one row fits
    with pytest.raises(ValueError, match="14 rows, the sequences have 13"):
        open_loop_starts(13, context=5, horizon=9, starts=3)


@dataclass(frozen=True)
class Counted:
    count: Tensor


class Counter:
    """A world model whose steps append the action as one more digit."""

    spec = DataSpec({}, ActionSpec(1, discrete=False, low=(-2.0,), high=(2.0,)), {}, {})

    def noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.zeros(*shape, 0)

    def features(self, state: Counted) -> Tensor:
        return state.count

    def step(self, state: Counted, action: Tensor, noise: Tensor) -> Counted:  # noqa: ARG002
        return Counted(state.count * 10 + action)


def test_open_loop_starts_at_the_posterior_and_follows_recorded_actions() -> None:
    rows = torch.arange(10.0).expand(2, 10)
    batch = tiny_batch(2, 10)
    counting = SequenceBatch(
        observations={},
        action=rows[..., None],
        reward=rows,
        is_first=batch.is_first,
        is_last=batch.is_last,
        is_terminal=batch.is_terminal,
        privileged={},
        row=batch.row,
    )
    states = Counted(rows[..., None])
    rollout = Rollout(states, states.count, rows[..., None])
    ahead = open_loop(Counter(), rollout, counting, start=3, horizon=4, generator=seeded())
    halved = [4 / 2, 5 / 2, 6 / 2, 7 / 2]  # actions lie between -2 and 2
    expected = [3.0]
    for action in halved:
        expected.append(expected[-1] * 10 + action)
    assert ahead.features.squeeze(-1).t().tolist() == [expected] * 2
    assert ahead.action.squeeze(-1).t().tolist() == [halved] * 2


def test_recorded_trajectory_puts_each_action_before_its_arrival_row() -> None:
    model, batch = tiny_model(), tiny_batch()
    rollout = model.observe(batch, seeded())
    trajectory = recorded_trajectory(model, rollout, batch)
    assert torch.equal(trajectory.features[2], rollout.features[:, 2])
    assert torch.equal(trajectory.states.features, trajectory.features)
    assert torch.equal(trajectory.action[1], model.spec.action.normalize(batch.action)[:, 2])
    assert len(trajectory.action) == len(trajectory.rows) - 1 == 5
