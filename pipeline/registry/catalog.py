"""Models in MLflow's registry: their versions and tags, the champion, and the lineage of a model.

A family of comparable models is one registered model, ``<dataset>.world_model`` or ``<dataset>.policy``. Each of its
versions is one trained model. The tag ``digest`` identifies the model's files (``saved_models.model_digest``), so the
same model is never registered twice. A policy refers to its world model by this digest.

- ``latest`` is the version with the highest number, as in MLflow.
- ``champion`` is an alias. It moves only to a newly measured version that ranks higher by ``ranking.SCORES``. The tag
  ``champion_because`` of the champion says by which figure. An alias that a person sets in MLflow's pages stays until a
  better version is measured.

A version is made from a logged model, whose metrics are its figures (``logged``). Versions of earlier releases have
none; their figures are tags.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamset.core.errors import UserError
from dreamset.pipeline.registry import cards, logged
from dreamset.pipeline.registry.logged import Runs
from dreamset.pipeline.registry.ranking import POLICY_RETURN, Score, is_figure, leading, outranks, scores

CHAMPION, LATEST = "champion", "latest"
FOLDER = "model"  # folder of the model among the artifacts of its run, in earlier releases
KIND = "dreamset.kind"  # tag of the registered models that this program made
BECAUSE = "champion_because"  # tag of the champion: the figure that made it the champion
MODEL = "logged_model"  # tag of a version: id of the logged model with its figures
RANKED_BY = "ranked_by"  # tag of a version: the figure that ranks it
GROUPS = ("preset", "task", "commit")  # tags of a stage's run that its model has, too
CONDITIONS = "evaluated_under"  # tag: returns are compared between versions that were evaluated in the same way
RELATIONS = {"world_model": "learned in", "parent": "started from"}  # role of an earlier model -> its description

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Registration:
    """A model for the registry, in plain values."""

    name: str
    kind: str
    digest: str
    tags: Mapping[str, str]
    figures: Mapping[str, float]
    origins: Mapping[str, str]  # role, see RELATIONS -> digest of the earlier model
    details: Mapping[str, str] = field(default_factory=dict)  # what the files are: parameters of the logged model


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
        """Name and number, as people write them: ``NAME/3``."""
        return f"{self.name}/{self.number}"

    @property
    def digest(self) -> str:
        """The digest of the model's files.

        Raises:
            UserError: if another program registered the version.
        """
        return _checked(self.tags.get("digest", ""))

    @property
    def score(self) -> str:
        """The figure by which it is ranked, as text. Earlier releases stored its value in a tag of its own."""
        ranked = self.tags.get(RANKED_BY, "-")
        return f"{ranked} = {self.tags[ranked]}" if ranked in self.tags else ranked


def family(dataset: str, kind: str) -> str:
    """Name of the registered model for a dataset's models of one kind. MLflow allows no ``/`` and ``:`` in it."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', dataset)}.{kind}"


def register(client: Any, runs: Runs, registration: Registration, files: Path) -> Version:
    """The version of a model; it is created from the files unless the same model is registered already."""
    registered = find(client, registration.digest, name=registration.name)
    if registered is None:
        require_family(client, registration)
        registered = _created(client, runs, registration, files)
    _promote(client, registered)
    describe(client, registered)
    return registered


def _created(client: Any, runs: Runs, registration: Registration, files: Path) -> Version:
    """A new version. Its source is the row of its stage, where the figures of all stages are."""
    kind, digest = registration.kind, registration.digest
    of_run = client.get_run(runs.own).data.tags
    details = {**registration.tags, **registration.details, "stage": of_run.get("stage", "-")}
    model = logged.log(client, runs, files, kind=kind, digest=digest, details=details)
    score = leading(scores(kind, registration.figures))
    ranked = {} if score is None else {score.figure: score.value}
    logged.measure(client, runs.own, model.model_id, {**registration.figures, **ranked})
    tags = {**registration.tags, **{name: of_run[name] for name in GROUPS if name in of_run}}
    tags |= {**_origin_tags(client, registration), **_ranked_by(score), MODEL: model.model_id}
    tags |= {"kind": kind, "digest": digest}
    created = client.create_model_version(
        registration.name, model.artifact_location, runs.row, tags=tags, model_id=model.model_id
    )
    logged.note_version(client, model.model_id, registration.name, int(created.version))
    return version(client, registration.name, number=int(created.version))


