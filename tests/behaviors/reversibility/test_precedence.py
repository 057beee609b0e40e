"""Precedence and the irreversibility of actions: formulas, gradients, and worlds whose answers are known."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamset.behaviors.reversibility.pairs import Pairs, draw_pairs
from dreamset.behaviors.reversibility.precedence import ActionIrreversibility, Precedence
from tests.behaviors.reversibility.walks import (
    CELLS,
    DOOR,
    Step,
    auc,
    corridor,
    experience,
    one_hot,
    ring,
    rooms,
    wheel,
)
from tests.builders import seeded, without_zeros

Array = NDArray[np.float64]


def precedence(features: int = CELLS, *, hidden: int = 16, seed: int = 0) -> Precedence:
    torch.manual_seed(seed)
    network = Precedence(features, hidden=hidden, layers=1)
    without_zeros(network)
    return network


def outputs(layers: nn.Sequential, inputs: Array) -> Array:
    """An independent forward pass of an MLP with ELU."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            inputs = inputs @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        else:
            assert isinstance(layer, nn.ELU)
            inputs = np.where(inputs > 0, inputs, np.expm1(inputs))
    return inputs


def psi(network: Precedence, first: Array, second: Array) -> Array:
    a, b = outputs(network.encoder, first), outputs(network.encoder, second)
    one, other = (outputs(network.head, np.concatenate(pair, -1))[..., 0] for pair in ((a, b), (b, a)))
    probability: Array = 1 / (1 + np.exp(other - one))
    return probability


def test_precedence_is_the_sigmoid_of_the_difference_of_both_orders() -> None:
    network = precedence(4, hidden=5).double()
    a, b = torch.randn(2, 7, 3, 4, generator=seeded()).double()
    expected = psi(network, a.numpy(), b.numpy())
    np.testing.assert_allclose(network.irreversibility(a, b).detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(network.reversibility(a, b).detach(), psi(network, b.numpy(), a.numpy()), rtol=1e-12)


def test_probabilities_of_both_orders_sum_to_one_and_a_row_with_itself_is_a_half() -> None:
    network = precedence(4)
    a, b = torch.randn(2, 9, 4, generator=seeded())
    torch.testing.assert_close(network.irreversibility(a, b) + network.irreversibility(b, a), torch.ones(9))
    assert torch.equal(network.irreversibility(a, a), torch.full((9,), 0.5))


@pytest.mark.parametrize("swapped", [False, True])
def test_precedence_loss_is_the_cross_entropy_of_pairs_in_either_order(swapped: bool) -> None:
    """Label 1 says that the first of the two rows was recorded first."""
    network = precedence(4).double()
    earlier, later = torch.randn(2, 3, 5, 4, generator=seeded()).double()
    known = torch.rand(3, 5, generator=seeded(1)) < 0.6
    first, second = (later, earlier) if swapped else (earlier, later)
    probability, label = psi(network, first.numpy(), second.numpy()), float(not swapped)
    entropy = -(label * np.log(probability) + (1 - label) * np.log(1 - probability))
    loss = network.loss(Pairs(earlier, later, known))
    np.testing.assert_allclose(loss.item(), entropy[known.numpy()].mean(), rtol=1e-12)


def test_action_loss_is_the_cross_entropy_with_the_estimate_of_the_transition() -> None:
    torch.manual_seed(0)
    network = ActionIrreversibility(4, 2, hidden=6, layers=2).double()
    features, action = torch.randn(3, 5, 4).double(), torch.rand(3, 5, 2).double()
    target, known = torch.rand(3, 5).double(), torch.rand(3, 5) < 0.6
    logit = outputs(network.layers, np.concatenate([features.numpy(), action.numpy()], -1))[..., 0]
    phi = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(network.irreversibility(features, action).detach(), phi, rtol=1e-12)
    expected = -(target.numpy() * np.log(phi) + (1 - target.numpy()) * np.log(1 - phi))[known.numpy()].mean()
    np.testing.assert_allclose(network.loss(features, action, target, known).item(), expected, rtol=1e-12)


def test_losses_without_a_pair_or_a_transition_are_zero_with_zero_gradients() -> None:
    none = torch.zeros(2, 3, dtype=torch.bool)
    network, of_actions = precedence(4), ActionIrreversibility(4, 2, hidden=6, layers=1)
    features = torch.randn(2, 3, 4, generator=seeded())
    loss = network.loss(Pairs(features, features, none))
    loss = loss + of_actions.loss(features, torch.zeros(2, 3, 2), torch.zeros(2, 3), none)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in [*network.parameters(), *of_actions.parameters()] if p.grad is not None)


