"""What may be done to episodes on their way into the store; each step is recorded in the store's provenance.

A transform turns a source into another source, so they compose in any order: ``transforms`` in a dataset's yaml is a
list of them, applied from first to last.
"""

from dreamset.datasets.transforms.actions import FoldActions, OneHotActions
from dreamset.datasets.transforms.base import EpisodeTransform, Transform, transformed
from dreamset.datasets.transforms.columns import RenameColumns, SelectColumns
from dreamset.datasets.transforms.images import Crop, Grayscale, Resize
from dreamset.datasets.transforms.rewards import ClipReward, RelabelReward, ScaleReward
from dreamset.datasets.transforms.selection import Subsample, TopReturns

__all__ = [
    "ClipReward",
    "Crop",
    "EpisodeTransform",
    "FoldActions",
    "Grayscale",
    "OneHotActions",
    "RelabelReward",
    "RenameColumns",
    "Resize",
    "ScaleReward",
    "SelectColumns",
    "Subsample",
    "TopReturns",
    "Transform",
    "transformed",
]
