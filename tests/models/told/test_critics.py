"""Ensembles of Q networks against a member at a time in NumPy; reductions; slow copies."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamset.models.heads import SquaredErrorOutput
from dreamset.models.layers import elu_orthogonal, tanh_layer_norm
from dreamset.models.told.critics import (
    QEnsemble,
    TargetCopy,
    drawn_members,
    mean_of_drawn,
    minimum_of_drawn,
)
from tests.builders import seeded, without_zeros
from tests.models.told.references import dense


def ensemble(members: int = 3, *, dropout: float = 0.0, **settings: object) -> QEnsemble:
    """Of networks in double precision without constant weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q = QEnsemble(6, 2, members=members, hidden=8, layers=2, dropout=dropout, **settings).double()
        without_zeros(q)
        return q


def inputs(*shape: int) -> tuple[Tensor, Tensor]:
    numbers = torch.randn(*shape, 8, dtype=torch.float64, generator=seeded())
    return numbers[..., :6], numbers[..., 6:]


def outputs_by_hand(q: QEnsemble, features: Tensor, action: Tensor, dropped: np.ndarray | None = None) -> np.ndarray:
    joined = np.concatenate([features.numpy(), action.numpy()], axis=-1)
    factors = [None] * q.members if dropped is None else dropped
    pairs = zip(q.networks, factors, strict=True)
    return np.stack([dense(network, joined, dropped=factor) for network, factor in pairs])


def test_every_member_is_its_own_network_on_latent_and_action() -> None:
    q = ensemble()
    features, action = inputs(4, 5)
    logits = q(features, action).logits.detach().numpy()
    assert logits.shape == (3, 4, 5, 101)
    np.testing.assert_allclose(logits, outputs_by_hand(q, features, action), rtol=1e-8, atol=1e-10)
    assert q(features, action).mean.shape == (3, 4, 5)


def test_first_layer_of_v1_has_a_style_of_its_own_and_a_scalar_output() -> None:
    q = ensemble(2, output=SquaredErrorOutput(), style=elu_orthogonal(), first=tanh_layer_norm())
    features, action = inputs(4)
    kinds = [type(layer) for layer in q.networks[0]]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.Tanh, nn.Linear, nn.ELU, nn.Linear]
    expected = outputs_by_hand(q, features, action).squeeze(-1)
    np.testing.assert_allclose(q(features, action).mean.detach().numpy(), expected, rtol=1e-8)


def test_first_values_are_exactly_zero_for_every_member() -> None:
    for output in (None, SquaredErrorOutput()):
        q = QEnsemble(6, 2, members=3, hidden=8, layers=2, output=output)
        features, action = (value.float() for value in inputs(4))
        assert q(features, action).mean.tolist() == [[0.0] * 4] * 3


def test_dropout_drops_the_same_outputs_of_the_first_layer_for_the_same_noise() -> None:
    q = ensemble(dropout=0.25)
    features, action = inputs(4, 5)
    noise = q.noise((4, 5), seeded(1))
    assert noise.shape == (3, 4, 5, 8)
    assert torch.equal(noise, q.noise((4, 5), seeded(1)))
    kept = (noise.numpy() >= 0.25) / 0.75
    got = q(features, action, noise).logits.detach().numpy()
    np.testing.assert_allclose(got, outputs_by_hand(q, features, action, kept), rtol=1e-8, atol=1e-10)
    without = q(features, action).logits.detach().numpy()
    np.testing.assert_allclose(without, outputs_by_hand(q, features, action), rtol=1e-8, atol=1e-10)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    noise = ensemble(dropout=0.01).noise((2000,), seeded())
    kept = (noise >= 0.01).double() / 0.99
    assert float((kept == 0).double().mean()) == pytest.approx(0.01, abs=2e-3)
    assert float(kept.mean()) == pytest.approx(1.0, abs=2e-3)


