"""The consistency objective, compared with its equation in NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamset.core.errors import UserError
from dreamset.core.records import Loss, Rollout, SequenceBatch, total_loss
from dreamset.objectives.consistency import Consistency, EMATarget, EmbeddingError, OnlineTarget
from dreamset.pipeline.training.world_model_trainer import WorldModelTrainer
from tests.builders import HIGH, LOW, seeded, tiny_batch, tiny_model, tiny_spec
from tests.foreign.models import Code, Foreign

Array = NDArray[np.float64]
RHO = 0.7


class LinearModel(Foreign):
    """z = E o and z' = A z + B a, so that NumPy predicts the same."""

    headline = "none"
    feature_size = embedding_size = 4

    def __init__(self) -> None:
        super().__init__(replace(tiny_spec(), observations={"state": tiny_spec().observations["state"]}))
        self.encoder, self.memory, self.push = (nn.Linear(size, 4, bias=False) for size in (3, 4, 2))

    def initial(self, count: int) -> Code:
        return Code(torch.zeros(count, 4))

    def features(self, state: Code) -> Tensor:
        return state.z

    def observe(self, batch: SequenceBatch, generator: torch.Generator, start: Code | None = None) -> Rollout[Code]:  # noqa: ARG002
        z = self.encoder(batch.observations["state"])
        return Rollout(Code(z), z, z)

    def filter(
        self,
        state: Code,  # noqa: ARG002
        action: Tensor,  # noqa: ARG002
        observations: Mapping[str, Tensor],
        is_first: Tensor,  # noqa: ARG002
        noise: Tensor,  # noqa: ARG002
    ) -> Code:
        return Code(self.encoder(observations["state"]))

    def step(self, state: Code, action: Tensor, noise: Tensor) -> Code:  # noqa: ARG002
        return Code(self.memory(state.z) + self.push(action))

    def parts(self) -> Mapping[str, nn.Module | None]:
        return {"encoder": self.encoder, "dynamics": nn.ModuleList([self.memory, self.push])}

    def losses(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Loss]:  # noqa: ARG002
        return {}

    def figures(self, rollout: Rollout[Code], batch: SequenceBatch) -> dict[str, Tensor]:  # noqa: ARG002
        return {}


def made(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def linear(horizon: int = 3, **arguments: Any) -> tuple[Any, Any]:
    model = made(LinearModel).double()
    objective = made(lambda: Consistency(model, weight=2.0, horizon=horizon, rho=RHO, **arguments))
    return model, objective.double()


def vectors(size: int = 3, length: int = 7, *beginnings: tuple[int, int]) -> SequenceBatch:
    """A batch in float64 without images, in which episodes also begin at these windows and rows."""
    batch = tiny_batch(size, length)
    is_first = batch.is_first.clone()
    for window, row in beginnings:
        is_first[window, row] = True
    observations = {"state": batch.observations["state"].double()}
    return replace(batch, observations=observations, action=batch.action.double(), is_first=is_first)


def loss(model: Any, objective: Any, batch: SequenceBatch) -> Tensor:
    value: Tensor = objective(model.observe(batch, seeded()), batch, model)["consistency"].value
    return value


def reference(model: LinearModel, batch: SequenceBatch, horizon: int) -> Array:
    """The loss of each row, one start and one step after the other."""
    memory, push, encoder = (
        layer.weight.detach().numpy().astype(np.float64) for layer in (model.memory, model.push, model.encoder)
    )
    low, high = np.array(LOW), np.array(HIGH)
    action = 2 * (batch.action.numpy() - low) / (high - low) - 1
    encoded = batch.observations["state"].numpy() @ encoder.T
    is_first = batch.is_first.numpy()
    windows, rows = is_first.shape
    result = np.zeros((windows, rows))
    for window in range(windows):
        for start in range(rows - horizon):
            z = encoded[window, start]
            for step in range(1, horizon + 1):
                row = start + step
                if is_first[window, row]:
                    break
                z = memory @ z + push @ action[window, row]
                error = np.mean((z - encoded[window, row]) ** 2)
                result[window, row] += RHO ** (step - 1) * error / horizon / (rows - horizon)
    scaled: Array = result * rows
    return scaled


def array(values: Tensor) -> Array:
    converted: Array = values.detach().double().numpy()
    return converted


@pytest.mark.parametrize("horizon", [1, 3, 6])
def test_loss_is_the_discounted_error_of_every_prediction_from_every_start(horizon: int) -> None:
    model, objective = linear(horizon)
    batch = vectors(3, 7, (1, 3), (2, 1), (2, 6))
    got, expected = loss(model, objective, batch), reference(model, batch, horizon)
    np.testing.assert_allclose(array(got), expected, rtol=1e-6)  # the bounds of actions are in float32
    assert (got[0, 1:] > 0).all()
    assert got[1, 3] == got[2, 1] == got[2, 6] == 0


def test_window_of_one_more_row_than_the_horizon_has_the_published_loss_of_its_first_row() -> None:
    """The published code adds rho^(d-1) times the mean over windows and dimensions, and divides by H."""
    model, objective = linear(horizon=4)
    batch = vectors(3, 5)
    rollout = model.observe(batch, seeded())
    action = model.spec.action.normalize(batch.action)
    z, published = rollout.features[:, 0], torch.zeros(())
    for step in range(1, 5):
        z = model.step(Code(z), action[:, step], torch.zeros(0)).z
        published = published + RHO ** (step - 1) * nn.functional.mse_loss(z, rollout.features[:, step])
    losses = objective(rollout, batch, model)
    torch.testing.assert_close(total_loss(losses), 2.0 * published / 4, rtol=1e-9, atol=0)


def test_exact_dynamics_have_no_loss() -> None:
    model, objective = linear(horizon=3)
    batch = vectors(2, 6)
    z = [torch.randn(2, 4, generator=seeded()).double()]
    for step in range(1, 6):
        z.append(model.step(Code(z[-1]), model.spec.action.normalize(batch.action)[:, step], torch.zeros(0)).z)
    features = torch.stack(z, dim=1)
    value = objective(Rollout(Code(features), features, features), batch, model)["consistency"].value
    torch.testing.assert_close(value, torch.zeros_like(value))


def test_shorter_window_is_predicted_to_its_end() -> None:
    model, objective = linear(horizon=10)
    np.testing.assert_allclose(
        array(loss(model, objective, vectors(3, 4))), reference(model, vectors(3, 4), 3), rtol=1e-6
    )


def test_window_of_one_row_is_refused() -> None:
    model, objective = linear()
    with pytest.raises(UserError, match=r"^world_model_training\.batch\.length is 1; allowed: 2 or more"):
        loss(model, objective, vectors(3, 1))


@pytest.mark.parametrize("target", [OnlineTarget, partial(EMATarget, decay=0.5, every=1)])
def test_no_gradient_flows_into_the_target(target: Any) -> None:
    """Only the first observation, whose state is the start, has a gradient; the others are compared with."""
    model, objective = linear(horizon=4, target=target)
    batch = vectors(3, 5)
    observed = batch.observations["state"].requires_grad_()
    loss(model, objective, batch).mean().backward()
    assert observed.grad is not None
    assert observed.grad[:, 0].all()
    assert not observed.grad[:, 1:].any()
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_gradient_trains_the_dynamics_and_through_the_starts_the_encoder() -> None:
    model, objective = linear()
    loss(model, objective, vectors()).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.all() for parameter in model.parameters())


