"""The vision transformer of DINOv2 (Oquab et al. 2023), with and without register tokens (Darcet et al. 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamset.core.errors import UserError
from dreamset.vision.networks import PatchNetwork, normal_

EPS = 1e-6  # of the layer norms, published
HEAD_SIZE = 64  # channels of an attention head in every published network
NUDGE = 0.1  # added by the published code to the new number of positions, without register tokens


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a network."""

    width: int  # D
    depth: int
    heads: int
    hidden: int
    patch: int  # pixels
    positions: int  # on each side, of the learned position embedding
    registers: int

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], heads: int | None) -> "Sizes":
        """Those of a file of weights; ``heads`` are not visible in it and follow from the width unless given."""
        width = weights["class_token"].shape[-1]
        blocks = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
        return cls(
            width=width,
            depth=len(blocks),
            heads=heads or width // HEAD_SIZE,
            hidden=weights["blocks.0.expand.weight"].shape[0],
            patch=weights["patches.weight"].shape[-1],
            positions=round(weights["positions"].shape[1] ** 0.5),
            registers=weights["registers"].shape[1] if "registers" in weights else 0,
        )


class Block(nn.Module):
    """Attention, then two dense layers with GELU; each after a layer norm, scaled per channel, and added."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.attention_norm, self.dense_norm = (nn.LayerNorm(width, eps=EPS) for _ in range(2))
        self.query_key_value, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, sizes.hidden), nn.Linear(sizes.hidden, width)
        self.attention_scale, self.dense_scale = (nn.Parameter(torch.ones(width)) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L, D] to the same shape."""
        tokens = tokens + self.attention_scale * self._attended(self.attention_norm(tokens))
        hidden: Tensor = self.contract(F.gelu(self.expand(self.dense_norm(tokens))))
        return tokens + self.dense_scale * hidden

    def _attended(self, tokens: Tensor) -> Tensor:
        """softmax(q k' / sqrt(D / heads)) v in every head, then a linear layer."""
        split = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1))  # [N, L, 3, heads, D / heads]
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)  # [N, heads, L, D / heads]
        mixed: Tensor = self.mix(attended.transpose(1, 2).flatten(2))
        return mixed


class VisionTransformer(PatchNetwork):
    """Patch tokens after the final layer norm, called ``x_norm_patchtokens`` in the published code."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, self.channels = sizes, sizes.width
        self.patches = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, sizes.width))  # with its own position embedding added
        if sizes.registers:
            self.registers = nn.Parameter(torch.zeros(1, sizes.registers, sizes.width))
        self.positions = nn.Parameter(torch.zeros(1, sizes.positions**2, sizes.width))  # of the patches
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=EPS)
        for name, value in self.named_parameters():
            if value.ndim > 1:
                normal_(value, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(value)

    def side(self, size: int) -> int:
        """size / patch."""
        if size % self.sizes.patch:
            raise UserError(
                f"DinoV2: size is {size}; allowed: multiples of {self.sizes.patch}, the pixels of a patch, such as "
                f"{14 * self.sizes.patch}; change size"
            )
        return size // self.sizes.patch

    def forward(self, planes: Tensor) -> Tensor:
        """Normalised images [N, 3, S, S] to normalised patch tokens [N, G, G, D]."""
        count, side = len(planes), self.side(planes.shape[-1])
        tokens = self.patches(planes).flatten(2).transpose(1, 2) + self._positions(side)
        before = [self.class_token, *([self.registers] if self.sizes.registers else [])]
        tokens = torch.cat([*(token.expand(count, -1, -1) for token in before), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        patches: Tensor = self.norm(tokens[:, 1 + self.sizes.registers :]).unflatten(1, (side, side))
        return patches

    def _positions(self, side: int) -> Tensor:
        """The position embedding of ``side`` x ``side`` patches [1, G G, D], interpolated bicubically.

        As in the published code: networks with registers were trained with antialiasing. For those without, the scale
        is that of ``side`` + 0.1 positions, once a guard against rounding, which the features have depended on since.
        """
        learned = self.sizes.positions
        if side == learned:
            return self.positions
        grid = self.positions.transpose(1, 2).unflatten(2, (learned, learned))
        if self.sizes.registers:
            grid = F.interpolate(grid, (side, side), mode="bicubic", antialias=True)
        else:
            grid = F.interpolate(grid, scale_factor=(side + NUDGE) / learned, mode="bicubic")
        positions: Tensor = grid.flatten(2).transpose(1, 2)
        return positions
