"""Selects observations and privileged columns in formats that do not declare them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec, ArraySpec
from dreamset.datasets.episode import Array
from dreamset.datasets.sources.base import SourceDescription
from dreamset.datasets.sources.codecs import Codec, image_doubts, inferred_codec
from dreamset.datasets.sources.npz import ArrayHeader
from dreamset.datasets.sources.scanning import counted
from dreamset.datasets.sources.tables import Table, kept_open

Headers = Mapping[str, ArrayHeader]


@dataclass(frozen=True, slots=True)
class Field:
    """A stored column and its codec."""

    column: str
    codec: Codec

    @classmethod
    def of(cls, column: str, headers: Headers, where: str) -> "Field":
        """The field of a column, with a codec by dtype and shape.

        Raises:
            UserError: if the column is missing, or holds neither numbers nor images.
        """
        if column not in headers:
            raise UserError(f"{where}: {column!r} is missing; available: {sorted(headers)}; fix the ingest settings")
        header = headers[column]
        return cls(column, inferred_codec(header.dtype, header.shape[1:], f"{where}: {column!r}", encoded=header.image))

    def decode(self, values: Mapping[str, Array], where: str) -> Array:
        """The decoded rows of the column."""
        return self.codec.decode(values[self.column], f"{where}: {self.column!r}")


@dataclass(frozen=True, slots=True)
class SelectedFields:
    """The selected columns of every episode, by name in the store."""

    observations: Mapping[str, Field]
    privileged: Mapping[str, Field]

    @property
    def columns(self) -> set[str]:
        """Names of the columns to read."""
        return {field.column for field in (*self.observations.values(), *self.privileged.values())}

    def described(
        self, action: ActionSpec, provenance: Mapping[str, Any], doubts: Sequence[str] = ()
    ) -> SourceDescription:
        """The description of a source with these columns."""
        codecs = {name: field.codec for name, field in {**self.privileged, **self.observations}.items()}
        return SourceDescription(
            _specs(self.observations), _specs(self.privileged), action, provenance, (*image_doubts(codecs), *doubts)
        )


def _specs(fields: Mapping[str, Field]) -> dict[str, ArraySpec]:
    return {name: field.codec.spec for name, field in fields.items()}


def decode_all(fields: Mapping[str, Field], values: Mapping[str, Array], where: str) -> dict[str, Array]:
    """The decoded rows of every field."""
    return {name: field.decode(values, where) for name, field in fields.items()}


@dataclass(frozen=True, slots=True)
class Survey:
    """The columns of all files: usable ones, and others with the reason."""

    usable: Mapping[str, Field]
    varying: Mapping[str, str]  # usable in some files only, with the reason
    ignored: Mapping[str, str]

    def choose(
        self, observations: Sequence[str] | None, privileged: Sequence[str] | None, where: str
    ) -> tuple[SelectedFields, dict[str, str]]:
        """The fields that the settings select, and the unused columns with reasons.

        By default, inputs are the images, or every column if there are no images. By default, privileged columns are
        all others that are alike in every file.

        Raises:
            UserError: if a setting names a missing column, or no observation is selected.
        """
        images = [name for name, field in self.usable.items() if field.codec.spec.is_image]
        inputs = self._named("observations", observations, images or list(self.usable), where)
        rest = [name for name in self.usable if name not in inputs and name not in self.varying]
        probed = self._named("privileged", privileged, rest, where)
        if not inputs:
            raise UserError(f"{where}: no observation is selected; available: {sorted(self.usable)}")
        selected = {*inputs, *probed}
        unused = {name: self.varying.get(name, "not selected") for name in self.usable if name not in selected}
        return SelectedFields(inputs, probed), dict(sorted({**self.ignored, **unused}.items()))

    def _named(self, setting: str, names: Sequence[str] | None, default: Sequence[str], where: str) -> dict[str, Field]:
        selected = default if names is None else [names] if isinstance(names, str) else names
        for name in selected:
            if name not in self.usable:
                reason = f"cannot be a column ({self.ignored[name]})" if name in self.ignored else "does not exist"
                raise UserError(
                    f"{where}: {name!r} of the setting '{setting}' {reason}; available: {sorted(self.usable)}"
                )
        return {name: self.usable[name] for name in selected}


def headers_of(tables: Iterable[Table], where: str) -> dict[Table, Headers]:
    """The headers of all undamaged files, those with the most common columns first.

    Raises:
        UserError: if all are damaged.
    """
    readable: dict[Table, Headers] = {}
    equal: dict[frozenset[tuple[str, ArrayHeader]], Headers] = {}  # episodes of equal length share one
    failures = []
    with kept_open():
        for table in counted(tables):
            try:
                headers = table.headers(table.place)
            except UserError as error:
                failures.append(error)
            else:
                readable[table] = equal.setdefault(frozenset(headers.items()), headers)
    if not readable:
        raise UserError(f"{where}: no file is readable; the first error: {failures[0]}") from failures[0]
    kinds = {
        table: frozenset((name, h.row_shape) for name, h in headers.items()) for table, headers in readable.items()
    }
    counts = Counter(kinds.values())
    return {table: readable[table] for table in sorted(readable, key=lambda table: -counts[kinds[table]])}


def survey(files: Mapping[Table, Headers], reserved: Iterable[str], skipped: Mapping[str, str]) -> Survey:
    """Compares the columns of the first of ``files`` with those of all others.

    ``reserved`` columns are no observations (action, reward, flags). ``skipped`` maps prefixes of names to the reason
    for which such columns are ignored.
    """
    first = next(iter(files))
    usable: dict[str, Field] = {}
    ignored: dict[str, str] = {}
    for name in sorted(set().union(*files.values()) - set(reserved)):
        reason = _left_out(name, files[first], first.name, skipped)
        if reason:
            ignored[name] = reason
        else:
            usable[name] = Field.of(name, files[first], first.place)
    return Survey(usable, _varying(usable, files, first), ignored)


def _left_out(name: str, headers: Headers, file: str, skipped: Mapping[str, str]) -> str | None:
    for beginning, reason in skipped.items():
        if name.startswith(beginning):
            return reason
    if name not in headers:
        return f"missing in {file}"
    header = headers[name]
    if not header.is_usable:
        return f"{header.dtype}, not numbers"
    if not header.shape or 0 in header.shape[1:]:
        return "a single value" if not header.shape else "no numbers per row"
    return None


def _varying(usable: Iterable[str], files: Mapping[Table, Headers], first: Table) -> dict[str, str]:
    varying: dict[str, str] = {}
    for table, headers in files.items():
        for name in usable:
            wanted, got = files[first][name].row_shape, headers.get(name)
            if got is None:
                varying.setdefault(name, f"missing in {table.name}")
            elif got.row_shape != wanted:
                varying.setdefault(name, f"shape {got.row_shape} instead of {wanted} in {table.name}")
    return varying
