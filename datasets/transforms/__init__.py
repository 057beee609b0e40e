"""Transforms of episodes at ingest; the store's provenance records each of them.

A transform turns a source into another source, so transforms compose in any order: ``transforms`` in a dataset's yaml
file is a list of transforms, applied in order.
"""

from dreamset.datasets.transforms.actions import ClipActions, FoldActions, OneHotActions, RescaleActions
from dreamset.datasets.transforms.base import EpisodeTransform, Transform, transformed
from dreamset.datasets.transforms.columns import RenameColumns, SelectColumns
from dreamset.datasets.transforms.images import AsImage, Crop, Grayscale, Resize, StackFrames
from dreamset.datasets.transforms.marks import Demonstrations, WithoutActions
from dreamset.datasets.transforms.rewards import ClipReward, RelabelReward, ScaleReward
from dreamset.datasets.transforms.selection import Subsample, TopReturns

__all__ = [
    "AsImage",
    "ClipActions",
    "ClipReward",
    "Crop",
    "Demonstrations",
    "EpisodeTransform",
    "FoldActions",
    "Grayscale",
    "OneHotActions",
    "RelabelReward",
    "RenameColumns",
    "RescaleActions",
    "Resize",
    "ScaleReward",
    "SelectColumns",
    "StackFrames",
    "Subsample",
    "TopReturns",
    "Transform",
    "WithoutActions",
    "transformed",
]
