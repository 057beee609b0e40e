"""The RSSM, compared with a loop over time in NumPy, and the laws of its time axis."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamset.core.records import Rollout
from dreamset.models.imagination import imagine, predict
from dreamset.models.recurrent.cells import GRU
from dreamset.models.recurrent.latents import GaussianLatent
from dreamset.models.recurrent.rssm import RSSM, RecurrentState
from tests.builders import seeded

Array = NDArray[np.float64]
BATCH, TIME, EMBEDDING, ACTION, SIZE, HIDDEN, LATENT, MIN_STD = 3, 6, 5, 2, 7, 8, 4, 0.1


@pytest.fixture
def rssm() -> RSSM:
    """In float64 with random parameters, because a zero bias would hide errors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RSSM(
            EMBEDDING,
            ACTION,
            latent=GaussianLatent(LATENT, min_std=MIN_STD),
            cell=lambda inputs: GRU(inputs, size=SIZE),
            hidden=HIDDEN,
        ).double()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def fix_noise(rssm: RSSM, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], None]:
    """Makes the latent return the given noise [T, B, Z] instead of random numbers."""

    def fix(noise: Tensor) -> None:
        def given(shape: Sequence[int], generator: torch.Generator) -> Tensor:  # noqa: ARG001
            assert tuple(shape) == tuple(noise.shape[:-1])
            return noise

        monkeypatch.setattr(rssm.latent, "noise", given)

    return fix


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def state(batch: int = BATCH) -> RecurrentState:
    return RecurrentState(draw(batch, SIZE, seed=11), draw(batch, LATENT, seed=12))


def firsts(*pairs: tuple[int, int]) -> Tensor:
    flags = torch.zeros(BATCH, TIME, dtype=torch.bool)
    for sequence, row in pairs:
        flags[sequence, row] = True
    return flags


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


class NumpyRSSM:
    """The papers' formulas for one row of one sequence, with the weights of a model."""

    def __init__(self, rssm: RSSM) -> None:
        self.weights = {name: value.detach().numpy() for name, value in rssm.state_dict().items()}

    def dense(self, name: str, x: Array) -> Array:
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def cell(self, h: Array, z: Array, action: Array) -> Array:
        w = self.weights
        joint = np.concatenate([w["from_stochastic.weight"], w["from_action.weight"]], axis=1)
        x = elu(joint @ np.concatenate([z, action]) + w["from_action.bias"])
        r_x, u_x, n_x = np.split(w["cell.cell.weight_ih"] @ x + w["cell.cell.bias_ih"], 3)
        r_h, u_h, n_h = np.split(w["cell.cell.weight_hh"] @ h + w["cell.cell.bias_hh"], 3)
        reset, update = sigmoid(r_x + r_h), sigmoid(u_x + u_h)
        return update * h + (1 - update) * np.tanh(n_x + reset * n_h)

    def prior(self, h: Array) -> Array:
        return self.dense("prior_head.2", elu(self.dense("prior_head.0", h)))

    def posterior(self, h: Array, embedding: Array) -> Array:
        w = self.weights
        joint = np.concatenate([w["from_deterministic.weight"], w["from_embedding.weight"]], axis=1)
        return self.dense("posterior_out", elu(joint @ np.concatenate([h, embedding]) + w["from_embedding.bias"]))

    def sample(self, parameters: Array, noise: Array) -> Array:
        mean, raw = np.split(parameters, 2)
        return mean + (np.logaddexp(0, raw) + MIN_STD) * noise


