"""Models in MLflow's registry: what a version says of itself, which one is the champion, and what came from what.

A family of comparable models is one registered model, ``<dataset>.world_model`` or ``<dataset>.policy``. Each of its
versions is one trained model, and its tag ``digest`` names the very files (``artifacts.model_digest``), so the same
model is never registered twice, and a policy names its world model by it.

- ``latest`` is the version with the highest number, as MLflow itself reads that word.
- ``champion`` is an alias. It moves to a newly measured version that is better by ``ranking.SCORES``, and never by
  itself otherwise: set by hand in MLflow's pages, it stays until something better comes.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.registry.ranking import SCORES, is_figure

CHAMPION, LATEST = "champion", "latest"
FOLDER = "model"  # of the run's artifacts
KIND = "dreamset.kind"  # tag of the registered models that are ours
WORDS = {"world_model": "learned in", "parent": "started from"}  # roles of the models that a model came from

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Registration:
    """A model as a stage hands it over, in plain values."""

    name: str
    kind: str
    digest: str
    tags: Mapping[str, str]
    figures: Mapping[str, float]
    origins: Mapping[str, str]  # role of WORDS -> digest of the model that this one came from


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    run: str
    created: int  # ms since 1970
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = field(default=())

    @property
    def reference(self) -> str:
        """How a person writes it."""
        return f"{self.name}/{self.number}"

    @property
    def digest(self) -> str:
        """Of the model's files.

        Raises:
            UserError: if the version was not registered by this program.
        """
        return _checked(self.tags.get("digest", ""))

    @property
    def rank(self) -> tuple[float, ...] | None:
        """Of the score, None if there is none."""
        return tuple(json.loads(self.tags["rank"])) if "rank" in self.tags else None

    @property
    def score(self) -> str:
        """The figure that ranks it, for people."""
        figure = self.tags.get("ranked_by")
        return "-" if figure is None else f"{figure} = {self.tags.get(figure, '?')}"

    @property
    def figures(self) -> dict[str, float]:
        """Every figure among the tags."""
        return {name: float(value) for name, value in self.tags.items() if is_figure(name)}


def family(dataset: str, kind: str) -> str:
    """Name of the registered model that holds a dataset's models of one kind; MLflow takes no / and no :."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', dataset)}.{kind}"


def register(client: Any, run: str, registration: Registration) -> Version:
    """Makes a version whose files are the run's artifacts, unless the same model is one already."""
    found = find(client, registration.digest, name=registration.name)
    if found is None:
        require_family(client, registration)
        source = f"{client.get_run(run).info.artifact_uri}/{FOLDER}"
        tags = {**registration.tags, **_origin_tags(client, registration), **_figure_tags(registration)}
        tags |= {"kind": registration.kind, "digest": registration.digest}
        number = client.create_model_version(registration.name, source, run, tags=tags).version
        found = version(client, registration.name, number=int(number))
    _crown(client, found)
    return found


def require_family(client: Any, registration: Registration) -> None:
    """Makes the registered model if it is the first of its name.

    Raises:
        UserError: if the name is another kind's.
    """
    of_name = [model for model in _all(client.search_registered_models) if model.name == registration.name]
    if not of_name:
        client.create_registered_model(registration.name, tags={KIND: registration.kind})
    elif of_name[0].tags.get(KIND) != registration.kind:
        held = of_name[0].tags.get(KIND, "models of another program")
        raise UserError(f"{registration.name} holds {held}, not {registration.kind}; choose another name")


def measure(client: Any, digest: str, figures: Mapping[str, float]) -> None:
    """Figures that a later stage found about a registered model.

    Raises:
        UserError: if no version has that digest.
    """
    found = [_version(entity) for entity in _all(client.search_model_versions, f"tags.digest = '{_checked(digest)}'")]
    if not found:
        raise UserError(f"model {digest[:12]} is not registered, so its figures are not kept with it")
    for known in found:
        registration = Registration(known.name, known.tags["kind"], digest, {}, {**known.figures, **figures}, {})
        for key, value in _figure_tags(registration).items():
            client.set_model_version_tag(known.name, str(known.number), key, value)
        _crown(client, version(client, known.name, number=known.number))


def _crown(client: Any, candidate: Version) -> None:
    """Moves the alias ``champion`` if the candidate is better, or the first with a score."""
    if candidate.rank is None:
        return
    numbers = _aliases(client, candidate.name)
    if CHAMPION in numbers:
        champion = version(client, candidate.name, number=numbers[CHAMPION])
        if champion.rank is None or candidate.rank <= champion.rank:
            return
    client.set_registered_model_alias(candidate.name, CHAMPION, str(candidate.number))


