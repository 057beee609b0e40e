"""LaProp and gradient clipping, compared with their published equations in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dreamset.core.errors import UserError
from dreamset.pipeline.config.compose import compose
from dreamset.pipeline.config.instantiate import build_part
from dreamset.pipeline.training.optimizers import AdaptiveClipping, Clipping, GlobalNorm, LaProp, choose_clipping

Array = NDArray[np.float64]
SHAPES = [(3, 4), (5,), ()]
RANDOM = np.random.default_rng(0)


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    random = np.random.default_rng(1)
    return [nn.Parameter(torch.tensor(random.normal(size=shape) * scale, dtype=torch.float64)) for shape in SHAPES]


def give(tensors: list[nn.Parameter], gradients: list[Array]) -> None:
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = torch.tensor(gradient)


def laprop(
    gradients: list[Array], start: Array, *, lr: float, betas: tuple[float, float], eps: float, warmup: int
) -> Array:
    """Algorithm 1 of Ziyin et al. for one tensor; returns the parameter after the last gradient."""
    theta, n, m = start.copy(), np.zeros_like(start), np.zeros_like(start)
    mu, nu = betas
    for index, g in enumerate(gradients):
        k = index + 1
        n = nu * n + (1 - nu) * g**2
        m = mu * m + (1 - mu) * g / (np.sqrt(n / (1 - nu**k)) + eps)
        rate = lr * (k / warmup if k < warmup else 1.0)
        theta = theta - rate * m / (1 - mu**k)
    return theta


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-20, "warmup": 5},
        {"lr": 0.1, "betas": (0.5, 0.999), "eps": 0.1, "warmup": 0},
        {"lr": 4e-5, "betas": (0.9, 0.99), "eps": 1e-20, "warmup": 1000},
    ],
)
def test_laprop_equals_its_published_algorithm_at_every_step(settings: dict[str, Any]) -> None:
    tensors = parameters()
    start = [tensor.detach().numpy().copy() for tensor in tensors]
    optimizer = LaProp(tensors, **settings)
    given: list[list[Array]] = []
    for step in range(12):
        given.append([RANDOM.normal(size=shape) * 10.0 ** -(step % 4) for shape in SHAPES])
        give(tensors, given[-1])
        optimizer.step()
        for index, tensor in enumerate(tensors):
            expected = laprop([step_[index] for step_ in given], start[index], **settings)
            np.testing.assert_allclose(tensor.detach().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_the_defaults_of_laprop_are_those_of_dreamer_v3() -> None:
    tensors = parameters()
    start = [tensor.detach().numpy().copy() for tensor in tensors]
    optimizer = LaProp(tensors)
    given = [[RANDOM.normal(size=shape) for shape in SHAPES] for _ in range(3)]
    for gradients in given:
        give(tensors, gradients)
        optimizer.step()
    for index, tensor in enumerate(tensors):
        moved = tensor.detach().numpy() - start[index]
        settings = {"lr": 4e-5, "betas": (0.9, 0.99), "eps": 1e-20, "warmup": 1000}
        expected = laprop([step[index] for step in given], start[index], **settings) - start[index]
        np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_the_first_step_has_the_size_of_the_learning_rate_for_any_gradient() -> None:
    """Also in single precision, where squares of tiny gradients are near the smallest numbers."""
    tensor = nn.Parameter(torch.zeros(4))
    optimizer = LaProp([tensor], lr=0.1, warmup=0)
    tensor.grad = torch.tensor([1e-15, -1e-3, 1e12, 0.0])
    optimizer.step()
    np.testing.assert_allclose(tensor.detach().numpy(), [-0.1, 0.1, -0.1, 0.0], rtol=1e-3)


def test_a_parameter_without_a_gradient_does_not_change() -> None:
    tensors = parameters()
    give(tensors, [np.ones(shape) for shape in SHAPES])
    tensors[1].grad = None
    before = [tensor.detach().clone() for tensor in tensors]
    LaProp(tensors, lr=0.1).step()
    assert [torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True)] == [False, True, False]


def test_a_restored_optimizer_continues_as_if_never_interrupted() -> None:
    unbroken, broken = parameters(), parameters()
    first, second = LaProp(unbroken, lr=0.1, warmup=3), LaProp(broken, lr=0.1, warmup=3)
    gradients = [[RANDOM.normal(size=shape) for shape in SHAPES] for _ in range(6)]
    for step, given in enumerate(gradients):
        if step == 3:
            state = second.state_dict()
            second = LaProp(broken, lr=0.7, warmup=1)
            second.load_state_dict(state)
        for tensors, optimizer in ((unbroken, first), (broken, second)):
            give(tensors, given)
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(unbroken, broken, strict=True))


def test_a_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    (tensor,) = tensors = [nn.Parameter(torch.tensor(2.0))]
    optimizer = LaProp(tensors, lr=0.1, warmup=0)

    def closure() -> float:
        loss = tensor.square()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert tensor.item() == pytest.approx(1.9)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"eps": 0.0}, {"betas": (0.9, 1.0)}, {"warmup": -1}])
def test_impossible_settings_of_laprop_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"LaProp has .*; allowed: lr >= 0"):
        LaProp(parameters(), **wrong)


@pytest.mark.parametrize("size", [0.0, 1e-4, 0.1, 100.0])
def test_adaptive_clipping_limits_each_gradient_by_the_norm_of_its_tensor(size: float) -> None:
    tensors = parameters()
    with torch.no_grad():
        tensors[1].zero_()  # only the floor lets it change
    gradients = [RANDOM.normal(size=shape) * size for shape in SHAPES]
    give(tensors, gradients)
    norm = AdaptiveClipping(ratio=0.3, floor=1e-3)(tensors)
    assert float(norm) == pytest.approx(np.sqrt(sum((g**2).sum() for g in gradients)))
    for tensor, g in zip(tensors, gradients, strict=True):
        limit = 0.3 * max(np.linalg.norm(tensor.detach().numpy().ravel()), 1e-3)
        expected = g / max(1.0, np.linalg.norm(np.ravel(g)) / limit)
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-12)


def test_global_clipping_keeps_the_common_direction_of_all_gradients() -> None:
    tensors = parameters()
    gradients = [RANDOM.normal(size=shape) for shape in SHAPES]
    give(tensors, gradients)
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert float(GlobalNorm(0.5)(tensors)) == pytest.approx(norm)
    for tensor, g in zip(tensors, gradients, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), g * 0.5 / norm, rtol=1e-5)


@pytest.mark.parametrize("clipping", [GlobalNorm(1.0), AdaptiveClipping()])
def test_the_norm_of_a_gradient_that_is_not_finite_is_not_finite(
    clipping: Clipping,
) -> None:
    tensors = parameters()
    give(tensors, [np.full(shape, np.nan if not shape else 1.0) for shape in SHAPES])
    assert not torch.isfinite(clipping(tensors))


def test_exactly_one_kind_of_clipping_must_be_given() -> None:
    adaptive = AdaptiveClipping()
    assert choose_clipping(None, adaptive) is adaptive
    limited = choose_clipping(7.0, None)
    assert isinstance(limited, GlobalNorm)
    assert limited.limit == 7.0
    for clip_norm, clipping in ((None, None), (1.0, adaptive)):
        with pytest.raises(UserError, match="exactly one"):
            choose_clipping(clip_norm, clipping)


@pytest.mark.parametrize(
    ("name", "kind", "rates", "clip_norm"),
    [
        ("dreamer_v2", torch.optim.AdamW, (8e-5, 8e-5), 100.0),
        ("dreamer_v2_atari", torch.optim.AdamW, (4e-5, 1e-4), 100.0),
        ("dreamer_v3", LaProp, (4e-5, 4e-5), None),
    ],
)
def test_behavior_training_of_each_generation_is_as_published(
    name: str, kind: type[torch.optim.Optimizer], rates: tuple[float, float], clip_norm: float | None
) -> None:
    settings = compose(["preset=tiny", f"behavior_training={name}"])["behavior_training"]
    optimizers = [build_part(settings["optimizers"][network])(parameters()) for network in ("actor", "critic")]
    assert [type(optimizer) for optimizer in optimizers] == [kind, kind]
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    assert tuple(group["lr"] for group in groups) == rates
    assert settings["clip_norm"] == clip_norm
    if clip_norm is None:
        assert build_part(settings["clipping"]).ratio == 0.3
        assert (groups[0]["eps"], groups[0]["warmup"]) == (1e-20, 1000)
    else:  # AdamW decays by lr times its setting
        assert [group["lr"] * group["weight_decay"] for group in groups] == pytest.approx([1e-6, 1e-6])
    assert settings["updates"] == 4  # from the preset