def rollouts_equal(left: Rollout, right: Rollout) -> None:
    for one, other in zip(compared(left), compared(right), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def compared(rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
    return rollout.features, rollout.details.prior, rollout.details.posterior


@pytest.mark.parametrize("given_start", [False, True])
def test_observe_equals_a_loop_over_rows_and_sequences(
    rssm: RSSM, fix_noise: Callable[[Tensor], None], given_start: bool
) -> None:
    embedding, action, noise = (
        draw(BATCH, TIME, EMBEDDING),
        draw(BATCH, TIME, ACTION, seed=1),
        draw(TIME, BATCH, LATENT),
    )
    is_first = firsts((0, 0), (1, 3), (2, 3), (2, 5))
    start = state() if given_start else None
    fix_noise(noise)
    rollout = rssm.observe(embedding, action, is_first, seeded(), start)
    reference = NumpyRSSM(rssm)
    for b in range(BATCH):
        h = np.zeros(SIZE) if start is None else start.deterministic[b].numpy()
        z = np.zeros(LATENT) if start is None else start.stochastic[b].numpy()
        for t in range(TIME):
            taken = action[b, t].numpy()
            if is_first[b, t]:
                h, z, taken = np.zeros(SIZE), np.zeros(LATENT), np.zeros(ACTION)
            h = reference.cell(h, z, taken)
            posterior = reference.posterior(h, embedding[b, t].numpy())
            z = reference.sample(posterior, noise[t, b].numpy())
            got = {
                "posterior": rollout.details.posterior[b, t],
                "prior": rollout.details.prior[b, t],
                "features": rollout.features[b, t],
            }
            expected = {"posterior": posterior, "prior": reference.prior(h), "features": np.concatenate([h, z])}
            for name, value in got.items():
                np.testing.assert_allclose(
                    value.detach().numpy(), expected[name], rtol=1e-10, atol=1e-12, err_msg=f"{name} {b} {t}"
                )
    assert torch.equal(rollout.states.features, rollout.features)
    assert torch.equal(rollout.embedding, embedding)


def test_observe_ignores_rows_before_an_episode_start(rssm: RSSM, fix_noise: Callable[[Tensor], None]) -> None:
    embedding, action, noise = (
        draw(BATCH, TIME, EMBEDDING),
        draw(BATCH, TIME, ACTION, seed=1),
        draw(TIME, BATCH, LATENT),
    )
    row = 3
    fix_noise(noise)
    joined = rssm.observe(embedding, action, firsts(*((b, row) for b in range(BATCH))), seeded(), state())
    without = rssm.observe(embedding, action, firsts(), seeded(), state())
    fix_noise(noise[row:])
    rest = firsts(*((b, row) for b in range(BATCH)))[:, row:]
    alone = rssm.observe(embedding[:, row:], action[:, row:], rest, seeded())
    torch.testing.assert_close(joined.features[:, row:], alone.features, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(joined.details.prior[:, row:], alone.details.prior, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(joined.features[:, row:], without.features[:, row:])
    torch.testing.assert_close(joined.features[:, :row], without.features[:, :row], rtol=1e-12, atol=1e-12)


def test_observe_ignores_the_recorded_action_of_a_first_row(rssm: RSSM) -> None:
    embedding, action = draw(BATCH, TIME, EMBEDDING), draw(BATCH, TIME, ACTION, seed=1)
    is_first = firsts(*((b, 0) for b in range(BATCH)))
    changed = action.clone()
    changed[:, 0] += 5
    rollouts_equal(
        rssm.observe(embedding, action, is_first, seeded()), rssm.observe(embedding, changed, is_first, seeded())
    )


def test_reset_of_one_sequence_leaves_the_others_unchanged(rssm: RSSM) -> None:
    embedding, action = draw(BATCH, TIME, EMBEDDING), draw(BATCH, TIME, ACTION, seed=1)
    plain = rssm.observe(embedding, action, firsts(), seeded())
    reset = rssm.observe(embedding, action, firsts((1, 2)), seeded())
    torch.testing.assert_close(reset.features[[0, 2]], plain.features[[0, 2]], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(reset.features[1, 2:], plain.features[1, 2:])


def first_changed_row(left: Tensor, right: Tensor) -> int:
    different = (left != right).flatten(2).any(dim=2).any(dim=0)  # [T]
    return int(different.nonzero()[0])


@pytest.mark.parametrize("row", [0, 2, TIME - 1])
def test_the_action_of_a_row_changes_no_earlier_row(rssm: RSSM, row: int) -> None:
    embedding, action = draw(BATCH, TIME, EMBEDDING), draw(BATCH, TIME, ACTION, seed=1)
    changed = action.clone()
    changed[:, row] += 1
    before = rssm.observe(embedding, action, firsts(), seeded())
    after = rssm.observe(embedding, changed, firsts(), seeded())
    for one, other in zip(compared(before), compared(after), strict=True):
        assert first_changed_row(one, other) == row


@pytest.mark.parametrize("row", [0, 2, TIME - 2])
def test_posterior_depends_on_the_observation_of_its_row_prior_does_not(rssm: RSSM, row: int) -> None:
    embedding, action = draw(BATCH, TIME, EMBEDDING), draw(BATCH, TIME, ACTION, seed=1)
    changed = embedding.clone()
    changed[:, row] += 1
    before = rssm.observe(embedding, action, firsts(), seeded())
    after = rssm.observe(changed, action, firsts(), seeded())
    assert first_changed_row(before.details.posterior, after.details.posterior) == row
    assert first_changed_row(before.details.prior, after.details.prior) == row + 1
    assert first_changed_row(before.states.deterministic, after.states.deterministic) == row + 1


def test_step_applies_the_cell_and_samples_the_prior(rssm: RSSM) -> None:
    before, action, noise = state(), draw(BATCH, ACTION, seed=1), draw(BATCH, LATENT, seed=2)
    after = rssm.step(before, action, noise)
    reference = NumpyRSSM(rssm)
    for b in range(BATCH):
        h = reference.cell(before.deterministic[b].numpy(), before.stochastic[b].numpy(), action[b].numpy())
        z = reference.sample(reference.prior(h), noise[b].numpy())
        np.testing.assert_allclose(after.features[b].detach().numpy(), np.concatenate([h, z]), rtol=1e-10, atol=1e-12)


def test_predict_steps_through_the_given_actions(rssm: RSSM, fix_noise: Callable[[Tensor], None]) -> None:
    action, noise = draw(BATCH, TIME, ACTION, seed=1), draw(TIME, BATCH, LATENT)
    fix_noise(noise)
    predicted = predict(rssm, state(), action, seeded())
    current = state()
    for k in range(TIME):
        current = rssm.step(current, action[:, k], noise[k])
        torch.testing.assert_close(predicted.features[k + 1], current.features, rtol=1e-12, atol=1e-12)


def test_imagine_steps_through_the_actions_of_its_policy(rssm: RSSM, fix_noise: Callable[[Tensor], None]) -> None:
    noise = draw(TIME, BATCH, LATENT)
    fix_noise(noise)

    def policy(features: Tensor) -> Tensor:
        return torch.tanh(features[:, :ACTION] - features[:, -ACTION:])

    trajectory = imagine(rssm, state(), policy, horizon=TIME, generator=seeded())
    current = state()
    for h in range(TIME):
        torch.testing.assert_close(trajectory.features[h], current.features, rtol=1e-12, atol=1e-12)
        action = policy(current.features)
        torch.testing.assert_close(trajectory.action[h], action, rtol=1e-12, atol=1e-12)
        current = rssm.step(current, action, noise[h])
    torch.testing.assert_close(trajectory.features[TIME], current.features, rtol=1e-12, atol=1e-12)
    assert len(trajectory.features) == len(trajectory.action) + 1 == TIME + 1


def test_gradients_flow_from_the_last_imagined_state_to_the_first_action(rssm: RSSM) -> None:
    first = draw(BATCH, ACTION, seed=1).requires_grad_()
    calls: list[Tensor] = []

    def policy(features: Tensor) -> Tensor:
        calls.append(features)
        return first if len(calls) == 1 else torch.zeros(BATCH, ACTION, dtype=torch.float64)

    trajectory = imagine(rssm, state(), policy, horizon=TIME, generator=seeded())
    (gradient,) = torch.autograd.grad(trajectory.features[-1].sum(), first)
    assert len(calls) == TIME
    assert (gradient.abs() > 1e-12).all()


def test_imagination_repeats_with_the_seed_of_its_generator(rssm: RSSM) -> None:
    def imagined(seed: int) -> Tensor:
        return imagine(
            rssm, state(), lambda features: features[:, :ACTION], horizon=TIME, generator=seeded(seed)
        ).features

    assert torch.equal(imagined(1), imagined(1))
    assert torch.equal(imagined(1)[0], imagined(2)[0])
    assert not torch.equal(imagined(1)[1], imagined(2)[1])


def test_features_are_the_deterministic_then_the_stochastic_state() -> None:
    halves = RecurrentState(torch.tensor([1.0, 2.0]), torch.tensor([3.0]))
    assert halves.features.tolist() == [1.0, 2.0, 3.0]