def families(client: Any) -> list[str]:
    """Names of all registered models that are ours."""
    return sorted(model.name for model in _all(client.search_registered_models) if KIND in model.tags)


def versions(client: Any, name: str) -> list[Version]:
    """Every version of a registered model, the oldest first.

    Raises:
        UserError: if there is no such registered model.
    """
    if name not in families(client):
        known = ", ".join(families(client)) or "none yet"
        raise UserError(f"no model named {name!r} is registered; there are: {known}")
    named: dict[int, list[str]] = {}
    for alias, number in _aliases(client, name).items():
        named.setdefault(number, []).append(alias)
    found = (_version(entity, named) for entity in _all(client.search_model_versions, f"name = '{name}'"))
    return sorted(found, key=lambda entry: entry.number)


def version(client: Any, name: str, *, number: int | None = None, alias: str | None = None) -> Version:
    """One version, by its number or an alias; by neither, the champion or, where there is none, the latest.

    Raises:
        UserError: if there is none, naming those that there are.
    """
    every = versions(client, name)
    if not every:
        raise UserError(f"{name} has no versions any more; train one")
    if number is not None:
        wanted = [entry for entry in every if entry.number == number]
    elif alias == LATEST:
        wanted = every[-1:]
    else:
        wanted = [entry for entry in every if (alias or CHAMPION) in entry.aliases]
        wanted = wanted or (every[-1:] if alias is None else [])
    if not wanted:
        numbers = ", ".join(str(entry.number) for entry in every)
        aliases = ", ".join([LATEST, *(given for entry in every for given in entry.aliases)])
        asked = f"version {number}" if number is not None else f"{alias!r}"
        raise UserError(f"{name} has no {asked}; versions are {numbers}, aliases are {aliases}")
    return wanted[0]


def find(client: Any, digest: str, *, name: str | None = None) -> Version | None:
    """The first version of that very model, in one registered model or in any."""
    within = "" if name is None else f"name = '{name}' and "
    found = _all(client.search_model_versions, f"{within}tags.digest = '{_checked(digest)}'")
    ordered = sorted(map(_version, found), key=lambda entry: (entry.created, entry.name, entry.number))
    return ordered[0] if ordered else None


@dataclass(frozen=True, slots=True)
class Origin:
    """One step back from a model to what it came from."""

    role: str  # how it served, in words
    digest: str
    version: Version | None  # None: not registered here


def origins(client: Any, start: Version) -> list[Origin]:
    """The models that a model came from, the nearest first, followed by the digests in the tags."""
    chain: list[Origin] = []
    current: Version | None = start
    seen = {start.tags.get("digest")}
    while current is not None:
        tags = current.tags
        role = next((role for role in WORDS if f"{role}_digest" in tags), None)
        if role is None or tags[f"{role}_digest"] in seen:
            break
        digest = tags[f"{role}_digest"]
        seen.add(digest)
        current = find(client, digest)
        chain.append(Origin(WORDS[role], digest, current))
    return chain


def _origin_tags(client: Any, registration: Registration) -> dict[str, str]:
    """The models it came from: by digest, and by version and run where they are registered."""
    tags: dict[str, str] = {}
    for role, digest in registration.origins.items():
        tags[f"{role}_digest"] = digest
        found = find(client, digest)
        if found is not None:
            tags |= {role: found.reference, f"{role}_run": found.run}
    return tags


def _figure_tags(registration: Registration) -> dict[str, str]:
    tags = {name: f"{value:.6g}" for name, value in registration.figures.items()}
    score = SCORES[registration.kind](registration.figures)
    if score is not None and all(map(math.isfinite, score.rank)):
        tags |= {"ranked_by": score.figure, "rank": json.dumps(score.rank)}
    return tags


def _aliases(client: Any, name: str) -> dict[str, int]:
    """Alias to number; searches answer without them."""
    return {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}


def _version(entity: Any, named: Mapping[int, list[str]] | None = None) -> Version:
    number = int(entity.version)
    aliases = tuple(sorted((named or {}).get(number, ())))
    created = int(entity.creation_timestamp)
    return Version(entity.name, number, str(entity.run_id), created, dict(entity.tags), aliases)


def _checked(digest: str) -> str:
    """It goes into a filter, and into a path."""
    if not _DIGEST.fullmatch(digest):
        raise UserError(f"{digest[:80]!r} is no digest of a model; it was registered by another program")
    return digest


def _all(search: Callable[..., Any], condition: str | None = None) -> Iterator[Any]:
    """Every page of a search."""
    token = None
    while True:
        page = search(filter_string=condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