def test_ensemble_without_dropout_draws_no_noise() -> None:
    q = ensemble()
    noise = q.noise((4,), seeded())
    assert noise.shape == (3, 4, 0)
    features, action = inputs(4)
    assert torch.equal(q(features, action, noise).logits, q(features, action).logits)


def test_exported_ensemble_values_any_number_of_rows() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = ensemble()

        def forward(self, features: Tensor, action: Tensor) -> Tensor:
            return self.q(features, action).mean

    network, rows = Mean(), torch.export.Dim("rows", min=1)
    with torch.no_grad():
        program = torch.export.export(network, inputs(2), dynamic_shapes=({0: rows}, {0: rows}), strict=False).module()
    for count in (1, 5):
        torch.testing.assert_close(program(*inputs(count)), network(*inputs(count)))


def test_members_start_differently_and_get_their_own_gradients() -> None:
    q = ensemble()
    features, action = inputs(4)
    q(features, action).log_prob(torch.zeros(4, dtype=torch.float64))[1].sum().backward()
    for number, network in enumerate(q.networks):
        for parameter in network.parameters():
            touched = parameter.grad is not None and bool(parameter.grad.any())
            assert touched == (number == 1)
    assert not torch.equal(q.networks[0][0].weight, q.networks[1][0].weight)


@pytest.mark.parametrize("settings", [{"layers": 0}, {"layers": 2, "dropout": 1.0}, {"layers": 2, "dropout": -0.1}])
def test_impossible_q_networks_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        QEnsemble(6, 2, members=2, hidden=8, **settings)


def test_reductions_read_only_the_drawn_members() -> None:
    values = torch.randn(5, 3, 4, generator=seeded())
    index = torch.tensor([4, 1])
    numbers = values.numpy()
    np.testing.assert_allclose(minimum_of_drawn(values, index), np.minimum(numbers[4], numbers[1]))
    np.testing.assert_allclose(mean_of_drawn(values, index), (numbers[4] + numbers[1]) / 2, rtol=1e-6)


def test_drawn_members_are_different_and_every_pair_is_as_likely() -> None:
    generator = seeded()
    pairs = torch.stack([drawn_members(5, generator) for _ in range(3000)])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    counts = torch.bincount(pairs[:, 0] * 5 + pairs[:, 1], minlength=25).reshape(5, 5)
    expected = 3000 / 20
    assert ((counts[~torch.eye(5, dtype=torch.bool)] - expected).abs() < 5 * expected**0.5).all()
    assert sorted(drawn_members(2, generator).tolist()) == [0, 1]
    assert drawn_members(1, generator).tolist() == [0]


def test_slow_copy_moves_by_its_rate_every_nth_update() -> None:
    network = nn.Linear(2, 1)
    copy = TargetCopy(network, rate=0.1, every=2)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    copy.update(network)
    assert torch.equal(copy.copy.weight, start)
    copy.update(network)
    torch.testing.assert_close(copy.copy.weight, start + 0.1)
    copy.update(network)
    copy.update(network)
    torch.testing.assert_close(copy.copy.weight, start + 0.1 + 0.1 * 0.9)


def test_slow_copy_is_not_trained_and_stays_in_evaluation_mode() -> None:
    copy = TargetCopy(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))).train()
    assert copy.training
    assert not copy.copy.training
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    x = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(copy(x), copy(x))
    copy(x).sum().backward()
    assert x.grad.any()


def test_slow_copy_resumes_with_its_count_of_updates() -> None:
    network = nn.Linear(2, 1)
    first, second = (TargetCopy(network, rate=0.5, every=2) for _ in range(2))
    with torch.no_grad():
        network.weight.add_(1.0)
    first.update(network)
    second.load_state_dict(first.state_dict())
    first.update(network)
    second.update(network)
    assert torch.equal(first.copy.weight, second.copy.weight)
    assert torch.equal(first.copy.weight, network.weight - 0.5)


def test_copy_of_an_ensemble_agrees_with_it_at_first() -> None:
    q = ensemble()
    features, action = inputs(4)
    assert torch.equal(TargetCopy(q)(features, action).mean, q(features, action).mean)
