"""The state of the attention world model: the last frames, oldest first."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FrameWindow:
    """The last H frames and the action that led to each of them, by the time rule; the newest frame is the last one.

    Early in an episode fewer than H frames are known. No known frame attends to the others, whatever they hold.
    """

    past_patches: Tensor  # [..., H, P, C] standardised features
    past_vectors: Tensor  # [..., H, V] standardised, side by side; V is 0 if the dataset has no vectors
    past_actions: Tensor  # [..., H, A] in [-1, 1]
    known: Tensor  # [..., H] bool
