"""The one-step ensemble: its loss, the row that its disagreement belongs to, and what it may not change."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dreamset.behaviors.rewards.spreads import LogProbabilitySpread, MeanDisagreement, MixtureSpread, Variance
from dreamset.core.capabilities import Uncertain
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch
from dreamset.models.imagination import imagine
from dreamset.models.recurrent.ensemble import bootstrap_mask
from dreamset.models.recurrent.one_step import Embedding, Features, OneStepEnsemble, OneStepPredictions
from dreamset.models.recurrent.rssm import RecurrentState
from dreamset.models.recurrent.world_model import WorldModel
from tests.builders import seeded, tiny_batch, tiny_model

Array = NDArray[np.float64]
ONE_STEP = "world_model/ensemble=one_step"
TARGETS = ("embedding", "stochastic", "deterministic", "features")


def model_with(*overrides: str, seed: int = 0) -> tuple[WorldModel, OneStepEnsemble]:
    model = tiny_model(ONE_STEP, *overrides, seed=seed)
    assert isinstance(model.ensemble, OneStepEnsemble)
    return model, model.ensemble


def by_hand(member: torch.nn.Sequential, inputs: Array) -> Array:
    """Two hidden layers with ReLU and a linear output."""
    weights = [parameter.detach().double().numpy() for parameter in member.parameters()]
    values = inputs
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        values = np.maximum(values @ kernel.T + bias, 0)
    return values @ weights[-2].T + weights[-1]


def two_episodes() -> SequenceBatch:
    """Windows of six rows; a new episode begins in row 3 of the second one."""
    batch = tiny_batch(2, 6)
    batch.is_first[1, 3] = True
    return batch


# ---- the loss


@pytest.mark.parametrize("target", TARGETS)
def test_loss_is_the_squared_error_of_the_next_row_after_the_action_that_leads_there(target: str) -> None:
    model, ensemble = model_with(f"world_model/ensemble/target={target}")
    model.double()
    ensemble.block = 2
    batch = two_episodes().map(lambda value: value.double() if value.is_floating_point() else value)
    with torch.random.fork_rng():
        torch.set_default_dtype(torch.float64)
        try:
            rollout = model.observe(batch, seeded())
        finally:
            torch.set_default_dtype(torch.float32)
    states = rollout.states
    truths = {
        "embedding": rollout.embedding,
        "stochastic": states.stochastic,
        "deterministic": states.deterministic,
        "features": rollout.features,
    }
    features, truth = rollout.features.detach().numpy(), truths[target].detach().numpy()
    action = model.spec.action.normalize(batch.action).numpy()
    expected = np.zeros((2, 6))
    for k, member in enumerate(ensemble.members):
        mask = bootstrap_mask(batch.row // 2, members=5, share=0.632)[k].numpy()
        for b in range(2):
            for t in range(1, 6):
                if batch.is_first[b, t] or not mask[b, t]:
                    continue
                predicted = by_hand(member, np.concatenate([features[b, t - 1], action[b, t]]))
                expected[b, t] += 0.5 * ((predicted - truth[b, t]) ** 2).sum() / (5 * 0.632)
    got = model.losses(rollout, batch)["ensemble"].value.detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert (expected > 0).any()


def test_first_rows_of_windows_and_episodes_give_no_loss() -> None:
    model, ensemble = model_with()
    ensemble.share = 1.0
    batch = two_episodes()
    value = model.losses(model.observe(batch, seeded()), batch)["ensemble"].value
    assert (value == 0).nonzero().tolist() == [[0, 0], [1, 0], [1, 3]]


def test_loss_trains_only_the_members_and_leaves_the_other_losses_as_they_are() -> None:
    plain, (model, ensemble) = tiny_model(), model_with()
    model.load_state_dict(plain.state_dict(), strict=False)
    batch = tiny_batch()
    losses = [m.losses(m.observe(batch, seeded()), batch) for m in (plain, model)]
    for name, loss in losses[0].items():
        assert torch.equal(loss.value, losses[1][name].value)
    losses[1]["ensemble"].value.mean().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {f"ensemble.{name}" for name, _ in ensemble.named_parameters()}


# ---- the members' predictions


def trajectory_of(model: WorldModel, *, rows: int = 5, count: int = 3) -> ImaginedTrajectory:
    generator = seeded(4)
    features = torch.randn(rows, count, model.feature_size, generator=generator)
    return ImaginedTrajectory([], features, torch.rand(rows - 1, count, 2, generator=generator) * 2 - 1)


def test_prediction_of_a_row_is_made_from_the_row_before_and_the_action_between() -> None:
    model, ensemble = model_with()
    trajectory = trajectory_of(model)
    means = model.members(trajectory).mean().detach().numpy()
    inputs = torch.cat([trajectory.features[:-1], trajectory.action], -1).double().numpy()
    for k, member in enumerate(ensemble.members):
        np.testing.assert_allclose(means[k, 1:], by_hand(member, inputs), rtol=1e-4, atol=1e-5)


def test_members_agree_in_row_0_which_follows_no_action() -> None:
    model, _ = model_with("world_model/ensemble/target=stochastic")
    members = model.members(trajectory_of(model))
    for spread in (Variance(), MeanDisagreement(), LogProbabilitySpread()):
        value = spread(members).detach()
        np.testing.assert_allclose(value[0], 0, atol=1e-6)
        assert (value[1:] > 1e-4).all()


def test_deterministic_input_makes_predictions_blind_to_the_stochastic_state() -> None:
    model, _ = model_with("world_model/ensemble/input=deterministic")
    trajectory = trajectory_of(model)
    other = trajectory.features.clone()
    other[..., model.dynamics.cell.size :] += 1
    changed = ImaginedTrajectory([], other, trajectory.action)
    assert torch.equal(model.members(trajectory).mean(), model.members(changed).mean())


def test_predictions_are_gaussians_of_unit_variance() -> None:
    numbers = np.random.default_rng(0)
    means, state = numbers.normal(size=(4, 3, 2, 5)), numbers.normal(size=(3, 2, 5))
    features = RecurrentState(torch.from_numpy(state[..., :3]), torch.from_numpy(state[..., 3:]))
    members = OneStepPredictions(torch.from_numpy(means), Features(), features)
    expected = (-((state - means) ** 2) / 2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    np.testing.assert_allclose(members.log_prob().numpy(), expected, rtol=1e-12)
    assert torch.equal(members.variance(), torch.ones(4, 3, 2, 5, dtype=torch.float64))
    mixture = np.sqrt(1 + ((means - means.mean(0)) ** 2).mean(0)).mean(-1)
    np.testing.assert_allclose(MixtureSpread()(members).numpy(), mixture, rtol=1e-12)


def test_log_probability_of_an_embedding_is_refused_because_imagination_has_none() -> None:
    model, _ = model_with()
    with pytest.raises(UserError, match=r"embeddings.*world_model/ensemble/target=stochastic"):
        model.members(trajectory_of(model)).log_prob()


def test_disagreement_depends_on_the_action_into_a_row_and_not_on_the_one_before() -> None:
    """The world's next state is the action, so an action that was never taken is the only thing to be unsure of."""
    model, ensemble = model_with("world_model/ensemble/target=deterministic", "world_model.ensemble.share=1.0")
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-2)
    generator = seeded(2)
    for _ in range(150):
        action = -torch.rand(16, 6, 2, generator=generator)  # only negative actions are known
        state = world_of_actions(model, action)
        rollout = model.observe(tiny_batch(16, 6), seeded())
        rollout = type(rollout)(state, state.features.detach(), rollout.embedding, rollout.details)
        optimizer.zero_grad()
        ensemble.loss(rollout, action, tiny_batch(16, 6)).value.mean().backward()
        optimizer.step()
    known = -torch.rand(1, 6, 2, generator=generator)
    unknown = known.clone()
    unknown[:, 3] = 2.0  # leads into row 3
    state = world_of_actions(model, known)
    spreads = [
        Variance()(model.members(ImaginedTrajectory.recorded(state, state.features, action)))[:, 0]
        for action in (known, unknown)
    ]
    assert (spreads[0] != spreads[1]).nonzero().flatten().tolist() == [3]
    assert spreads[1][3] > 100 * spreads[0].max()


