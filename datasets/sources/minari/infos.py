"""Finds the ``infos`` of a Minari dataset that can be columns: one numeric row per observation and episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreamset.core.errors import UserError
from dreamset.datasets.sources.codecs import Codec, ImageCodec, inferred_codec
from dreamset.datasets.sources.encoded import image_shape
from dreamset.datasets.sources.minari.storage import Layout, LeafPath, MinariStorage, StoredEpisode

_MOST_NAMED = 20  # damaged episodes that the provenance lists


@dataclass(frozen=True, slots=True)
class Info:
    """An info that can be a column, with its layout in the first episode that has it."""

    path: LeafPath  # below "infos"
    layout: Layout
    episode: int

    def codec(self, storage: MinariStorage) -> Codec:
        """The codec; encoded images get the shape of the first image."""
        episode = storage.episode(self.episode)
        where = f"{episode.where}: {'/'.join(('infos', *self.path))!r}"
        if self.layout.jpeg:
            return ImageCodec(_first_image(episode, ("infos", *self.path), where))
        return inferred_codec(self.layout.dtype, self.layout.row_shape, where)


@dataclass(slots=True)
class InfoScan:
    """The infos of all episodes: usable, ignored and unknown ones."""

    usable: dict[LeafPath, Info] = field(default_factory=dict)  # columns in at least some episodes
    ignored: dict[str, str] = field(default_factory=dict)  # name -> why it is not a column by default
    damaged: dict[str, str] = field(default_factory=dict)  # episode -> why its infos are unknown
    damaged_count: int = 0
    _seen: dict[LeafPath, Layout] = field(default_factory=dict)
    _scanned: int = 0

    def is_usual(self, info: Info) -> bool:
        """Whether it is a vector in all episodes."""
        return info_name(info.path) not in self.ignored

    def add(self, number: int, layouts: Mapping[LeafPath, Layout]) -> None:
        """Compares an episode with the episodes before."""
        for path, layout in layouts.items():
            reason = layout.unfit or _changed(layout, self._seen.get(path), first=not self._scanned)
            if reason:
                self.ignored.setdefault(info_name(path), f"{reason} in episode_{number}")
            self._seen[path] = layout
            if not layout.unfit:
                self.usable.setdefault(path, Info(path, layout, number))
        for path in self._seen.keys() - layouts.keys():
            self.ignored.setdefault(info_name(path), f"missing in episode_{number}")
        self._scanned += 1

    def add_damaged(self, number: int, reason: str) -> None:
        """Records an unreadable episode; ``read`` reports the error again."""
        if len(self.damaged) < _MOST_NAMED:
            self.damaged[f"episode_{number}"] = reason
        self.damaged_count += 1

    @property
    def summary_of_damage(self) -> dict[str, str]:
        """The unreadable episodes with reasons, shortened to a few."""
        further = self.damaged_count - len(self.damaged)
        return {**self.damaged, **({"further episodes": f"{further} more"} if further else {})}


def scan_infos(storage: MinariStorage, numbers: Sequence[int]) -> InfoScan:
    """Scans shapes and dtypes of every episode's infos without reading values."""
    scan = InfoScan()
    for number in numbers:
        try:
            scan.add(number, storage.episode(number).infos())
        except UserError as error:
            reason = str(error).replace(storage.where, "")  # without the path, so that equal data give equal provenance
            scan.add_damaged(number, reason.partition(": ")[2])
    for path, info in scan.usable.items():
        if info.layout.jpeg or len(info.layout.row_shape) > 1:
            scan.ignored.setdefault(info_name(path), f"{info.layout.form}: a column only if 'privileged' names it")
    return scan


def info_name(path: Sequence[str]) -> str:
    """The name of an info or observation: its path joined by dots."""
    return ".".join(path).replace("/", ".")


def _changed(layout: Layout, before: Layout | None, *, first: bool) -> str | None:
    if before is None:
        return None if first else "missing in earlier episodes, first seen"
    return None if before.form == layout.form else f"{layout.form} instead of {before.form}"


def _first_image(episode: StoredEpisode, path: LeafPath, where: str) -> tuple[int, ...]:
    images = episode.read([path])[path]
    if not len(images):
        raise UserError(f"{where} contains no image; omit it")
    return image_shape(images[0].tobytes(), f"{where} at step 0")
