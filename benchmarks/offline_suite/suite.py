"""What the suite consists of: tasks and methods, as ``suite.yaml`` lists them."""

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
    """A recorded dataset and the environment that it comes from."""

    name: str
    overrides: tuple[str, ...]  # the dataset and what all methods share
    budget: float  # CPU seconds that a peer may train
    max_updates: int  # after which a peer stops earlier
    observations: str = "vectors"  # or images: which of a method's settings hold
    ours: tuple[str, ...] = ()  # what the task asks of Dreamset's own methods besides
    tuned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # and of those whose names match, in this order

    def tuned_for(self, method: str) -> tuple[str, ...]:
        """What the task asks of a method by its name."""
        matching = (overrides for pattern, overrides in self.tuned.items() if fnmatchcase(method, pattern))
        return tuple(override for overrides in matching for override in overrides)


@dataclass(frozen=True, slots=True)
class Parts:
    """A world model and a behaviour, as overrides. Equal world models are trained once."""

    world_model: tuple[str, ...]
    behavior: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ours:
    """One of Dreamset's methods, at the scale that vectors or images ask for; without an entry it serves none."""

    vectors: Parts | None = None
    images: Parts | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """Kinds of actions that it serves."""
        return ACTIONS

    @property
    def observations(self) -> tuple[str, ...]:
        """Kinds of observations that there are settings for."""
        return tuple(kind for kind in OBSERVATIONS if getattr(self, kind) is not None)

    def overrides(self, task: Task) -> tuple[str, ...]:
        """What the method asks for on such observations."""
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
    """Names of d3rlpy's configuration classes, by the kind of actions that they serve."""

    classes: Mapping[str, str]
    observations: tuple[str, ...] = OBSERVATIONS

    @property
    def actions(self) -> tuple[str, ...]:
        """Kinds of actions that there is a class for."""
        return tuple(self.classes)

    def settings(self, task: Task) -> list[Any]:
        """Everything in the suite that its results depend on."""
        return [task.overrides, task.budget, task.max_updates, sorted(self.classes.items())]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Learns nothing; ``name`` is a function of ``baselines``."""

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
    group: str  # what the report compares: dreamset, cloning, d3rlpy, baseline
    kind: Ours | Peer | Baseline

    def serves(self, task: Task, action: ActionSpec) -> bool:
        """Whether it can learn a task with such observations and actions."""
        actions = "discrete" if action.discrete else "continuous"
        return actions in self.kind.actions and task.observations in self.kind.observations

    def overrides(self, task: Task) -> tuple[str, ...]:
        """What one of our methods, and nobody else's, asks for on such a task."""
        assert isinstance(self.kind, Ours)
        return (*self.kind.overrides(task), *task.ours, *task.tuned_for(self.name))

    def settings_digest(self, task: Task) -> str:
        """Changes with the entries of the suite, so that results made with others are known."""
        tuned = task.tuned_for(self.name)
        return digest(yaml.safe_dump(_plain([*self.kind.settings(task), *([tuned] if tuned else [])])))


@dataclass(frozen=True, slots=True)
class Suite:
    """Everything that there is to choose from."""

    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]

    @classmethod
    def read(cls, path: Path = SUITE) -> "Suite":
        """The suite in a yaml file.

        Raises:
            UserError: for keys that nothing reads, for missing ones and for settings of methods that are not there.
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
                raise UserError(f"{path}: task {task.name} tunes {pattern}, which none of {', '.join(ours)} matches")

    def choose(self, tasks: Sequence[str] | None, methods: Sequence[str] | None) -> "Suite":
        """The named part; ``None`` stands for all.

        Raises:
            UserError: for a name that is not in the suite.
        """
        return Suite(chosen("tasks", self.tasks, tasks), chosen("methods", self.methods, methods))


def _built(path: Path, kind: str, entries: Mapping[str, Any], build: Callable[..., T]) -> dict[str, T]:
    built = {}
    for name, entry in entries.items():
        try:
            built[name] = build(name, **{key: _hashable(value) for key, value in entry.items()})
        except TypeError as error:
            raise UserError(f"{path}: {kind} {name} lacks a key or has one that nothing reads ({error})") from None
    return built


def _method(name: str, *, group: str, **given: Any) -> Method:
    if "peer" in given:
        return Method(name, group, Peer(classes=given.pop("peer"), **given))
    if "baseline" in given:
        return Method(name, group, Baseline(name=given.pop("baseline"), **given))
    parts = {kind: Parts(**given.pop(kind)) for kind in OBSERVATIONS if kind in given}
    return Method(name, group, Ours(**parts, **given))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hashable(item) for key, item in value.items()}
    return tuple(_flat(value)) if isinstance(value, list) else value


def _flat(values: list[Any]) -> Iterator[Any]:
    """A list within a list stands for its items, so that an anchored one can be taken and added to."""
    for value in values:
        yield from _flat(value) if isinstance(value, list) else (value,)


def chosen(kind: str, all_: Mapping[str, Any], names: Sequence[str] | None) -> Mapping[str, Any]:
    """The named entries, in their order; ``None`` stands for all.

    Raises:
        UserError: for a name that is not there.
    """
    if names is None:
        return all_
    unknown = sorted(set(names) - set(all_))
    if unknown:
        raise UserError(f"there are no {kind} {', '.join(unknown)}; available: {', '.join(all_)}; choose of these")
    return {name: all_[name] for name in names}


def _plain(value: Any) -> Any:
    """Tuples as lists, which yaml can write."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