@pytest.mark.parametrize("target", [OnlineTarget, partial(EMATarget, decay=0.5, every=1)])
def test_data_behind_a_border_never_change_the_loss(target: Any) -> None:
    model, objective = linear(horizon=4, target=target)
    batch = vectors(2, 5, (0, 2), (1, 4))
    expected = loss(model, objective, batch)
    other_action, other_state = batch.action.clone(), batch.observations["state"].clone()
    for window, row in ((0, 2), (1, 4)):
        other_action[window, row:] += 0.5
        other_state[window, row:] -= 3.0
    changed = replace(batch, action=other_action, observations={"state": other_state})
    assert torch.equal(loss(model, objective, changed), expected)
    assert expected[0, 1] > 0
    assert (expected[1, 1:4] > 0).all()
    assert not expected[0, 2:].any()


def test_average_target_follows_the_weights_in_closed_form() -> None:
    """With the weights w_k after update k: c_n = decay^n c_0 + (1 - decay) sum_k decay^(n - k) w_k."""
    model = made(LinearModel)
    target: Any = EMATarget(model, decay=0.8, every=1)
    expected = 0.8**3 * model.memory.weight.detach()
    for update in (1, 2, 3):
        model.memory.weight.data = torch.full((4, 4), float(update))
        target.update(model, update)
        expected = expected + 0.2 * 0.8 ** (3 - update) * update
    torch.testing.assert_close(target.copy.memory.weight, expected)


def test_average_target_moves_only_at_every_nth_update() -> None:
    model, objective = linear(target=partial(EMATarget, decay=0.0, every=2))
    before = model.encoder.weight.detach().clone()
    moved = []
    for update in range(1, 5):
        model.encoder.weight.data = torch.full((4, 3), float(update), dtype=torch.float64)
        objective.after_update(model)
        moved.append(objective.target.copy.encoder.weight.clone())
    torch.testing.assert_close(moved[0], before)
    assert [float(weight[0, 0]) for weight in moved[1:]] == [2.0, 2.0, 4.0]


def test_average_target_is_that_of_the_copy() -> None:
    model, objective = linear(horizon=1, target=partial(EMATarget, decay=0.5, every=1))
    model.encoder.weight.data += 1.0
    batch = vectors()
    z = array(model.observe(batch, seeded()).features)
    copied = array(objective.target.copy.observe(batch, seeded()).features)
    assert not np.allclose(z, copied)
    action = array(model.spec.action.normalize(batch.action))
    ahead = z[:, :-1] @ array(model.memory.weight).T + action[:, 1:] @ array(model.push.weight).T
    expected = np.mean((ahead - copied[:, 1:]) ** 2, axis=-1) * 7 / 6  # 7 rows, 6 starts
    np.testing.assert_allclose(array(loss(model, objective, batch))[:, 1:], expected, rtol=1e-9)