def learned(step: Step, *, window: int | None = None, updates: int = 120) -> tuple[Precedence, ActionIrreversibility]:
    """Both estimators after a short training on walks in a world."""
    network, of_actions, generator = precedence(), ActionIrreversibility(CELLS, 2, hidden=16, layers=1), seeded()
    optimizer = torch.optim.Adam([*network.parameters(), *of_actions.parameters()], lr=2e-2)
    for seed in range(updates):
        walk = experience(step, seed=seed)
        loss = network.loss(draw_pairs(walk.features, walk.features, walk.is_first, generator, window=window))
        target = network.irreversibility(walk.features[:, :-1], walk.features[:, 1:]).detach()
        taken = walk.demonstrations
        loss = loss + of_actions.loss(taken.features, taken.action, target, taken.known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, of_actions


def order_auc(network: Precedence, step: Step) -> float:
    """How well psi tells the order of different cells of new walks, each pair in both orders."""
    walk = experience(step, seed=10_000)
    pairs = draw_pairs(walk.features, walk.features, walk.is_first, seeded(1))
    differ = pairs.known & (pairs.earlier != pairs.later).any(-1)
    with torch.no_grad():
        forward, backward = network(pairs.earlier, pairs.later)[differ], network(pairs.later, pairs.earlier)[differ]
    scores = torch.cat([forward, backward]).double().numpy()
    return auc(scores, np.arange(len(scores)) < len(forward))


def steps(network: Precedence, step: Step) -> tuple[Tensor, Tensor]:
    """psi of every step to the left and to the right, [CELLS] each."""
    cells = np.arange(CELLS)
    left, right = (one_hot(step(cells, np.full(CELLS, to_right))) for to_right in (False, True))
    with torch.no_grad():
        return network.irreversibility(one_hot(cells), left), network.irreversibility(one_hot(cells), right)


def test_order_is_certain_in_a_one_way_corridor_and_a_guess_in_a_free_ring() -> None:
    one_way, free = learned(corridor)[0], learned(ring)[0]
    assert order_auc(one_way, corridor) > 0.99
    assert order_auc(free, ring) == pytest.approx(0.5, abs=0.06)
    assert torch.cat(steps(free, ring)).sub(0.5).abs().max() < 0.2
    assert steps(one_way, corridor)[1][:-1].min() > 0.9  # the last step hits the wall


def test_steps_around_a_one_way_wheel_are_one_way_everywhere() -> None:
    """No ranking of cells has this answer, so no linear layer on both embeddings has it."""
    network, _ = learned(wheel, window=4)
    assert steps(network, wheel)[1].min() > 0.8


def test_only_the_step_through_a_one_way_door_is_irreversible_by_state_and_by_action() -> None:
    network, of_actions = learned(rooms, updates=200)
    left, right = steps(network, rooms)
    through = np.concatenate([np.zeros(CELLS), np.arange(CELLS) == DOOR]).astype(bool)
    assert auc(torch.cat([left, right]).double().numpy(), through) == 1
    assert right[DOOR] > 0.9
    with torch.no_grad():
        cells = one_hot(np.arange(CELLS))
        phi = torch.cat([of_actions.irreversibility(cells, action.expand(CELLS, 2)) for action in torch.eye(2)])
    assert auc(phi.double().numpy(), through) == 1
    assert phi[CELLS + DOOR] > 0.85


def test_continuous_actions_have_their_own_irreversibility() -> None:
    """phi of an action that leads through a one-way door if it is positive."""
    torch.manual_seed(0)
    network = ActionIrreversibility(1, 1, hidden=16, layers=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    action = torch.linspace(-1, 1, 64)[:, None]
    arguments: Any = (torch.zeros(64, 1), action, 0.5 + 0.5 * (action[:, 0] > 0), torch.ones(64, dtype=torch.bool))
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(*arguments).backward()
        optimizer.step()
    phi = network.irreversibility(torch.zeros(2, 1), torch.tensor([[-0.5], [0.5]]))
    torch.testing.assert_close(phi, torch.tensor([0.5, 1.0]), atol=0.05, rtol=0)
