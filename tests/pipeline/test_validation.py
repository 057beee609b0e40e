"""Held-out figures of models in closed form: rows of the context, and probes by region."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamset.core.records import ImaginedTrajectory, Rollout, SequenceBatch
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets import RawEpisode, Store, write_store
from dreamset.datasets.sources import SourceDescription
from dreamset.pipeline.config.settings import ProbeDecoder, Validation
from dreamset.pipeline.evaluation.validation import Validator, reward_quarters
from tests.behaviors.worlds import Row

CONTEXT, STEPS = 3, 40
DECODER = ProbeDecoder(updates=0, batch_size=1, lr=1.0, depth=1, hidden=1, layers=1)
SETTINGS = Validation(
    every=1,
    episodes=2,
    context=CONTEXT,
    horizons=[2],
    starts=1,
    probe_episodes=2,
    probe_decoder=DECODER,
    video_episodes=1,
)


class Ramps:
    """Row t of an episode shows ``truth``, a random number beside a constant, and t; its reward is t."""

    episode_count = 4

    def describe(self) -> SourceDescription:
        shown = {"time": ArraySpec((1,), "float32"), "seen": ArraySpec((1,), "float32")}
        truth = {"truth": ArraySpec((1,), "float32"), "constant": ArraySpec((1,), "float32")}
        action = ActionSpec(1, discrete=False, low=(-1.0,), high=(1.0,))
        return SourceDescription(shown, truth, action, {"format": "ramps"})

    def read(self, number: int) -> RawEpisode:
        truth = np.random.default_rng(number).normal(size=(STEPS + 1, 1)).astype(np.float32)
        time = np.arange(STEPS + 1, dtype=np.float32)[:, None]
        return RawEpisode(
            name=f"episode {number}",
            observations={"time": time, "seen": truth},
            actions=np.zeros((STEPS, 1), np.float32),
            rewards=time[1:, 0],
            terminated=False,
            privileged={"truth": truth, "constant": np.ones_like(time)},
        )


class Blurred:
    """A model whose state is the truth, except from row ``from_row`` on, and whose reward is wrong up to row 2."""

    headline = "none"

    def __init__(self, *, from_row: int, error: float) -> None:
        self.from_row, self.error = from_row, error

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: Any = None) -> Rollout:  # noqa: ARG002
        time, seen = batch.observations["time"], batch.observations["seen"]
        blurred = seen + self.error * torch.where(seen > 0, 1.0, -1.0) * (time >= self.from_row)
        features = torch.cat([blurred, time], dim=-1)
        return Rollout(Row(features), features, features[..., :0])

    def reward(self, trajectory: ImaginedTrajectory) -> torch.Tensor:
        time = trajectory.features[..., 1]
        return time + torch.where(time < CONTEXT, 100.0, 0.5)

    def figures(self, rollout: Rollout, batch: SequenceBatch) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {}

    @property
    def spec(self) -> Any:
        return Ramps().describe()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(
        Ramps(), tmp_path / "store", splits=lambda _: {"train": np.arange(2), "validation": np.arange(2, 4)}
    )


def metrics(store: Store, model: Any) -> dict[str, float]:
    return Validator(store, SETTINGS, device=torch.device("cpu")).metrics(model)


def test_names_of_held_out_episodes_are_those_of_the_rows(store: Store) -> None:
    validator = Validator(store, SETTINGS, device=torch.device("cpu"))
    assert len(validator.episode_names) == 2
    for name, truth in zip(validator.episode_names, validator.held_out.privileged["truth"], strict=True):
        number = int(name.removeprefix("episode ").partition(",")[0])
        np.testing.assert_array_equal(truth, store.read(number)["privileged.truth"])
        assert name.endswith(f"return {store.read(number)['reward'].sum():.1f}")


def test_reward_error_of_posterior_states_leaves_the_context_out(store: Store) -> None:
    assert metrics(store, Blurred(from_row=99, error=0))["validation/reward_error_h0"] == pytest.approx(0.25)


def test_probes_by_region_show_what_the_mean_over_all_rows_hides(store: Store) -> None:
    """The last quarter by reward, rows 32 to 40 of 3 to 40, is blurred; the probe is that of all rows."""
    exact = metrics(store, Blurred(from_row=99, error=0))
    blurred = metrics(store, Blurred(from_row=32, error=1.0))
    names = [f"validation/probe_correlation_reward_q{number}" for number in (1, 2, 3, 4)]
    assert [exact[name] for name in names] == pytest.approx([1.0] * 4, abs=0.01)
    assert min(blurred[name] for name in names[:3]) > 0.97 > blurred[names[3]]


def test_probe_score_of_a_region_is_that_of_its_rows_alone(store: Store) -> None:
    validator = Validator(store, SETTINGS, device=torch.device("cpu"))
    held_out = validator.held_out
    model = Blurred(from_row=32, error=1.0)
    got = validator.metrics(model)["validation/probe_correlation_reward_q4.truth"]
    fitting = validator.fitting
    features, truth = (
        value.double().flatten(0, 1).numpy()
        for value in (model.observe(fitting, torch.Generator()).features, fitting.privileged["truth"])
    )
    mean, std = features.mean(0), features.std(0, ddof=1)
    x = (features - mean) / std
    weight = np.linalg.solve(x.T @ x + np.eye(2), x.T @ (truth - truth.mean(0)))
    last = held_out.reward > np.quantile(held_out.reward[:, CONTEXT:], 0.75)
    rows = model.observe(held_out, torch.Generator()).features[last].double().numpy()
    expected = held_out.privileged["truth"][last].double().numpy()
    predicted = (rows - mean) / std @ weight + truth.mean(0)
    assert got == pytest.approx(np.corrcoef(predicted[:, 0], expected[:, 0])[0, 1])


def test_truth_that_never_varies_has_no_score_and_does_not_spoil_the_mean(store: Store) -> None:
    figures = metrics(store, Blurred(from_row=99, error=0))
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["validation/probe_r2"] == figures["validation/probe_r2.truth"]
    assert not [name for name in figures if "constant" in name]


def test_quarters_by_reward_are_disjoint_and_together_all_rows() -> None:
    reward = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    quarters = reward_quarters(reward)
    assert [name for name, rows in quarters.items() if rows.sum() == 50] == ["q1", "q2", "q3", "q4"]
    assert torch.stack(list(quarters.values())).sum(0).eq(1).all()
    highest = [reward[rows].max() for rows in quarters.values()]
    lowest = [reward[rows].min() for rows in quarters.values()]
    assert all(below < above for below, above in zip(highest[:-1], lowest[1:], strict=True))


def test_equal_rewards_are_in_one_quarter() -> None:
    sparse = torch.zeros(2, 10)
    assert reward_quarters(sparse) == {}
    sparse[:, 9] = 1
    assert {name: rows.sum().item() for name, rows in reward_quarters(sparse).items()} == {"q1": 18, "q4": 2}
