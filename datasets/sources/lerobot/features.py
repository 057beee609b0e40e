"""Selects and decodes the features of a LeRobot dataset."""

from collections.abc import Mapping, Sequence

import numpy as np

from dreamset.core.errors import UserError
from dreamset.datasets.sources.actions import ActionField, ActionSettings
from dreamset.datasets.sources.codecs import Codec, ImageCodec, inferred_codec
from dreamset.datasets.sources.columns import Field, Survey
from dreamset.datasets.sources.encoded import LARGEST_IMAGE, SMALLEST_IMAGE
from dreamset.datasets.sources.lerobot.meta import Feature
from dreamset.datasets.sources.npz import ArrayHeader

ACTION, SUCCESS = "action", "next.success"
REWARDS = ("next.reward", "reward")  # usual names, the usual one first
TERMINALS = (SUCCESS, "next.terminated", "terminated")
AUTO = "auto"  # the setting that selects one of the usual names


def is_observation(name: str) -> bool:
    """Whether a feature is an observation, by its name."""
    return name.split(".")[0] == "observation"


def survey_features(features: Mapping[str, Feature], size: tuple[int, int] | None) -> Survey:
    """The features with one row per observation, and the others with reasons; images get ``size``."""
    usable: dict[str, Field] = {}
    ignored: dict[str, str] = {}
    for name, feature in sorted(features.items()):
        if name == ACTION:
            continue
        reason = "belongs to transitions" if name.startswith("next.") else feature.unfit
        if reason:
            ignored[name] = reason
        else:
            usable[name] = Field(name, _codec(feature, size))
    return Survey(usable, varying={}, ignored=ignored)


def step_feature(
    features: Mapping[str, Feature], setting: str, name: str | None, usual: Sequence[str], where: str
) -> str | None:
    """The feature with one number per step that a setting selects: by name, or ``auto`` for the first usual one.

    Raises:
        UserError: if the named feature does not exist or has several numbers.
    """
    if name == AUTO:
        return next((feature for feature in usual if feature in features and _is_number(features[feature])), None)
    if name is None or (name in features and _is_number(features[name])):
        return name
    allowed = sorted(feature for feature in features if _is_number(features[feature]))
    raise UserError(
        f"{where}: dataset.source.{setting} is {name!r}; allowed: a feature with one number ({', '.join(allowed)}), "
        f"{AUTO}, or null; fix the setting"
    )


def action_field(
    features: Mapping[str, Feature],
    discrete: int | None,
    low: float | Sequence[float],
    high: float | Sequence[float],
    where: str,
) -> ActionField:
    """The decoder of the action.

    Raises:
        UserError: if there is no action, or the settings do not match it.
    """
    if ACTION not in features or features[ACTION].unfit or features[ACTION].is_image:
        raise UserError(
            f"{where}: info.json has no numeric feature {ACTION!r}, which a world model needs; choose another dataset"
        )
    no_rows = np.zeros((0, int(np.prod(features[ACTION].shape))), features[ACTION].dtype)
    settings = ActionSettings(ACTION, discrete, low, high)
    return settings.field({ACTION: ArrayHeader(no_rows.shape, no_rows.dtype)}, no_rows, where)


def checked_size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width from the setting ``image_size``, which may be a single number.

    Raises:
        UserError: if it is not one or two numbers within the limits.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(SMALLEST_IMAGE <= side <= LARGEST_IMAGE for side in sides):
        raise UserError(
            f"image_size is {size}; allowed: one number or height and width, {SMALLEST_IMAGE} to "
            f"{LARGEST_IMAGE}; fix the ingest settings"
        )
    return sides[0], sides[1]


def _codec(feature: Feature, size: tuple[int, int] | None) -> Codec:
    if not feature.is_image:
        return inferred_codec(np.dtype(feature.dtype), feature.shape, repr(feature.name))
    height, width, channels = feature.image_shape
    return ImageCodec((*(size or (height, width)), channels))


def _is_number(feature: Feature) -> bool:
    return not feature.is_image and not feature.unfit and int(np.prod(feature.shape)) == 1
