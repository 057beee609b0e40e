"""Calibration in closed form: intervals of samples, reliability of predicted ends, and models that cannot say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec, DataSpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.pipeline.config.settings import ProbeDecoder, Validation
from dreamset.pipeline.evaluation import calibration
from dreamset.pipeline.evaluation.validation import Validator
from tests.behaviors.worlds import Row

CONTEXT, EPISODES = 3, 400
DECODER = ProbeDecoder(updates=0, batch_size=1, lr=1.0, depth=1, hidden=1, layers=1)
SETTINGS = Validation(
    every=1,
    episodes=EPISODES,
    context=CONTEXT,
    horizons=[2, 6],
    starts=2,
    probe_episodes=1,
    probe_decoder=DECODER,
    video_episodes=1,
)
ACTION = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))
SPEC = DataSpec({"time": ArraySpec((1,), "float32")}, ACTION, {}, {})


class Noise:
    """Rewards are independent standard normal numbers. Episode i has 10 + i % 3 steps; every other one truly ends."""

    episode_count = 2 * EPISODES

    def describe(self) -> SourceDescription:
        return SourceDescription(dict(SPEC.observations), {}, ACTION, {"format": "noise"})

    def read(self, number: int) -> RawEpisode:
        steps = 10 + number % 3
        return RawEpisode(
            name=f"episode {number}",
            observations={"time": np.arange(steps + 1, dtype=np.float32)[:, None]},
            actions=np.zeros((steps, 1), np.float32),
            rewards=np.random.default_rng(number).normal(size=steps),
            terminated=number % 2 == 0,
            privileged={},
        )


@dataclass
class Guess:
    """Counts the time, imagines rewards N(0, ``spread``²), and expects an end with ``end`` from step 10 on."""

    spread: float = 1.0
    end: float = 0.0
    predicts_ends: bool = True
    noise_distribution: str = "normal"
    spec: DataSpec = SPEC
    feature_size: int = 2  # the time and the noise of the last step
    embedding_size: int = 0

    def initial(self, count: int) -> Row:
        return Row(torch.zeros(count, 2))

    def noise(self, shape: Any, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(*shape, 1, generator=generator)

    def features(self, state: Row) -> torch.Tensor:
        return state.number

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: Any = None) -> Rollout:  # noqa: ARG002
        time = batch.observations["time"]
        state = torch.cat([time, torch.zeros_like(time)], dim=-1)
        return Rollout(Row(state), state, state[..., :0])

    def filter(self, *arguments: Any) -> Row:
        raise AssertionError(arguments)

    def step(self, state: Row, action: torch.Tensor, noise: torch.Tensor) -> Row:  # noqa: ARG002
        return Row(torch.cat([state.number[:, :1] + 1, noise], dim=-1))

    def continuation(self, trajectory: ImaginedTrajectory) -> torch.Tensor:
        return 1 - self.end * (trajectory.features[..., 0] >= 10)

    def reward(self, trajectory: ImaginedTrajectory) -> torch.Tensor:
        return self.spread * trajectory.features[..., 1]


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Validator:
    half = np.arange(EPISODES)
    store: Store = write_store(
        Noise(),
        Path(tmp_path_factory.mktemp("calibration")) / "store",
        splits=lambda _: {"train": half + EPISODES, "validation": half},
    )
    return Validator(store, SETTINGS, device=torch.device("cpu"))


def covered(model: Guess, validator: Validator) -> dict[str, np.ndarray]:
    record = calibration.reward_coverage(model, validator)
    assert record["rows"] == 2 * EPISODES
    return {horizon: np.array(shares) for horizon, shares in record["covered"].items()}


def test_interval_holds_a_truth_between_its_samples() -> None:
    """5.5 lies between the 5th and the 6th of 19 samples, so the intervals from the 5th lowest outwards hold it."""
    sampled = torch.arange(1.0, 20.0)[torch.randperm(19, generator=torch.Generator().manual_seed(0))]
    held = calibration.inside(sampled, torch.tensor(5.5))
    assert dict(zip(calibration.LEVELS, held.tolist(), strict=True)) == {
        level / 10: level >= 5 for level in range(1, 10)
    }
    assert not calibration.inside(sampled, torch.tensor(19.5)).any()


def test_spread_of_the_true_distribution_covers_as_often_as_it_says(validator: Validator) -> None:
    shares = covered(Guess(spread=1.0), validator)
    assert set(shares) == {"2", "6"}
    error = 4 * np.sqrt(0.25 / (2 * EPISODES))
    np.testing.assert_allclose(np.stack(list(shares.values())), [calibration.LEVELS] * 2, atol=error)


def test_narrow_spread_covers_less_and_wide_spread_covers_more(validator: Validator) -> None:
    levels = np.array(calibration.LEVELS)
    assert (covered(Guess(spread=0.1), validator)["6"] < levels / 2).all()
    assert (covered(Guess(spread=10.0), validator)["6"] > levels + (1 - levels) / 4).all()


def test_reliability_compares_predicted_with_seen_ends(validator: Validator) -> None:
    """The rows 10, 11 and 12 are predicted as ends with 0.25. Half of the episodes truly end in their last row."""
    record = calibration.ends(Guess(end=0.25), validator)
    late = sum(number % 3 + 1 for number in range(EPISODES))  # rows from step 10 on
    rows = sum(10 + number % 3 + 1 - CONTEXT for number in range(EPISODES))
    ends = EPISODES // 2
    assert (record["rows"], record["ends"]) == (rows, ends)
    never, sometimes = record["bins"]
    assert never == {"predicted": 0.0, "seen": 0.0, "rows": rows - late}
    assert sometimes == {"predicted": 0.25, "seen": pytest.approx(ends / late), "rows": late}
    assert record["brier"] == pytest.approx((ends * 0.75**2 + (late - ends) * 0.25**2) / rows)
    assert record["brier_of_rate"] == pytest.approx(ends / rows * (1 - ends / rows))


def test_certain_and_right_prediction_has_no_brier_score() -> None:
    seen = torch.tensor([False, True, True])
    record = calibration.reliability(seen.double(), seen)
    assert record["brier"] == 0
    assert [(bin_["predicted"], bin_["seen"], bin_["rows"]) for bin_ in record["bins"]] == [(0, 0, 1), (1, 1, 2)]


class Observer:
    """A representation without dynamics."""


@pytest.mark.parametrize(
    ("model", "reward", "ends"),
    [
        (Observer(), calibration.NO_DYNAMICS, calibration.NO_DYNAMICS),
        (Guess(predicts_ends=False, noise_distribution="none"), calibration.NO_SPREAD, calibration.NO_ENDS),
        (Guess(spread=float("nan"), end=float("nan")), calibration.NOT_FINITE, calibration.NOT_FINITE),
    ],
)
def test_model_that_cannot_say_has_a_reason(model: Any, reward: str, ends: str, validator: Validator) -> None:
    record = calibration.calibration(model, validator)
    assert record == {"reward": {"reason": reward}, "ends": {"reason": ends}}


def test_equal_models_give_equal_records(validator: Validator) -> None:
    assert calibration.calibration(Guess(end=0.5), validator) == calibration.calibration(Guess(end=0.5), validator)
