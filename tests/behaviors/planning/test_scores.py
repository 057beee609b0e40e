"""The score of a plan, compared with a loop over rows."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.behaviors.planning.scores import ReturnScore, TerminalValue
from dreamset.behaviors.rewards import RewardFunction
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory
from tests.builders import seeded

HORIZON, COUNT = 4, 3
Array = NDArray[np.float64]


class GivenTerms(RewardFunction):
    """A reward and a penalty, which are the first two features."""

    def forward(self, trajectory: ImaginedTrajectory[None], model: object) -> dict[str, Tensor]:  # noqa: ARG002
        return {"reward": trajectory.features[..., 0], "penalty": -trajectory.features[..., 1].abs()}


class GivenContinuation:
    """The third feature is the continuation."""

    def continuation(self, trajectory: ImaginedTrajectory[None]) -> Tensor:
        return trajectory.features[..., 2].sigmoid()


@dataclass
class GivenValues:
    """A critic with given values [K, N], which remembers the reward that it was told."""

    given: Tensor
    told: list[Tensor] = field(default_factory=list)

    def values(self, trajectory: ImaginedTrajectory[None], reward: Tensor) -> Tensor:  # noqa: ARG002
        self.told.append(reward)
        return self.given


def trajectory(horizon: int = HORIZON) -> ImaginedTrajectory[None]:
    features = torch.randn(horizon + 1, COUNT, 3, generator=seeded(), dtype=torch.float64)
    return ImaginedTrajectory([], features, torch.zeros(horizon, COUNT, 1))


def expected(imagined: ImaginedTrajectory[None], discount: float, last_value: Array | None) -> list[float]:
    features, scores = imagined.features.numpy(), []
    for n in range(COUNT):
        total, weight = 0.0, 1.0
        for h in range(1, len(features)):  # row 0 was received before
            received = features[h, n, 0] - abs(features[h, n, 1])
            if h == len(features) - 1 and last_value is not None:
                received = last_value[n]
            total += weight * received
            weight *= discount / (1 + np.exp(-features[h, n, 2]))
        scores.append(total)
    return scores


@pytest.mark.parametrize("horizon", [1, 2, HORIZON])
def test_the_score_is_the_expected_discounted_return_with_penalties(horizon: int) -> None:
    imagined = trajectory(horizon)
    got = ReturnScore(GivenTerms(), discount=0.9)(imagined, GivenContinuation())
    np.testing.assert_allclose(got, expected(imagined, 0.9, None), rtol=1e-12)


@pytest.mark.parametrize("horizon", [1, HORIZON])
def test_a_terminal_value_replaces_the_last_reward(horizon: int) -> None:
    imagined, values = trajectory(horizon), torch.randn(1, COUNT, generator=seeded(1), dtype=torch.float64)
    critic = GivenValues(values)
    got = ReturnScore(GivenTerms(), discount=0.9, critic=critic)(imagined, GivenContinuation())
    np.testing.assert_allclose(got, expected(imagined, 0.9, values[0].numpy()), rtol=1e-12)
    last = imagined.features[-1]
    torch.testing.assert_close(critic.told, [last[:, 0] - last[:, 1].abs()])  # for critics whose values exclude it


def test_an_ensemble_of_critics_counts_with_its_mean_less_its_spread() -> None:
    imagined, values = trajectory(), torch.randn(5, COUNT, generator=seeded(1), dtype=torch.float64)
    score = ReturnScore(GivenTerms(), critic=GivenValues(values), terminal_value=TerminalValue(pessimism=0.7))
    spread = values.numpy().mean(0) - 0.7 * values.numpy().std(0)
    np.testing.assert_allclose(score(imagined, GivenContinuation()), expected(imagined, 1.0, spread), rtol=1e-12)


def test_two_critics_with_a_pessimism_of_one_count_with_their_minimum() -> None:
    values = torch.randn(2, 50, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(TerminalValue(pessimism=1.0)(values), values.min(0).values)


def test_pessimism_about_a_single_critic_is_refused() -> None:
    with pytest.raises(UserError, match=r"acting\.terminal_value\.pessimism is 0\.5.*no ensemble.*mean_disagreement"):
        TerminalValue(pessimism=0.5)(torch.zeros(1, 3))


def test_the_reward_of_the_start_never_counts() -> None:
    imagined = trajectory()
    score, changed = ReturnScore(GivenTerms()), trajectory()
    changed.features[0] += 7
    torch.testing.assert_close(score(imagined, GivenContinuation()), score(changed, GivenContinuation()))
    changed.features[1] += 7
    assert not torch.allclose(score(imagined, GivenContinuation()), score(changed, GivenContinuation()))


def test_the_last_row_alone_counts_with_the_probability_to_reach_it() -> None:
    imagined = trajectory()
    score = ReturnScore(GivenTerms(), discount=0.9, last_only=True)
    last = expected(imagined, 0.9, None) - np.array(expected(imagined, 0.9, np.zeros(COUNT)))
    np.testing.assert_allclose(score(imagined, GivenContinuation()), last, rtol=1e-10)
