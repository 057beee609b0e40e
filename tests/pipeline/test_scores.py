"""Scores of a policy: imagined returns of a world in closed form, and the scale of the normalised score."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.environments.rollouts import RecordedEpisode
from dreamset.models.imagination import imagine
from dreamset.pipeline.config.settings import Evaluation
from dreamset.pipeline.evaluation.scores import episode_table, imagined_returns, summarize, time_limits
from tests.behaviors.worlds import Row

CONTEXT = 3
SPEC = DataSpec({"time": ArraySpec((1,), "float32")}, ActionSpec(1, discrete=False, low=(-1,), high=(1,)), {}, {})


@dataclass
class Clock:
    """A world that observes the time. Its reward is the time of arrival plus the action; it goes on with ``continues``.

    A continue head trained towards a discount below one may exceed it, and so may ``continues``.
    """

    continues: float = 1.0
    predicts_ends: bool = True
    spec: DataSpec = SPEC
    feature_size: int = 2  # the time and the last action
    embedding_size: int = 0
    noise_distribution: str = "none"

    def initial(self, count: int) -> Row:
        return Row(torch.zeros(count, 2))

    def noise(self, shape: Any, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG002
        return torch.zeros(*shape, 0)

    def features(self, state: Row) -> torch.Tensor:
        return state.number

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: Row | None = None) -> Rollout:  # noqa: ARG002
        state = torch.cat([batch.observations["time"], batch.action], dim=-1)  # [B, T, 2]
        return Rollout(Row(state), state, state[..., :0])

    def filter(self, *arguments: Any) -> Row:
        raise AssertionError(arguments)

    def step(self, state: Row, action: torch.Tensor, noise: torch.Tensor) -> Row:  # noqa: ARG002
        return Row(torch.cat([state.number[:, :1] + 1, action], dim=-1))

    def continuation(self, trajectory: ImaginedTrajectory) -> torch.Tensor:
        return torch.full(trajectory.features.shape[:-1], self.continues)

    def reward(self, trajectory: ImaginedTrajectory) -> torch.Tensor:
        return trajectory.features.sum(-1)


class Half:
    """The policy whose action is 0.5."""

    def imagine(
        self, model: Any, start: Any, *, horizon: int, generator: torch.Generator, **_: Any
    ) -> ImaginedTrajectory[Any]:
        return imagine(
            model, start, lambda features: torch.full((len(features), 1), 0.5), horizon=horizon, generator=generator
        )


def episode(length: int, *, terminated: bool, limit: int | None = None) -> RecordedEpisode:
    """An episode of the world: row t shows t, and its reward is t + 0.5."""
    times = np.arange(length + 1, dtype=np.float32)[:, None]
    actions = np.full((length, 1), 0.5, np.float32)
    return RecordedEpisode(0, {"time": times}, {}, actions, np.arange(1, length + 1) + 0.5, terminated, limit)


def imagined(model: Any, *episodes: RecordedEpisode) -> NDArray[np.float64]:
    return imagined_returns(model, Half(), list(episodes), context=CONTEXT, device=torch.device("cpu"))


def by_hand(continues: float, limit: int) -> float:
    """Rewards of the rows CONTEXT to ``limit``, each with the probability of getting there."""
    return sum((row + 0.5) * continues ** (row - CONTEXT) for row in range(CONTEXT, limit + 1))


def test_perfect_model_imagines_the_real_return_of_every_episode_that_a_time_limit_ends() -> None:
    episodes = [episode(length, terminated=False) for length in (9, 5, 3)]
    table = episode_table(episodes, imagined(Clock(), *episodes), context=CONTEXT)
    np.testing.assert_allclose(table["imagined_return_after_context"], table["return_after_context"])
    np.testing.assert_allclose(table["return_after_context"], [by_hand(1.0, length) for length in (9, 5, 3)])


@pytest.mark.parametrize("continues", [0.0, 0.7, 1.0])
def test_imagined_rewards_count_as_often_as_the_model_expects_to_get_them(continues: float) -> None:
    got = imagined(Clock(continues), episode(5, terminated=True, limit=12), episode(12, terminated=False, limit=12))
    np.testing.assert_allclose(got, by_hand(continues, 12), rtol=1e-6)


def test_imagination_goes_on_to_the_time_limit_where_the_real_episode_fails() -> None:
    failed = episode(4, terminated=True, limit=20)
    assert imagined(Clock(), failed)[0] == pytest.approx(by_hand(1.0, 20))
    assert by_hand(1.0, 20) > failed.total_reward


def test_no_predicted_probability_counts_more_than_once() -> None:
    assert imagined(Clock(1.01), episode(9, terminated=False))[0] == pytest.approx(by_hand(1.0, 9))


def test_time_limit_is_that_of_the_environment_or_of_the_longest_episode() -> None:
    known = [episode(4, terminated=True, limit=20), episode(7, terminated=False, limit=20)]
    assert time_limits(known).tolist() == [20, 7]  # the second was cut off earlier
    assert time_limits([episode(4, terminated=True), episode(7, terminated=False)]).tolist() == [7, 7]


def test_episodes_that_end_within_the_context_count_in_neither_mean() -> None:
    episodes = [episode(2, terminated=True, limit=6), episode(6, terminated=False, limit=6)]
    table = episode_table(episodes, imagined(Clock(), *episodes), context=CONTEXT)
    assert np.isnan(table["imagined_return_after_context"]).tolist() == [True, False]
    metrics = summarize(SETTINGS, table, lineage(None, None))
    assert metrics["evaluation/imagined_return"] == pytest.approx(by_hand(1.0, 6))
    assert metrics["evaluation/real_return"] == pytest.approx(by_hand(1.0, 6))


SETTINGS = Evaluation(episodes=4, seed=0, confidence=0.95, resamples=20, video_episodes=1)


def lineage(low: float | None, high: float | None) -> dict[str, Any]:
    return {"reference": {"low": low, "high": high}, "dataset_return": {"mean": 1.0}}


def test_normalised_score_is_that_of_the_mean_return_because_references_are_means() -> None:
    episodes = [episode(length, terminated=True) for length in (3, 4, 5, 40)]
    returns = np.array([e.total_reward for e in episodes])
    table = episode_table(episodes, np.full(4, np.nan), context=CONTEXT)
    assert returns.mean() > 3 * np.sort(returns)[1:3].mean()
    scores = {low: summarize(SETTINGS, table, lineage(low, returns.mean())) for low in (0.0, returns.mean() / 2)}
    assert [metrics["evaluation/normalized_mean"] for metrics in scores.values()] == pytest.approx([100, 100])
    halved = summarize(SETTINGS, table, lineage(0.0, 2 * returns.mean()))
    assert halved["evaluation/normalized_mean"] == pytest.approx(50)
    assert "evaluation/normalized_mean" not in summarize(SETTINGS, table, lineage(None, 1.0))
    assert "evaluation/imagined_return" not in halved
