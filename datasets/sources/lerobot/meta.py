"""Reads a LeRobot dataset's ``meta/info.json``."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.sources.encoded import LARGEST_IMAGE, SMALLEST_IMAGE

INFO = "meta/info.json"

_LARGEST_ROW = 1 << 20  # numbers per frame; more means a damaged description


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the table of frames, or one camera."""

    name: str
    dtype: str  # a numpy dtype, or image, video, string, ...
    shape: tuple[int, ...]  # per frame
    axes: tuple[str, ...]  # names of an image's axes, if declared
    is_depth: bool

    @classmethod
    def parse(cls, name: str, value: Mapping[str, Any]) -> "Feature":
        """The feature of an entry in ``info.json``."""
        axes, details = value.get("names"), value.get("info") or value.get("video_info") or {}
        return cls(
            name=name,
            dtype=str(value["dtype"]),
            shape=tuple(map(int, value["shape"])),
            axes=tuple(map(str, axes)) if isinstance(axes, list) else (),
            is_depth=bool(details.get("video.is_depth_map") or details.get("is_depth_map")),
        )

    @property
    def is_video(self) -> bool:
        """Whether it is stored in video files."""
        return self.dtype == "video"

    @property
    def is_image(self) -> bool:
        """Whether it is an image, in a video or in the table."""
        return self.dtype in ("image", "video")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[height, width, channels], whatever the declared order."""
        first, second, third = self.shape
        channels_first = self.axes[0].startswith("channel") if self.axes else first < min(second, third)
        return (second, third, first) if channels_first else (first, second, third)

    @property
    def unfit(self) -> str | None:
        """The reason why it cannot be a column; None if it can."""
        if not self.is_image:
            fits = _is_number(self.dtype) and 0 < math.prod(self.shape) <= _LARGEST_ROW
            return None if fits else f"{self.dtype} of shape {list(self.shape)}, not 1 to {_LARGEST_ROW} numbers"
        if self.is_depth:
            return "a depth map"
        return None if self._is_grey_or_rgb else f"an image of shape {list(self.shape)}, neither grey nor RGB"

    @property
    def _is_grey_or_rgb(self) -> bool:
        if len(self.shape) != 3:
            return False
        height, width, channels = self.image_shape
        return channels in (1, 3) and SMALLEST_IMAGE <= min(height, width) <= max(height, width) <= LARGEST_IMAGE


@dataclass(frozen=True, slots=True)
class Info:
    """The entries of ``info.json`` that the reader needs."""

    version: str
    fps: float
    robot: str | None
    episodes: int
    tasks: int
    features: Mapping[str, Feature]
    chunk_size: int  # episodes per folder, before version 3
    data_path: str  # template
    video_path: str  # template; empty without videos


def load_info(root: Path) -> Info:
    """Reads ``info.json``.

    Raises:
        UserError: if it is missing or damaged.
    """
    file = root / INFO
    if not file.is_file():
        raise UserError(f"{file}: no such file; choose the folder of a LeRobot dataset, which contains 'meta'")
    try:
        info = _parsed(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{file}: damaged or incomplete ({error!r}); copy or download the dataset again") from error
    if not (math.isfinite(info.fps) and info.fps > 0):
        raise UserError(f"{file}: fps is {info.fps}, expected a positive number; fix the file")
    return info


def _parsed(value: Mapping[str, Any]) -> Info:
    return Info(
        version=str(value["codebase_version"]),
        fps=float(value["fps"]),
        robot=value.get("robot_type"),
        episodes=int(value["total_episodes"]),
        tasks=int(value.get("total_tasks") or 0),
        features={str(name): Feature.parse(name, feature) for name, feature in value["features"].items()},
        chunk_size=int(value.get("chunks_size") or 1000),
        data_path=str(value["data_path"]),
        video_path=str(value.get("video_path") or ""),
    )


def _is_number(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "fiub"
    except TypeError:  # string, language, ...
        return False
