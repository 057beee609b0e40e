"""Frozen encoders: patch features of images by networks whose weights never change.

An encoder is a frozen dataclass of settings. PyTorch and the weights are loaded when they are first needed, so that a
dataset can be described without them.
"""

from dreamset.vision.base import FrozenEncoder, PatchEncoder
from dreamset.vision.encoders import DinoV2, EfficientNetLite0
from dreamset.vision.random import RandomWeights

__all__ = ["DinoV2", "EfficientNetLite0", "FrozenEncoder", "PatchEncoder", "RandomWeights"]
