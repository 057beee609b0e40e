"""Reads V-D4RL in both forms: 64 x 64 images in one npz file per episode, 84 x 84 in HDF5 shards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import user_path
from dreamset.datasets.episode import RawEpisode
from dreamset.datasets.sources.base import Source, SourceDescription
from dreamset.datasets.sources.dreamer.episodes import DreamerSource
from dreamset.datasets.sources.dreamer.vd4rl_shards import VD4RLShards
from dreamset.datasets.sources.folder import list_files
from dreamset.datasets.sources.tables import HDF5_ENDINGS, NPZ_ENDING


class VD4RLSource:
    """The episodes of one V-D4RL folder, such as ``main/walker_walk/random/64px`` or ``.../84px``.

    Actions are those of the DeepMind Control Suite, by default between -1 and 1; row t of ``action`` and ``reward`` led
    to observation t.

    In the 64 x 64 form, some published files have one extra row in some columns. These columns are cut, and the
    provenance names the files. By default only the images are inputs; columns such as ``height`` and ``orientations``
    are ground truth and therefore privileged. For the 84 x 84 form see ``VD4RLShards``.

    Args:
        path: The folder.
        observations: Inputs of the models; by default the images.
        privileged: Ground truth for probes only; by default every other numeric column that is alike in all files.
        episodes: Number of episodes to read, from the first; by default all.
        action_low: Bounds of the action, one number or one per element.
        action_high: As ``action_low``.

    Raises:
        UserError: if the folder holds neither form, or both, or a setting does not match the files.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        observations: Sequence[str] | None = None,
        privileged: Sequence[str] | None = None,
        episodes: int | None = None,
        action_low: float | Sequence[float] = -1.0,
        action_high: float | Sequence[float] = 1.0,
    ) -> None:
        endings = {file.suffix for file in list_files(user_path(path), [NPZ_ENDING, *HDF5_ENDINGS])}
        if NPZ_ENDING in endings and len(endings) > 1:
            raise UserError(f"{path}: contains npz and HDF5 files; choose the folder '64px' or '84px' of one dataset")
        self._source: Source
        if NPZ_ENDING in endings:
            self._source = DreamerSource(
                path,
                observations=observations,
                privileged=privileged,
                episodes=episodes,
                discrete=0,
                action_low=action_low,
                action_high=action_high,
                cut_rows=1,
            )
        else:
            self._source = VD4RLShards(
                path,
                observations=observations,
                privileged=privileged,
                episodes=episodes,
                action_low=action_low,
                action_high=action_high,
            )

    @property
    def episode_count(self) -> int:
        """Number of episodes."""
        return self._source.episode_count

    def describe(self) -> SourceDescription:
        """Columns and provenance."""
        description = self._source.describe()
        return replace(description, provenance={**description.provenance, "format": "vd4rl"})

    def read(self, number: int) -> RawEpisode:
        """The episode; episodes are in the order of the files."""
        return self._source.read(number)
