"""The attention world model: its window, the time rule, borders of episodes, losses and capabilities."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from dreamset.core.capabilities import Dynamics, Prunable, RewardModel, Trainable, Uncertain, require
from dreamset.core.errors import UserError
from dreamset.core.records import ImaginedTrajectory, SequenceBatch, total_loss
from dreamset.core.spec import ArraySpec
from dreamset.core.states import map_state
from dreamset.models.attention.predictor import FramePredictor
from dreamset.models.attention.state import FrameWindow
from dreamset.models.attention.world_model import AttentionWorldModel, RewardedAttentionWorldModel
from dreamset.models.heads import BernoulliHead, NormalHead
from dreamset.models.imagination import predict
from dreamset.models.probes import recorded_trajectory
from dreamset.objectives.consistency import Consistency
from dreamset.objectives.reconstruction import Reconstruction
from tests.builders import seeded
from tests.models.attention.frames import CHANNELS, PATCHES, SIZES, frames_batch, frames_model, frames_spec

NONE = torch.zeros(0)
HEAD = partial(NormalHead, hidden=8, layers=1)


def filtered(model: AttentionWorldModel, batch: SequenceBatch) -> list[FrameWindow]:
    """The states of all rows, one row after another."""
    state, states = model.initial(len(batch.reward)), []
    for t in range(batch.reward.shape[1]):
        observations = {name: value[:, t] for name, value in batch.observations.items()}
        state = model.filter(state, batch.action[:, t], observations, batch.is_first[:, t], NONE)
        states.append(state)
    return states


def only_known(state: FrameWindow) -> FrameWindow:
    """The state with zeros in frames that are not known."""

    def masked(value: Tensor) -> Tensor:
        axes = value.ndim - state.known.ndim
        return value.masked_fill(~state.known.reshape(*state.known.shape, *[1] * axes), 0)

    return map_state(masked, state)


def row_of(state: FrameWindow, t: int) -> FrameWindow:
    return map_state(lambda value: value[:, t], state)


def assert_equal(first: FrameWindow, second: FrameWindow) -> None:
    for name in FrameWindow.__dataclass_fields__:
        torch.testing.assert_close(getattr(only_known(first), name), getattr(only_known(second), name), rtol=0, atol=0)


def test_it_has_the_capabilities_of_a_model_without_rewards() -> None:
    model = frames_model()
    require(model, Dynamics, Trainable, Prunable, by="this test")
    assert not isinstance(model, RewardModel)
    assert not isinstance(model, Uncertain)
    with pytest.raises(UserError, match=r"^a return needs .* AttentionWorldModel lacks \(RewardModel: .*\)$"):
        require(model, RewardModel, by="a return")
    require(frames_model(RewardedAttentionWorldModel, reward_head=HEAD), RewardModel, by="this test")


def test_features_are_the_standardised_patches_and_vectors_of_the_row() -> None:
    model, batch = frames_model(), frames_batch()
    rollout = model.observe(batch, seeded())
    patches = (batch.observations["patches"].float() - 0.5) / 2
    arm = (batch.observations["arm"] - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 0.5])
    wrist = batch.observations["wrist"] / 4
    expected = torch.cat([patches.flatten(2), arm, wrist], dim=-1)
    torch.testing.assert_close(rollout.features, expected)
    assert model.feature_size == expected.shape[-1] == PATCHES * CHANNELS + 3


def test_features_are_named_in_their_order() -> None:
    model = frames_model()
    assert list(model.feature_parts.items()) == [("patches", PATCHES * CHANNELS), ("arm", 2), ("wrist", 1)]


def test_images_are_not_read() -> None:
    model = frames_model(spec=frames_spec(image=ArraySpec((8, 8, 3), "uint8")))
    assert list(model.reads) == ["patches", "arm", "wrist"]
    assert model.observe(frames_batch(), seeded()).features.shape[-1] == PATCHES * CHANNELS + 3


@pytest.mark.parametrize("border", [None, 1, 4, 5])
def test_observing_equals_filtering_row_by_row(border: int | None) -> None:
    model, batch = frames_model(), frames_batch(border=border)
    observed = model.observe(batch, seeded())
    for t, state in enumerate(filtered(model, batch)):
        assert_equal(row_of(observed.states, t), state)
        torch.testing.assert_close(observed.features[:, t], model.features(state))


def test_the_window_holds_the_last_rows_and_the_actions_that_led_to_them() -> None:
    model, batch = frames_model(), frames_batch()
    window = row_of(model.observe(batch, seeded()).states, 5)
    action = (batch.action[:, 3:6] + 2) / 3 - 1
    torch.testing.assert_close(window.past_actions, action)
    torch.testing.assert_close(window.past_patches, (batch.observations["patches"][:, 3:6].float() - 0.5) / 2)
    assert window.known.all()


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_observing_in_two_pieces_equals_observing_at_once(cut: int) -> None:
    model, batch = frames_model(), frames_batch(border=6)
    whole = model.observe(batch, seeded()).states
    before = row_of(model.observe(batch.slice_time(0, cut), seeded()).states, cut - 1)
    after = model.observe(batch.slice_time(cut, 8), seeded(), start=before).states
    for t in range(cut, 8):
        assert_equal(row_of(whole, t), row_of(after, t - cut))


def test_observed_windows_are_views_of_one_tensor() -> None:
    states = frames_model().observe(frames_batch(), seeded()).states
    assert states.past_patches.untyped_storage().nbytes() == 3 * (8 + 2) * PATCHES * CHANNELS * 4
    assert states.past_patches.shape == (3, 8, 3, PATCHES, CHANNELS)


@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize("border", [None, 2])
def test_a_step_predicts_what_teacher_forcing_predicts(border: int | None, change: bool) -> None:
    """Four rows are one window: the loss of row t is the error of the step from row t - 1."""
    model, batch = frames_model(change=change), frames_batch(length=4, border=border)
    rollout = model.observe(batch, seeded())
    losses = model.losses(rollout, batch)
    action = model.spec.action.normalize(batch.action)
    for t in range(1, 4):
        ahead = model.step(row_of(rollout.states, t - 1), action[:, t], NONE)
        true = row_of(rollout.states, t)
        known = ~batch.is_first[:, t] * (4 / 3)
        error = (ahead.past_patches[:, -1] - true.past_patches[:, -1]).square().mean((1, 2))
        torch.testing.assert_close(losses["patches"].value[:, t], error * known)
        error = (ahead.past_vectors[:, -1] - true.past_vectors[:, -1]).square().mean(1)
        torch.testing.assert_close(losses["vectors"].value[:, t], error * known)
    assert not losses["patches"].value[:, 0].any()


def test_nothing_before_an_episode_reaches_its_losses() -> None:
    model, batch = frames_model(), frames_batch(length=4, border=2)
    patches = batch.observations["patches"].clone()
    patches[1, :2] += 1
    other = replace(batch, observations={**batch.observations, "patches": patches})
    first, second = (model.losses(model.observe(one, seeded()), one)["patches"].value[1] for one in (batch, other))
    assert first[1] != second[1]
    assert torch.equal(first[2:], second[2:])
    assert first[2] == 0
    assert first[3] > 0


def test_a_long_batch_is_several_windows_that_share_a_row() -> None:
    model, batch = frames_model(), frames_batch(length=8)
    loss = model.losses(model.observe(batch, seeded()), batch)["patches"].value
    parts = [batch.slice_time(start, start + 4) for start in (0, 3)]  # row 7 is a remainder
    expected = [model.losses(model.observe(part, seeded()), part)["patches"].value[:, 1:] for part in parts]
    torch.testing.assert_close(loss[:, 1:7] * 6 / 8, torch.cat(expected, dim=1) * 3 / 4)
    assert not loss[:, 7].any()
    torch.testing.assert_close(loss.mean(), torch.cat(expected, dim=1).mean() * 3 / 4)


def test_a_window_shorter_than_the_history_is_one_window() -> None:
    model, batch = frames_model(history=6), frames_batch(length=3)
    rollout = model.observe(batch, seeded())
    action = model.spec.action.normalize(batch.action)
    ahead = model.features(model.step(row_of(rollout.states, 1), action[:, 2], NONE))
    patches = (ahead - rollout.features[:, 2])[:, : PATCHES * CHANNELS].square().mean(1)
    torch.testing.assert_close(model.losses(rollout, batch)["patches"].value[:, 2] * 2 / 3, patches)


def test_frames_before_the_episode_do_not_matter_however_long_the_history() -> None:
    """A model with a longer history and the same weights predicts the same from a short past."""
    short, long = frames_model(history=2), frames_model(history=5)
    weights = short.state_dict()
    positions = torch.cat([weights["dynamics.transformer.positions"], torch.randn(3, PATCHES, 11)])
    long.load_state_dict(weights | {"dynamics.transformer.positions": positions})
    batch = frames_batch(length=2)
    states = [filtered(model, batch)[-1] for model in (short, long)]
    action = torch.rand(3, 2, generator=seeded()) * 2 - 1
    ahead = [
        model.features(model.step(state, action, NONE)) for model, state in zip((short, long), states, strict=True)
    ]
    torch.testing.assert_close(*ahead)


def test_the_action_that_leads_to_the_next_row_matters_and_the_oldest_does_not() -> None:
    model, batch = frames_model(), frames_batch()
    state = row_of(model.observe(batch, seeded()).states, 5)
    action = torch.zeros(3, 2)
    ahead = model.features(model.step(state, action, NONE))
    oldest = state.past_actions.clone()
    oldest[:, 0] += 1
    assert torch.equal(model.features(model.step(replace(state, past_actions=oldest), action, NONE)), ahead)
    assert not torch.isclose(model.features(model.step(state, action + 0.1, NONE)), ahead).all(-1).any()


def test_imagination_slides_the_window_over_its_own_predictions() -> None:
    model, batch = frames_model(), frames_batch()
    state = row_of(model.observe(batch, seeded()).states, 5)
    actions = torch.rand(3, 4, 2, generator=seeded()) * 2 - 1
    imagined = predict(model, state, actions)
    last = imagined.rows[-1]
    patches = imagined.features[2:, :, : PATCHES * CHANNELS].transpose(0, 1)
    torch.testing.assert_close(last.past_patches.flatten(2), patches)
    torch.testing.assert_close(last.past_actions, actions[:, 1:])


def test_without_vectors_only_patches_are_predicted() -> None:
    model, batch = frames_model(spec=frames_spec(vectors=False)), frames_batch(length=4)
    rollout = model.observe(batch, seeded())
    assert rollout.features.shape[-1] == PATCHES * CHANNELS
    assert model.losses(rollout, batch).keys() == {"patches"}
    assert model.dynamics.transformer.positions.shape[-1] == CHANNELS + SIZES["action_code"]


def test_the_loss_weighs_vectors_and_heads_as_asked() -> None:
    model = frames_model(
        RewardedAttentionWorldModel,
        vector_weight=0.25,
        reward_head=HEAD,
        reward_weight=2.0,
        continue_head=partial(BernoulliHead, hidden=8, layers=1),
        continue_weight=3.0,
    )
    batch = frames_batch(length=4)
    losses = model.losses(model.observe(batch, seeded()), batch)
    weights = {"patches": 1.0, "vectors": 0.25, "reward": 2.0, "continue": 3.0}
    assert {name: loss.weight for name, loss in losses.items()} == weights
    expected = sum(weights[name] * loss.value.mean() for name, loss in losses.items())
    torch.testing.assert_close(total_loss(losses), expected)


def test_rewards_and_ends_are_predicted_from_the_mean_over_the_patches() -> None:
    head = partial(BernoulliHead, hidden=8, layers=1)
    model, batch = frames_model(RewardedAttentionWorldModel, reward_head=HEAD, continue_head=head), frames_batch()
    rollout = model.observe(batch, seeded())
    patches, vectors = rollout.features[..., :24].reshape(3, 8, PATCHES, CHANNELS), rollout.features[..., 24:]
    pooled = torch.cat([patches.mean(2), vectors], dim=-1).transpose(0, 1)
    trajectory = recorded_trajectory(model, rollout, batch)
    torch.testing.assert_close(model.reward(trajectory), model.reward_head(pooled).mean)
    torch.testing.assert_close(model.continuation(trajectory), model.continue_head(pooled).mean)
    assert model.predicts_ends
    assert not frames_model().predicts_ends


def test_without_a_continue_head_episodes_go_on() -> None:
    model = frames_model()
    trajectory = ImaginedTrajectory([], torch.zeros(4, 2, model.feature_size), NONE)
    assert torch.equal(model.continuation(trajectory), torch.ones(4, 2))


def test_dropout_acts_in_training_only_and_repeats_with_the_generator() -> None:
    model, batch = frames_model(dropout=0.5), frames_batch(length=4)

    def loss(seed: int) -> Tensor:
        return model.losses(model.observe(batch, seeded(seed)), batch)["patches"].value

    assert torch.equal(loss(0), loss(0))
    assert not torch.equal(loss(0), loss(1))
    model.eval()
    assert torch.equal(loss(0), loss(1))
    without = frames_model()
    assert torch.equal(loss(0), without.losses(without.observe(batch, seeded()), batch)["patches"].value)


def test_the_figures_compare_with_a_frame_that_stays() -> None:
    """A predictor of changes starts at no change, whose error is that of the frame that stays."""
    with torch.random.fork_rng(devices=[]):
        model = AttentionWorldModel(
            frames_spec(), dynamics=partial(FramePredictor, **SIZES, change=True), vector_weight=0.1
        )
    batch = frames_batch(border=3)
    rollout = model.observe(batch, seeded())
    figures = model.figures(rollout, batch)
    known = ~batch.is_first[:, 1:]
    still = (rollout.features[:, 1:] - rollout.features[:, :-1]).square().mean(-1)[known].mean()
    torch.testing.assert_close(figures["prediction"], still)
    assert figures["prediction_share"].item() == pytest.approx(1, abs=1e-6)
    assert "no better than the last frame" in model.warnings({"prediction_share": 1.0})[0]
    assert model.warnings({"prediction_share": 0.99}) == []


def test_a_copy_for_acting_filters_the_same_with_no_weights() -> None:
    model, batch = frames_model(RewardedAttentionWorldModel, reward_head=HEAD), frames_batch()
    pruned = model.for_acting()
    assert list(pruned.parameters()) == []
    for first, second in zip(filtered(model, batch), filtered(pruned, batch), strict=True):
        assert_equal(first, second)
    assert len(list(model.parameters())) > 0


def test_a_start_with_unusable_memory_is_ignored_where_an_episode_begins() -> None:
    model, batch = frames_model(), frames_batch()
    broken = map_state(lambda value: value if value.dtype == torch.bool else value + torch.nan, model.initial(3))
    observations = {name: value[:, 0] for name, value in batch.observations.items()}
    state = model.filter(broken, batch.action[:, 0], observations, torch.ones(3, dtype=torch.bool), NONE)
    assert torch.isfinite(model.features(model.step(state, torch.zeros(3, 2), NONE))).all()


def test_data_without_patch_features_or_with_several_are_refused() -> None:
    spec = frames_spec()
    without = replace(spec, observations={"arm": spec.observations["arm"]})
    with pytest.raises(UserError, match=r"no observation has patch features \(observations: arm\).*PatchFeatures"):
        frames_model(spec=without)
    with pytest.raises(UserError, match=r"further, patches are patch features.*SelectColumns"):
        frames_model(spec=frames_spec(further=spec.observations["patches"]))


def test_a_batch_of_single_rows_is_refused() -> None:
    model, batch = frames_model(), frames_batch(length=1)
    with pytest.raises(UserError, match=r"world_model_training\.batch\.length is 1"):
        model.losses(model.observe(batch, seeded()), batch)


def test_consistency_over_one_step_is_the_loss_of_teacher_forcing() -> None:
    model, batch = frames_model(spec=frames_spec(vectors=False)), frames_batch(length=4)
    rollout = model.observe(batch, seeded())
    consistency = Consistency(model, weight=1.0, horizon=1, rho=1.0)(rollout, batch, model)["consistency"]
    torch.testing.assert_close(consistency.value, model.losses(rollout, batch)["patches"].value)


def test_consistency_over_several_steps_trains_the_dynamics() -> None:
    model, batch = frames_model(), frames_batch(length=5)
    objective = Consistency(model, weight=1.0, horizon=3, rho=1.0)
    total_loss(objective(model.observe(batch, seeded()), batch, model)).backward()
    assert all(parameter.grad is not None for parameter in model.dynamics.parameters())


def test_a_decoder_that_is_learned_beside_the_model_moves_no_dynamics() -> None:
    image = torch.randint(0, 256, (3, 4, 16, 16, 3), generator=seeded(), dtype=torch.uint8)
    model = frames_model(spec=frames_spec(image=ArraySpec((16, 16, 3), "uint8")))
    batch = frames_batch(length=4)
    batch = replace(batch, observations={**batch.observations, "image": image})
    objective = Reconstruction(model, weight=1.0, depth=2, hidden=8, layers=1)
    total_loss(objective(model.observe(batch, seeded()), batch, model)).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.grad is not None for parameter in objective.parameters())