def world_of_actions(model: WorldModel, action: torch.Tensor) -> RecurrentState:
    """States [B, T, ...] whose first numbers are the action that led there."""
    state = model.dynamics.initial(action.shape[0] * action.shape[1])
    deterministic, stochastic = (
        value.detach().unflatten(0, action.shape[:2]).clone() for value in (state.deterministic, state.stochastic)
    )
    deterministic[..., :2] = action
    return RecurrentState(deterministic, stochastic)


def test_trained_members_disagree_less_on_the_data_than_off_it() -> None:
    model, ensemble = model_with()
    ensemble.block = 3
    batch = tiny_batch(8, 12)
    with torch.no_grad():
        rollout = model.observe(batch, seeded())
    action = model.spec.action.normalize(batch.action)
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=1e-2)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = ensemble.loss(rollout, action, batch).value.mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    seen = ImaginedTrajectory.recorded(rollout.states, rollout.features, action)
    far = ImaginedTrajectory([], 3 * torch.randn(seen.features.shape, generator=seeded()), seen.action)
    on_data, off_data = (Variance()(model.members(one))[1:].mean().item() for one in (seen, far))
    assert on_data < 0.5 * off_data


# ---- as a part of the world model


def test_bonus_has_a_gradient_through_the_dynamics_to_every_action_before_it() -> None:
    model, _ = model_with("world_model/ensemble/target=features")
    model.requires_grad_(False)
    action = torch.zeros(4, 3, 2, requires_grad=True)
    taken = iter(action.unbind(0))
    trajectory = imagine(model, model.initial(3), lambda _: next(taken), horizon=4, generator=seeded())
    Variance()(model.members(trajectory))[3].sum().backward()
    assert action.grad is not None
    moved = action.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [True, True, True, False]


