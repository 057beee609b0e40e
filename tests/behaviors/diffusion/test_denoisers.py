"""The networks that predict noise: shapes, conditions and what they learn."""

import pytest
import torch
from torch import nn

from dreamset.behaviors.diffusion.denoisers import ConditionedBlock, ResidualDenoiser, StepCode, TemporalUNet
from dreamset.core.errors import UserError
from tests.builders import seeded


def built(kind: str, rows: int = 8, size: int = 3, condition: int = 5) -> nn.Module:
    torch.manual_seed(0)
    if kind == "residual":
        return ResidualDenoiser(rows, size, condition, hidden=16, blocks=2, code=8)
    return TemporalUNet(rows, size, condition, widths=(8, 16), groups=4, code=8)


@pytest.mark.parametrize("kind", ["residual", "unet"])
def test_noise_depends_on_sequence_condition_and_step_of_its_own_row_only(kind: str) -> None:
    denoiser = built(kind).double()
    x, condition = (torch.randn(4, *shape, generator=seeded(), dtype=torch.float64) for shape in ((8, 3), (5,)))
    step = torch.tensor([0, 3, 3, 9])
    before = denoiser(x, condition, step)
    assert before.shape == x.shape
    for place in range(3):
        inputs = [x.clone(), condition.clone(), step.clone()]
        inputs[place][1] += 1
        after = denoiser(*inputs)
        changed = (after - before).abs().flatten(1).amax(1) > 1e-9
        assert changed.tolist() == [False, True, False, False]


@pytest.mark.parametrize("kind", ["residual", "unet"])
def test_every_row_of_a_plan_influences_every_other(kind: str) -> None:
    denoiser = built(kind).double()
    x = torch.randn(1, 8, 3, generator=seeded(), dtype=torch.float64).requires_grad_()
    noise = denoiser(x, torch.zeros(1, 5, dtype=torch.float64), torch.tensor([4]))
    (gradient,) = torch.autograd.grad(noise[0, 7].sum(), x)
    assert (gradient[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("kind", ["residual", "unet"])
def test_an_empty_batch_has_an_empty_answer(kind: str) -> None:
    noise = built(kind)(torch.zeros(0, 8, 3), torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    assert noise.shape == (0, 8, 3)


def test_condition_scales_channels_by_the_factor_itself() -> None:
    """Published: a scale of zero removes the first convolution, so the scale is not one plus a factor."""
    block = ConditionedBlock(4, 4, 2, kernel=3, groups=2)
    linear = block.condition[1]
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    planes = torch.randn(2, 4, 6, generator=seeded())
    out = block(planes, torch.ones(2, 2)) - planes
    torch.testing.assert_close(out, block.second(torch.zeros(2, 4, 6)))
    with torch.no_grad():
        linear.bias[:4] = 3.0
    torch.testing.assert_close(block(planes, torch.ones(2, 2)) - planes, block.second(3 * block.first(planes)))


def test_step_code_is_sinusoidal() -> None:
    code = StepCode(8, hidden=8)
    nn.init.eye_(code.layers[0].weight)
    nn.init.zeros_(code.layers[0].bias)
    code.layers[1], code.layers[2] = nn.Identity(), nn.Identity()
    angle = 5 * torch.tensor([10_000.0 ** (-place / 3) for place in range(4)])
    torch.testing.assert_close(code(torch.tensor([5]))[0], torch.cat([angle.sin(), angle.cos()]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 6, "widths": (8, 16, 32)}, "multiple of 4"),
        ({"rows": 8, "widths": (8, 12)}, "multiples of .*groups=8"),
    ],
)
def test_plans_that_do_not_fit_the_levels_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TemporalUNet(size=3, condition=2, **arguments)


def test_published_unet_has_the_published_widths() -> None:
    unet = TemporalUNet(8, 16, 16)
    assert [blocks[0].first[0].out_channels for blocks in unet.down] == [256, 512, 1024]
    assert unet.code.layers[0].out_features == 1024
