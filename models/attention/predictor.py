"""Predicts the next frame from the last ones and the actions between and after them."""

import torch
from torch import Tensor, nn

from dreamset.models.attention.transformer import Drop, FrameTransformer, keep
from dreamset.models.layers import zero_last


class FramePredictor(nn.Module):
    """The dynamics of DINO-WM (Zhou et al. 2025): a transformer over tokens of patches, vectors and actions.

    The token of a patch holds its features, a code of the frame's vectors and a code of the action that leads to the
    next frame, side by side. Both codes are linear, and the same in all patches of a frame. The output token of a patch
    predicts this patch in the next frame, either with its first C numbers (published) or as a change, by a linear layer
    that starts at zero. The mean over the output tokens predicts the change of the vectors, likewise from zero.

    Args:
        patches: P.
        channels: C, features of a patch.
        vectors: V, numbers of all vectors together; 0 without any.
        actions: A.
        history: H, the largest number of frames.
        depth, heads, head_size, hidden: of the transformer.
        action_code, vector_code: numbers of each code.
        change: whether patches are predicted as a change of those of the frame.
        dropout: share of numbers that training drops, after every layer but the attention's weights.
    """

    def __init__(
        self,
        patches: int,
        channels: int,
        vectors: int,
        actions: int,
        *,
        history: int,
        depth: int,
        heads: int,
        head_size: int,
        hidden: int,
        action_code: int,
        vector_code: int,
        change: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels, self.history, self.dropout = channels, history, dropout
        width = channels + action_code + (vector_code if vectors else 0)
        self.action_code = nn.Linear(actions, action_code)
        self.vector_code = nn.Linear(vectors, vector_code) if vectors else None
        self.transformer = FrameTransformer(
            width, patches=patches, history=history, depth=depth, heads=heads, head_size=head_size, hidden=hidden
        )
        self.patch_change = _from_zero(width, channels) if change else None
        self.vector_change = _from_zero(width, vectors) if vectors else None

    def forward(
        self,
        patches: Tensor,
        vectors: Tensor,
        following: Tensor,
        visible: Tensor,
        *,
        last: bool = False,
        drop: Drop = keep,
    ) -> tuple[Tensor, Tensor]:
        """The patches [N, H, P, C] and the vectors [N, H, V] after each frame; with ``last``, only after the last one.

        Args:
            patches: [N, H, P, C] standardised.
            vectors: [N, H, V] standardised.
            following: [N, H, A] the action that leads to the next frame: ``action[t + 1]`` for the frame of row t.
            visible: [N, H, H] bool, see ``visible_frames``.
            last: whether only the frame after the last one is needed.
            drop: drops numbers in training.
        """
        outputs = self.transformer(self.tokens(patches, vectors, following), visible, last=last, drop=drop)
        if last:
            patches, vectors = patches[:, -1:], vectors[:, -1:]
        ahead = outputs[..., : self.channels] if self.patch_change is None else patches + self.patch_change(outputs)
        if self.vector_change is None:
            return ahead, vectors
        return ahead, vectors + self.vector_change(outputs.mean(-2))

    def tokens(self, patches: Tensor, vectors: Tensor, following: Tensor) -> Tensor:
        """Features and codes side by side, [N, H, P, W]; arguments as for ``forward``."""
        codes = [self.action_code(following)]
        if self.vector_code is not None:
            codes.append(self.vector_code(vectors))
        of_frame = torch.cat(codes, dim=-1)[..., None, :].expand(*patches.shape[:-1], -1)
        return torch.cat([patches, of_frame], dim=-1)


def _from_zero(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer whose first output is zero."""
    layers = nn.Sequential(nn.Linear(inputs, outputs))
    zero_last(layers)
    return layers