def test_members_start_differently_and_leave_the_other_networks_as_they_are() -> None:
    model, ensemble = model_with()
    kernels = [member[0].weight for member in ensemble.members]
    assert not any(torch.equal(kernels[0], other) for other in kernels[1:])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ensemble_again = OneStepEnsemble(model.dynamics, input=Features(), target=Embedding(), hidden=3)
        after = torch.rand(2)
        torch.manual_seed(1)
        assert torch.equal(after, torch.rand(2))
    assert ensemble_again.members[0][0].in_features == model.feature_size + 2
    assert ensemble_again.members[0][-1].out_features == model.embedding_size


def test_acting_needs_no_ensemble_and_saved_names_are_numbered_members() -> None:
    model, _ = model_with()
    names = {name.rpartition(".")[0] for name in model.state_dict() if name.startswith("ensemble")}
    assert names == {f"ensemble.members.{k}.{layer}" for k in range(5) for layer in (0, 2, 4)}
    assert not any(name.startswith("ensemble") for name in model.for_acting().state_dict())
    assert isinstance(model, Uncertain)
    assert list(model.watchers()) == ["ensemble"]


def test_restored_members_predict_the_same() -> None:
    (model, _), (other, _) = model_with(), model_with(seed=1)
    trajectory = trajectory_of(model)
    assert not torch.equal(other.members(trajectory).mean(), model.members(trajectory).mean())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.members(trajectory).mean(), model.members(trajectory).mean())


def test_one_member_is_refused_because_a_disagreement_needs_two() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="a disagreement needs two members"):
        OneStepEnsemble(model.dynamics, input=Features(), target=Embedding(), hidden=3, members=1)


# ---- the reward of a task


@pytest.mark.parametrize("shapes", [True, False])
def test_reward_shapes_the_states_only_with_reward_gradient(shapes: bool) -> None:
    model = tiny_model(f"world_model.reward_gradient={str(shapes).lower()}")
    batch = tiny_batch()
    model.losses(model.observe(batch, seeded()), batch)["reward"].value.mean().backward()
    parts = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert parts == ({"reward_head", "encoder", "dynamics"} if shapes else {"reward_head"})
