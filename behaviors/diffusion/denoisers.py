"""Networks that predict the noise in a sequence of vectors, given a condition and the step of the diffusion."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError


class DenoiserFactory(Protocol):
    """Constructs a denoiser: its class, or a partial of it."""

    def __call__(self, rows: int, size: int, condition: int) -> nn.Module:
        """A module from noisy sequences [N, rows, size], conditions [N, C] and steps [N] to noise [N, rows, size]."""


class StepCode(nn.Module):
    """A sinusoidal code of the diffusion's step, then two layers: [N] to [N, size]."""

    frequencies: Tensor

    def __init__(self, size: int, *, hidden: int) -> None:
        super().__init__()
        half = size // 2
        exponents = torch.arange(half) / max(half - 1, 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * exponents), persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, hidden), nn.Mish(), nn.Linear(hidden, size))

    def forward(self, step: Tensor) -> Tensor:
        """Steps [N] to codes [N, size]."""
        angle = step[:, None] * self.frequencies
        code: Tensor = self.layers(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return code


class ResidualDenoiser(nn.Module):
    """A residual network on noisy sequence, condition and step side by side: blocks of a norm and two layers.

    The inverse dynamics model of latent diffusion planning (Xie et al. 2025) has 3 blocks of 256 units, with 1024
    inside. It also suits plans of few small latents, which need no convolution.

    Args:
        rows: R.
        size: of a row's vector.
        condition: C.
        hidden: units.
        blocks: their number.
        expansion: units inside a block, as a multiple of ``hidden``.
        code: size of the step's code.
    """

    def __init__(
        self,
        rows: int,
        size: int,
        condition: int,
        *,
        hidden: int,
        blocks: int = 3,
        expansion: int = 4,
        code: int = 256,
    ) -> None:
        super().__init__()
        self.code = StepCode(code, hidden=code)
        self.inputs = nn.Linear(rows * size + condition + code, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, expansion * hidden),
                nn.ReLU(),
                nn.Linear(expansion * hidden, hidden),
            )
            for _ in range(blocks)
        )
        self.output = nn.Linear(hidden, rows * size)

    def forward(self, noisy: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """The noise, [N, R, size]."""
        units = self.inputs(torch.cat([noisy.flatten(1), condition, self.code(step)], dim=-1))
        for block in self.blocks:
            units = units + block(units)
        noise: Tensor = self.output(F.relu(units))
        return noise.reshape(noisy.shape)


class TemporalUNet(nn.Module):
    """A one-dimensional U-Net over the rows: the published planner (Xie et al. 2025; Chi et al. 2023).

    Every level has two residual blocks; levels are joined by convolutions of stride 2. Step and condition shift and
    scale the channels of every block. The published scale is a factor, not one plus a factor.

    Args:
        rows: R, a multiple of 2 for every level but the last.
        size: of a row's vector.
        condition: C.
        widths: channels of each level, multiples of ``groups``.
        kernel: an odd size of the convolutions.
        groups: of the norms.
        code: size of the step's code.

    Raises:
        UserError: if rows or widths do not fit.
    """

    def __init__(
        self,
        rows: int,
        size: int,
        condition: int,
        *,
        widths: Sequence[int] = (256, 512, 1024),
        kernel: int = 5,
        groups: int = 8,
        code: int = 256,
    ) -> None:
        super().__init__()
        require_levels(rows, widths, groups)
        self.code = StepCode(code, hidden=4 * code)
        given = code + condition

        def block(inputs: int, outputs: int) -> ConditionedBlock:
            return ConditionedBlock(inputs, outputs, given, kernel=kernel, groups=groups)

        self.down = nn.ModuleList(
            nn.ModuleList([block(before, after), block(after, after)]) for before, after in pairwise([size, *widths])
        )
        self.halve = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.middle = nn.ModuleList([block(widths[-1], widths[-1]), block(widths[-1], widths[-1])])
        pairs = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * before, after), block(after, after)]) for before, after in pairs
        )
        self.enlarge = nn.ModuleList(nn.ConvTranspose1d(after, after, 4, stride=2, padding=1) for _, after in pairs)
        self.last = nn.Sequential(normed(widths[0], widths[0], kernel, groups), nn.Conv1d(widths[0], size, 1))

    def forward(self, noisy: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """The noise, [N, R, size]."""
        given = torch.cat([self.code(step), condition], dim=-1)
        planes, kept = noisy.mT, []
        for level, blocks in enumerate(self.down):
            planes = _through(blocks, planes, given)
            kept.append(planes)
            if level < len(self.halve):
                planes = self.halve[level](planes)
        planes = _through(self.middle, planes, given)
        for blocks, enlarge in zip(self.up, self.enlarge, strict=True):
            planes = enlarge(_through(blocks, torch.cat([planes, kept.pop()], dim=1), given))
        noise: Tensor = self.last(planes).mT
        return noise


class ConditionedBlock(nn.Module):
    """Two convolutions with norms; a condition scales and shifts the channels between them."""

    def __init__(self, inputs: int, outputs: int, condition: int, *, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = normed(inputs, outputs, kernel, groups)
        self.condition = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * outputs))
        self.second = normed(outputs, outputs, kernel, groups)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, planes: Tensor, condition: Tensor) -> Tensor:
        """[N, inputs, R] to [N, outputs, R]."""
        scale, shift = self.condition(condition)[..., None].chunk(2, dim=1)
        changed: Tensor = self.second(scale * self.first(planes) + shift)
        shortcut: Tensor = self.shortcut(planes)
        return changed + shortcut


def normed(inputs: int, outputs: int, kernel: int, groups: int) -> nn.Sequential:
    """A convolution that keeps the number of rows, a group norm and Mish."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish()
    )


def _through(blocks: nn.Module, planes: Tensor, condition: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        planes = block(planes, condition)
    return planes


def require_levels(rows: int, widths: Sequence[int], groups: int) -> None:
    """Checks that every level halves the rows, and that groups of channels are equal.

    Raises:
        UserError: otherwise.
    """
    multiple = 2 ** (len(widths) - 1)
    if not widths or rows % multiple:
        raise UserError(
            f"imagination.horizon is {rows}; the temporal U-Net with {len(widths)} levels needs a multiple of "
            f"{multiple}; change it, or the number of behavior.planner.widths"
        )
    if any(width % groups for width in widths):
        raise UserError(
            f"behavior.planner.widths are {list(widths)}; allowed: multiples of behavior.planner.groups={groups}; "
            "change one of them"
        )
