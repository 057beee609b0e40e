"""Tasks and methods of the suite, as listed in ``suite.yaml``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dreamset.core.errors import UserError
from dreamset.core.spec import ActionSpec
from dreamset.pipeline.files import digest

SUITE = Path(__file__).parent / "suite.yaml"
T = TypeVar("T")

ACTIONS = ("continuous", "discrete")
OBSERVATIONS = ("vectors", "images")


@dataclass(frozen=True, slots=True)
class Task:
    """A recorded dataset and its environment."""

    name: str
    overrides: tuple[str, ...]  # the dataset and the common overrides of all methods
    budget: float  # CPU seconds of training for d3rlpy's methods
    max_updates: int  # maximum updates of d3rlpy's methods
    observations: str = "vectors"  # or images: selects a method's settings
    ours: tuple[str, ...] = ()  # further overrides of Dreamset's methods
    tuned: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # further overrides by pattern of the method's name, in order

    def tuned_for(self, method: str) -> tuple[str, ...]:
        """The task's overrides for a method."""
        matching = (overrides for pattern, overrides in self.tuned.items() if fnmatchcase(method, pattern))
        return tuple(override for overrides in matching for override in overrides)


@dataclass(frozen=True, slots=True)
class Parts:
    """Overrides of a world model and of a behaviour; equal world models are trained once."""

    world_model: tuple[str, ...]
    behavior: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ours:
    """One of Dreamset's methods, with settings for vectors, images or both."""

    vectors: Parts | None = None
    images: Parts | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """Supported kinds of actions."""
        return ACTIONS

    @property
    def observations(self) -> tuple[str, ...]:
        """Kinds of observations with settings."""
        return tuple(kind for kind in OBSERVATIONS if getattr(self, kind) is not None)

    def overrides(self, task: Task) -> tuple[str, ...]:
        """The method's overrides for the task's observations."""
        parts = self._parts(task)
        return (*parts.world_model, *parts.behavior)

    def settings(self, task: Task) -> list[Any]:
        """Everything in the suite that its results depend on."""
        parts = self._parts(task)
        return [task.overrides, task.ours, parts.world_model, parts.behavior]

    def _parts(self, task: Task) -> Parts:
        parts: Parts = getattr(self, task.observations)
        return parts


@dataclass(frozen=True, slots=True)
class Peer:
    """A method of d3rlpy: names of configuration classes by kind of actions."""

    classes: Mapping[str, str]
    observations: tuple[str, ...] = OBSERVATIONS

    @property
    def actions(self) -> tuple[str, ...]:
        """Kinds of actions with a class."""
        return tuple(self.classes)

    def settings(self, task: Task) -> list[Any]:
        """Everything in the suite that its results depend on."""
        return [task.overrides, task.budget, task.max_updates, sorted(self.classes.items())]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline without learning; ``name`` is a function of ``baselines``."""

    name: str
    actions: tuple[str, ...] = ACTIONS
    observations: tuple[str, ...] = OBSERVATIONS

    def settings(self, task: Task) -> list[Any]:
        """Everything in the suite that its results depend on."""
        return [task.overrides, self.name]


@dataclass(frozen=True, slots=True)
class Method:
    """A column of the table."""

    name: str
    group: str  # compared in the report: dreamset, cloning, d3rlpy, baseline
    kind: Ours | Peer | Baseline

    def serves(self, task: Task, action: ActionSpec) -> bool:
        """Whether the method supports the task's observations and actions."""
        actions = "discrete" if action.discrete else "continuous"
        return actions in self.kind.actions and task.observations in self.kind.observations

    def overrides(self, task: Task) -> tuple[str, ...]:
        """All overrides of one of Dreamset's methods on a task."""
        assert isinstance(self.kind, Ours)
        return (*self.kind.overrides(task), *task.ours, *task.tuned_for(self.name))

    def settings_digest(self, task: Task) -> str:
        """A digest of the entries of the suite, which identifies results with other settings."""
        tuned = task.tuned_for(self.name)
        return digest(yaml.safe_dump(_plain([*self.kind.settings(task), *([tuned] if tuned else [])])))


@dataclass(frozen=True, slots=True)
class Suite:
    """All tasks and methods."""

    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]

    @classmethod
    def read(cls, path: Path = SUITE) -> "Suite":
        """The suite in a yaml file.

        Raises:
            UserError: if a key is missing or unknown, or settings name an unknown method.
        """
        value = yaml.safe_load(path.read_text())
        common, tasks = value["common"], value["tasks"]
        tasks = {name: {**entry, "overrides": [*common, *entry["overrides"]]} for name, entry in tasks.items()}
        suite = cls(_built(path, "task", tasks, Task), _built(path, "method", value["methods"], _method))
        for task in suite.tasks.values():
            suite._check_names(path, task)
        return suite

    def _check_names(self, path: Path, task: Task) -> None:
        ours = [name for name, method in self.methods.items() if isinstance(method.kind, Ours)]
        for pattern in task.tuned:
            if not any(fnmatchcase(name, pattern) for name in ours):
                raise UserError(
                    f"{path}: task {task.name} tunes {pattern}, which matches none of {', '.join(ours)}; fix it"
                )

    def choose(self, tasks: Sequence[str] | None, methods: Sequence[str] | None) -> "Suite":
        """Selects tasks and methods by name; ``None`` selects all.

        Raises:
            UserError: if a name is unknown.
        """
        return Suite(selected("tasks", self.tasks, tasks), selected("methods", self.methods, methods))


def _built(path: Path, kind: str, entries: Mapping[str, Any], build: Callable[..., T]) -> dict[str, T]:
    built = {}
    for name, entry in entries.items():
        try:
            built[name] = build(name, **{key: as_tuples(value) for key, value in entry.items()})
        except TypeError as error:
            raise UserError(f"{path}: {kind} {name} has a missing or unknown key ({error}); fix it") from None
    return built


def _method(name: str, *, group: str, **given: Any) -> Method:
    if "peer" in given:
        return Method(name, group, Peer(classes=given.pop("peer"), **given))
    if "baseline" in given:
        return Method(name, group, Baseline(name=given.pop("baseline"), **given))
    parts = {kind: Parts(**given.pop(kind)) for kind in OBSERVATIONS if kind in given}
    return Method(name, group, Ours(**parts, **given))


def as_tuples(value: Any) -> Any:
    """Lists become tuples, nested lists flat ones."""
    if isinstance(value, dict):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(_flat(value)) if isinstance(value, list) else value


def _flat(values: list[Any]) -> Iterator[Any]:
    """Flattens nested lists, so that an anchored list can be extended."""
    for value in values:
        yield from _flat(value) if isinstance(value, list) else (value,)


def selected(kind: str, all_: Mapping[str, Any], names: Sequence[str] | None) -> Mapping[str, Any]:
    """The named entries, in the order of ``names``; ``None`` selects all.

    Raises:
        UserError: if a name is unknown.
    """
    if names is None:
        return all_
    unknown = sorted(set(names) - set(all_))
    if unknown:
        raise UserError(f"there are no {kind} {', '.join(unknown)}; available: {', '.join(all_)}")
    return {name: all_[name] for name in names}


def _plain(value: Any) -> Any:
    """Converts tuples to lists, which yaml can write."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