def require_family(client: Any, registration: Registration) -> None:
    """Creates the registered model if none has this name.

    Raises:
        UserError: if the name belongs to models of another kind.
    """
    of_name = [model for model in _all(client.search_registered_models) if model.name == registration.name]
    if not of_name:
        client.create_registered_model(registration.name, tags={KIND: registration.kind})
    elif of_name[0].tags.get(KIND) != registration.kind:
        held = of_name[0].tags.get(KIND, "models of another program")
        raise UserError(f"{registration.name} holds {held}, not {registration.kind}; choose another name")


def measure(
    client: Any, digest: str, measured: Mapping[str, float], conditions: str | None = None, *, run: str | None = None
) -> None:
    """Adds figures that a later stage measured to a registered model.

    Args:
        client: of the registry.
        digest: of the model.
        measured: the figures by their names.
        conditions: a digest of the evaluation's settings and data.
        run: of the stage that measured them; None: the model's own.

    Raises:
        UserError: if no version has that digest.
    """
    entities = _all(client.search_model_versions, f"tags.digest = '{_checked(digest)}'")
    registered = list(map(_version, entities))
    if not registered:
        raise UserError(f"model {digest[:12]} is not registered, so it cannot get figures; register it first")
    for known in registered:
        before = figures(client, known)
        new = {**measured, **_best_policy(known, before, measured, conditions)}
        score = leading(scores(known.tags["kind"], before | new))
        tags = _ranked_by(score) | ({} if conditions is None else {CONDITIONS: conditions})
        if MODEL in known.tags:
            logged.measure(client, run or known.run, known.tags[MODEL], new)
        else:  # of an earlier release
            tags |= {name: f"{value:.6g}" for name, value in new.items()}
        for key, value in tags.items():
            client.set_model_version_tag(known.name, str(known.number), key, value)
        updated = version(client, known.name, number=known.number)
        _promote(client, updated)
        describe(client, updated)


def _best_policy(
    known: Version, before: Mapping[str, float], measured: Mapping[str, float], conditions: str | None
) -> dict[str, float]:
    """The higher one of the returns of a world model's policies, if both were evaluated under the same conditions."""
    if POLICY_RETURN not in measured or POLICY_RETURN not in before or known.tags.get(CONDITIONS) != conditions:
        return {}
    return {POLICY_RETURN: max(before[POLICY_RETURN], measured[POLICY_RETURN])}


def figures(client: Any, known: Version) -> dict[str, float]:
    """Every figure of a version. Those of earlier releases are among its tags."""
    tagged = {name: float(value) for name, value in known.tags.items() if is_figure(name)}
    return tagged | (logged.figures(client, known.tags[MODEL]) if MODEL in known.tags else {})


def settings(client: Any, known: Version) -> dict[str, str]:
    """What a person chose for a version, and what its files are; empty for one of an earlier release."""
    return logged.settings(client, known.tags[MODEL]) if MODEL in known.tags else {}


def scores_of(client: Any, known: Version) -> list[Score | None]:
    """The scores of a version, in the order in which they rank it."""
    return scores(known.tags["kind"], figures(client, known), known.tags.get(CONDITIONS))


def _promote(client: Any, candidate: Version) -> None:
    """Moves the alias ``champion`` to the candidate if it ranks higher, or if it is the first with a score."""
    mine = scores_of(client, candidate)
    score = leading(mine)
    if score is None:
        return
    numbers, reason = _aliases(client, candidate.name), f"{score.figure} = {score.value:.6g}"
    if CHAMPION in numbers and numbers[CHAMPION] != candidate.number:
        champion = version(client, candidate.name, number=numbers[CHAMPION])
        if not outranks(mine, scores_of(client, champion)):
            return
        reason += f"; the champion before, version {champion.number}, has {champion.score}"
        client.delete_model_version_tag(champion.name, str(champion.number), BECAUSE)
    client.set_registered_model_alias(candidate.name, CHAMPION, str(candidate.number))
    client.set_model_version_tag(candidate.name, str(candidate.number), BECAUSE, reason)


def describe(client: Any, known: Version) -> None:
    """Writes the model card of a version, and the description of the registered model."""
    every = versions(client, known.name)
    (known,) = (entry for entry in every if entry.number == known.number)
    row = client.get_run(known.run)
    text = cards.of_version(known, row, figures(client, known), settings(client, known), origins(client, known))
    if cards.may_replace(client.get_model_version(known.name, str(known.number)).description):
        client.update_model_version(known.name, str(known.number), cards.signed(text))
    if cards.may_replace(client.get_registered_model(known.name).description):
        client.update_registered_model(known.name, cards.signed(cards.of_family(known.name, every)))


