"""A transformer over the patches of consecutive frames: causal between frames, complete within a frame."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

POSITION_STD = 0.02  # of the initial positions; the published code has 1, which is as large as the features

Drop = Callable[[Tensor], Tensor]


def keep(values: Tensor) -> Tensor:
    """All values, as outside of training."""
    return values


@dataclass(frozen=True, slots=True)
class Dropout:
    """Sets a ``share`` of all numbers to zero and scales the others up; every call draws from ``generator``."""

    share: float
    generator: torch.Generator

    def __call__(self, values: Tensor) -> Tensor:
        """The values that are left, [...]."""
        drawn = torch.rand(values.shape, generator=self.generator, device=values.device)
        return values * (drawn >= self.share) / (1 - self.share)


def visible_frames(segment: Tensor) -> Tensor:
    """Which frames each frame sees: itself and the earlier ones of its segment. [..., H, H] bool from [..., H].

    Args:
        segment: equal for frames of one episode, such as its number; frames that are not known are one segment, too.
    """
    frames = segment.shape[-1]
    causal = torch.ones(frames, frames, dtype=torch.bool, device=segment.device).tril()
    return causal & (segment[..., :, None] == segment[..., None, :])


class Block(nn.Module):
    """Attention and a hidden layer, each after a layer norm and added to its input (pre-norm).

    Args:
        width: W, numbers of a token.
        heads, head_size: of the attention; their product may differ from the width.
        hidden: units of the hidden layer.
    """

    def __init__(self, width: int, *, heads: int, head_size: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_size
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, inner, bias=False)
        self.keys_and_values = nn.Linear(width, 2 * inner, bias=False)
        self.attended = nn.Linear(inner, width)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, mask: Tensor, *, asking: int, drop: Drop = keep) -> Tensor:
        """The last ``asking`` tokens after the block, [N, Q, W].

        Args:
            tokens: [N, K, W].
            mask: bool, [N, 1, Q, K] or fewer queries for all: true where a token is seen.
            asking: Q; the other tokens are only seen.
            drop: drops numbers after both layers and in the hidden one.
        """
        normed = self.norm(tokens)
        keys, values = self._split(self.keys_and_values(normed)).chunk(2, dim=1)
        queries = self._split(self.queries(normed[:, -asking:]))
        seen = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)  # [N, heads, Q, head_size]
        tokens = tokens[:, -asking:] + drop(self.attended(seen.transpose(1, 2).flatten(2)))
        hidden = drop(gelu(self.hidden(self.hidden_norm(tokens))))
        updated: Tensor = tokens + drop(self.output(hidden))
        return updated

    def _split(self, values: Tensor) -> Tensor:
        """[N, K, heads * S] to [N, heads, K, S]; keys and values side by side have twice as many heads."""
        size = self.queries.out_features // self.heads
        heads: Tensor = values.unflatten(-1, (-1, size)).transpose(1, 2)
        return heads


class FrameTransformer(nn.Module):
    """Blocks between learned positions and a layer norm, for up to ``history`` frames of P patches (DINO-WM).

    A frame's position is the number of earlier frames that it sees. The first frame of an episode therefore has the
    same position wherever it stands in a window.

    Args:
        width: W, numbers of a token.
        patches: P.
        history: the largest number of frames.
        depth: blocks.
        heads, head_size, hidden: of a block.
    """

    def __init__(
        self, width: int, *, patches: int, history: int, depth: int, heads: int, head_size: int, hidden: int
    ) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(history, patches, width) * POSITION_STD)
        self.blocks = nn.ModuleList(Block(width, heads=heads, head_size=head_size, hidden=hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, visible: Tensor, *, last: bool = False, drop: Drop = keep) -> Tensor:
        """The tokens after all blocks, [N, H, P, W]; with ``last``, only those of the last frame, [N, 1, P, W].

        The last frame's tokens do not depend on ``last``, which only leaves out work: earlier frames are needed as
        keys and values of the last block, and not beyond.

        Args:
            tokens: [N, H, P, W].
            visible: [N, H, H] bool, from ``visible_frames``.
            last: whether only the last frame's outputs are needed.
            drop: see ``Block``.
        """
        frames, patches = tokens.shape[1:3]
        position = embedding(visible.sum(-1) - 1, self.positions.flatten(1))
        flat = (tokens + position.unflatten(-1, tokens.shape[2:])).flatten(1, 2)  # [N, H * P, W]
        mask = visible.repeat_interleave(patches, dim=2)[:, None]  # [N, 1, H, H * P]
        of_all, of_last = mask.repeat_interleave(patches, dim=2), mask[:, :, -1:]
        for number, block in enumerate(self.blocks):
            if last and number == len(self.blocks) - 1:
                flat = block(flat, of_last, asking=patches, drop=drop)
            else:
                flat = block(flat, of_all, asking=frames * patches, drop=drop)
        normed: Tensor = self.norm(flat).unflatten(1, (-1, patches))
        return normed
