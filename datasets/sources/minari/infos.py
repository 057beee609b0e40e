"""Which of a Minari dataset's ``infos`` are columns: one row of numbers per observation, in every episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreamset.core.errors import UserError
from dreamset.datasets.sources.codecs import Codec, ImageCodec, inferred_codec, jpeg_shape
from dreamset.datasets.sources.minari.storage import Layout, LeafPath, MinariStorage, StoredEpisode

_MOST_NAMED = 20  # damaged episodes that the provenance names one by one


@dataclass(frozen=True, slots=True)
class Info:
    """An info that can be a column, as the first episode that has it keeps it."""

    path: LeafPath  # below "infos"
    layout: Layout
    episode: int

    def codec(self, storage: MinariStorage) -> Codec:
        """How it is decoded; the shape of encoded images is that of the first one."""
        episode = storage.episode(self.episode)
        where = f"{episode.where}: {'/'.join(('infos', *self.path))!r}"
        if self.layout.jpeg:
            return ImageCodec(_first_image(episode, ("infos", *self.path), where))
        return inferred_codec(self.layout.dtype, self.layout.row_shape, where)


@dataclass(slots=True)
class InfoScan:
    """The infos of all episodes, sorted out."""

    found: dict[LeafPath, Info] = field(default_factory=dict)  # what can be a column, at least of some episodes
    ignored: dict[str, str] = field(default_factory=dict)  # name -> why it is no column unless asked for by name
    damaged: dict[str, str] = field(default_factory=dict)  # episode -> why nothing is known of its infos
    damaged_count: int = 0
    _seen: dict[LeafPath, Layout] = field(default_factory=dict)
    _scanned: int = 0

    def is_usual(self, info: Info) -> bool:
        """Whether it is a vector that all episodes have."""
        return info_name(info.path) not in self.ignored

    def add(self, number: int, layouts: Mapping[LeafPath, Layout]) -> None:
        """Compares one more episode with those before it."""
        for path, layout in layouts.items():
            reason = layout.unfit or _changed(layout, self._seen.get(path), first=not self._scanned)
            if reason:
                self.ignored.setdefault(info_name(path), f"{reason} in episode_{number}")
            self._seen[path] = layout
            if not layout.unfit:
                self.found.setdefault(path, Info(path, layout, number))
        for path in self._seen.keys() - layouts.keys():
            self.ignored.setdefault(info_name(path), f"missing in episode_{number}")
        self._scanned += 1

    def add_damaged(self, number: int, reason: str) -> None:
        """Notes an episode that has to be left to ``read``, which says the same and more."""
        if len(self.damaged) < _MOST_NAMED:
            self.damaged[f"episode_{number}"] = reason
        self.damaged_count += 1

    @property
    def summary_of_damage(self) -> dict[str, str]:
        """Which episodes could not be looked at and why; no long list of them."""
        further = self.damaged_count - len(self.damaged)
        return {**self.damaged, **({"further episodes": f"{further} more"} if further else {})}


def scan_infos(storage: MinariStorage, numbers: Sequence[int]) -> InfoScan:
    """Looks at the shapes and dtypes, not at the values, of every episode's infos."""
    scan = InfoScan()
    for number in numbers:
        try:
            scan.add(number, storage.episode(number).infos())
        except UserError as error:
            reason = str(error).replace(storage.where, "")  # equal data give equal provenance, wherever they are
            scan.add_damaged(number, reason.partition(": ")[2])
    for path, info in scan.found.items():
        if info.layout.jpeg or len(info.layout.row_shape) > 1:
            scan.ignored.setdefault(info_name(path), f"{info.layout.form}: a column only if 'privileged' names it")
    return scan


def info_name(path: Sequence[str]) -> str:
    """The name of an info, or of an observation, by its path: groups joined with dots."""
    return ".".join(path).replace("/", ".")


def _changed(layout: Layout, before: Layout | None, *, first: bool) -> str | None:
    if before is None:
        return None if first else "missing in earlier episodes, first seen"
    return None if before.form == layout.form else f"{layout.form} instead of {before.form}"


def _first_image(episode: StoredEpisode, path: LeafPath, where: str) -> tuple[int, ...]:
    images = episode.read([path])[path]
    if not len(images):
        raise UserError(f"{where} holds no image; leave it out")
    return jpeg_shape(images[0].tobytes(), f"{where} at step 0")