def families(client: Any) -> list[str]:
    """Names of all registered models that this program made."""
    return sorted(model.name for model in _all(client.search_registered_models) if KIND in model.tags)


def versions(client: Any, name: str) -> list[Version]:
    """Every version of a registered model, the oldest first.

    Raises:
        UserError: if no registered model has this name.
    """
    if name not in families(client):
        known = ", ".join(families(client)) or "none yet"
        raise UserError(f"no model named {name!r} is registered; registered: {known}")
    named: dict[int, list[str]] = {}
    for alias, number in _aliases(client, name).items():
        named.setdefault(number, []).append(alias)
    entries = (_version(entity, named) for entity in _all(client.search_model_versions, f"name = '{name}'"))
    return sorted(entries, key=lambda entry: entry.number)


def version(client: Any, name: str, *, number: int | None = None, alias: str | None = None) -> Version:
    """One version, by its number or an alias. Without both: the champion, or the latest if there is no champion.

    Raises:
        UserError: if there is no such version; the message lists the existing ones.
    """
    every = versions(client, name)
    if not every:
        raise UserError(f"{name} has no versions; train a model")
    if number is not None:
        wanted = [entry for entry in every if entry.number == number]
    elif alias == LATEST:
        wanted = every[-1:]
    else:
        wanted = [entry for entry in every if (alias or CHAMPION) in entry.aliases]
        wanted = wanted or (every[-1:] if alias is None else [])
    if not wanted:
        numbers = ", ".join(str(entry.number) for entry in every)
        aliases = ", ".join([LATEST, *(name for entry in every for name in entry.aliases)])
        asked = f"version {number}" if number is not None else f"{alias!r}"
        raise UserError(f"{name} has no {asked}; versions: {numbers}; aliases: {aliases}")
    return wanted[0]


def find(client: Any, digest: str, *, name: str | None = None) -> Version | None:
    """The first version with this digest, in one registered model or in all; None if there is none."""
    within = "" if name is None else f"name = '{name}' and "
    entities = _all(client.search_model_versions, f"{within}tags.digest = '{_checked(digest)}'")
    ordered = sorted(map(_version, entities), key=lambda entry: (entry.created, entry.name, entry.number))
    return ordered[0] if ordered else None


@dataclass(frozen=True, slots=True)
class Origin:
    """An earlier model in the lineage of a model."""

    role: str  # its relation to the later model, in words
    digest: str
    version: Version | None  # None: not registered here


def origins(client: Any, start: Version) -> list[Origin]:
    """The lineage of a model, the nearest model first. The tags hold the digests that link one to the next."""
    chain: list[Origin] = []
    current: Version | None = start
    seen = {start.tags.get("digest")}
    while current is not None:
        tags = current.tags
        role = next((role for role in RELATIONS if f"{role}_digest" in tags), None)
        if role is None or tags[f"{role}_digest"] in seen:
            break
        digest = tags[f"{role}_digest"]
        seen.add(digest)
        current = find(client, digest)
        chain.append(Origin(RELATIONS[role], digest, current))
    return chain


def _origin_tags(client: Any, registration: Registration) -> dict[str, str]:
    """Tags for the earlier models: their digests and, if they are registered, their versions and runs."""
    tags: dict[str, str] = {}
    for role, digest in registration.origins.items():
        tags[f"{role}_digest"] = digest
        origin = find(client, digest)
        if origin is not None:
            tags |= {role: origin.reference, f"{role}_run": origin.run}
    return tags


def _ranked_by(score: Score | None) -> dict[str, str]:
    return {} if score is None else {RANKED_BY: f"{score.figure} = {score.value:.6g}"}


def _aliases(client: Any, name: str) -> dict[str, int]:
    """Alias -> number of its version. MLflow's searches return no aliases."""
    return {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}


def _version(entity: Any, named: Mapping[int, list[str]] | None = None) -> Version:
    number = int(entity.version)
    aliases = tuple(sorted((named or {}).get(number, ())))
    created = int(entity.creation_timestamp)
    tags = {name: value for name, value in entity.tags.items() if not name.startswith("mlflow.")}  # hidden ones
    return Version(entity.name, number, str(entity.run_id), created, tags, aliases)


def _checked(digest: str) -> str:
    """The digest, after a check, because it becomes part of a filter and of a path."""
    if not _DIGEST.fullmatch(digest):
        raise UserError(f"{digest[:80]!r} is no digest of a model; another program registered it, choose another model")
    return digest


def _all(search: Callable[..., Any], condition: str | None = None) -> Iterator[Any]:
    """The entries of all pages of a search."""
    token = None
    while True:
        page = search(filter_string=condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