def recurrent(seed: int = 0, target: Any = OnlineTarget) -> WorldModelTrainer:
    model = tiny_model()
    objective = made(lambda: Consistency(model, weight=1.0, horizon=2, rho=RHO, target=target), seed)
    return WorldModelTrainer(
        model,
        objective,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        clip_norm=100.0,
        generator=seeded(),
    )


def test_random_numbers_depend_on_the_update_and_the_seed_only() -> None:
    trainer, batch = recurrent(), tiny_batch()
    model, objective = trainer.model, trainer.objective
    first = loss(model, objective, batch)
    torch.manual_seed(1)
    assert torch.equal(loss(model, objective, batch), first)
    objective.after_update(model)
    assert not torch.equal(loss(model, objective, batch), first)
    assert not torch.equal(loss(model, recurrent(seed=1).objective, batch), first)


@pytest.mark.parametrize("target", [OnlineTarget, partial(EMATarget, decay=0.5, every=2)])
def test_resumed_training_equals_an_unbroken_one(target: Any) -> None:
    batch = tiny_batch()
    unbroken, stopped, resumed = (recurrent(seed, target) for seed in (0, 0, 5))
    for trainer in (unbroken, stopped):
        for _ in range(3):
            trainer.step(batch)
    resumed.load_state_dict(stopped.state_dict())
    expected, got = unbroken.step(batch), resumed.step(batch)
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    for left, right in zip(
        unbroken.objective.state_dict().values(), resumed.objective.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)


def test_no_optimizer_trains_the_copy() -> None:
    trainer = recurrent(target=partial(EMATarget, decay=1.0, every=1))
    copies = dict(trainer.objective.named_parameters())
    before = {name: value.clone() for name, value in copies.items()}
    trainer.step(tiny_batch())
    optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert copies
    assert not optimised & {id(parameter) for parameter in copies.values()}
    assert all(torch.equal(value, before[name]) for name, value in copies.items())


def test_training_teaches_the_dynamics_several_steps_ahead() -> None:
    """Data of a linear system: predictions of three steps become exact, with a representation that keeps its scale."""
    model = made(LinearModel)
    model.encoder.requires_grad_(False)
    objective = made(lambda: Consistency(model, weight=1.0, horizon=3, rho=RHO))
    generator = seeded()
    action = 2 * torch.rand(16, 8, 2, generator=generator) - 1
    rows = [torch.randn(16, 3, generator=generator)]
    turn = 0.9 * torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    drive = torch.randn(2, 3, generator=generator)
    for step in range(1, 8):
        rows.append(rows[-1] @ turn + action[:, step] @ drive)
    batch = replace(
        tiny_batch(16, 8),
        observations={"state": torch.stack(rows, dim=1)},
        action=model.spec.action.denormalize(action),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    errors = []
    for _ in range(300):
        error = loss(model, objective, batch).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 1e-3 * errors[0]


def test_model_that_cannot_predict_is_refused_in_one_line() -> None:
    class OnlyObserves:
        feature_size = 4

    with pytest.raises(UserError, match=r"^the objective Consistency needs .* OnlyObserves lacks \(Dynamics: "):
        Consistency(OnlyObserves(), weight=1.0, horizon=3, rho=RHO)  # type: ignore[arg-type]


def test_embeddings_are_compared_with_a_network_on_predicted_features() -> None:
    """Embeddings are centred in each dimension and divided by one common scale."""
    comparison = partial(EmbeddingError, hidden=8, layers=1)
    model, objective = linear(horizon=1, comparison=comparison)
    batch = vectors()
    embedding = array(model.observe(batch, seeded()).embedding)
    centred = embedding - embedding.mean((0, 1))
    wanted = centred / np.sqrt(np.mean(centred**2))
    start = Code(model.observe(batch, seeded()).features[:, :-1])
    ahead = model.step(start, model.spec.action.normalize(batch.action)[:, 1:], torch.zeros(0)).z
    given = array(objective.comparison.head(ahead))
    expected = np.mean((given - wanted[:, 1:]) ** 2, axis=-1) * 7 / 6  # 7 rows, 6 starts
    np.testing.assert_allclose(array(loss(model, objective, batch))[:, 1:], expected, rtol=1e-5)


def test_scale_of_embeddings_does_not_change_what_is_wanted() -> None:
    model = made(LinearModel)
    comparison = EmbeddingError(model, hidden=8, layers=1)
    rollout = model.observe(tiny_batch(), seeded())
    scaled = replace(rollout, embedding=0.01 * rollout.embedding + 5.0)
    torch.testing.assert_close(comparison.wanted(scaled), comparison.wanted(rollout), rtol=0.02, atol=0.02)


def test_model_without_embedding_is_refused_in_one_line() -> None:
    class Blank(LinearModel):
        embedding_size = 0

    with pytest.raises(UserError, match=r"^objective\.comparison is EmbeddingError, but Blank has no embeddings"):
        EmbeddingError(Blank(), hidden=8, layers=1)
