"""Which code a stage depends on: every module that it can reach by imports, computed instead of listed.

The modules of a stage are those that its own module reaches and those that its ``_target_``s reach, wherever they lie:
in this package or in a folder of the user's. Installed packages of others are left out: which versions are installed
is not a matter of code. An import counts wherever it stands, in a function too. An import whose name is computed while
the program runs is not seen, unless the name is a ``_target_`` or the ``function`` of a transform.
"""

import hashlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.config.imports import ModuleCode, read_module
from dreamset.pipeline.config.project import Project, is_library

OURS = "dreamset"
STAGES = f"{OURS}.pipeline.stages"
REBUILT = {  # stage -> parts of the configuration that it does not read but rebuilds from saved models
    "learn_behavior": ("world_model",),
    "evaluate": ("world_model", "behavior"),
    "finetune": ("world_model", "behavior"),
}
SAVED_PARTS = f"{OURS}.models.*"
SETTINGS = (f"{OURS}.pipeline.config.settings", f"{STAGES}.settings")
LEFT_OUT = (  # modules and packages that, with what only they import, can never change an output of a stage
    OURS,  # the module of this very name, not what is in the package: it offers names, whose modules count
    f"{OURS}.moved",  # leads from old names to modules, which count
    f"{OURS}.pipeline.progress",  # draws bars
    f"{OURS}.pipeline.tracking",  # reports what a stage did, decides nothing that is saved
    *SETTINGS,  # they check values and change none; all values are in the stage's resolved file
)


def with_code(stage: str, settings: Config, config: Config, modules: "ImportPath | None" = None) -> Config:
    """The settings of a stage, with the digest of all code that it depends on under ``code``.

    Args:
        stage: its name in ``dreamset.pipeline.stages``.
        settings: what the stage reads.
        config: the whole configuration from which the settings were selected.
        modules: what was found for other stages at the same moment, so that nothing is looked for twice.

    Raises:
        UserError: if a ``_target_`` names no module, or a module is not valid Python.
    """
    code = (modules or ImportPath()).digest(starting_points(stage, settings, config))
    return {**settings, "code": code}


def starting_points(stage: str, settings: Config, config: Config) -> list[str]:
    """Dotted names that lead to everything that the stage runs; ``package.*`` stands for all modules in a package."""
    rebuilt = [targets(config[part]) for part in REBUILT.get(stage, ())]
    named = [*targets(settings), *(target for part in rebuilt for target in part)]
    return [f"{STAGES}.{stage}", *named, *([] if all(rebuilt) else _saved_parts())]


def _saved_parts() -> list[str]:
    """All that a world model which was not configured here may be made of."""
    project = Project.here()
    return [SAVED_PARTS, *(f"{module}.*" for module in (project.trusted if project is not None else ()))]


def targets(node: object) -> list[str]:
    """Everything that a configuration names to be called: every ``_target_`` and every ``function``."""
    if isinstance(node, Mapping):
        own = [node[key].replace(":", ".") for key in ("_target_", "function") if isinstance(node.get(key), str)]
        return own + [target for value in node.values() for target in targets(value)]
    if isinstance(node, list):
        return [target for value in node for target in targets(value)]
    return []


class ImportPath:
    """The modules that Python would import, found without importing any; none is looked for twice."""

    def __init__(self) -> None:
        self._spec = cache(self._find_spec)
        self._read = cache(self._read_code)
        self._modules_of = cache(self._find_modules)

    def digest(self, names: Iterable[str]) -> str:
        """One checksum of all code that the dotted names reach; places of files do not count."""
        modules = sorted(self.reachable(names).items())
        lines = "".join(f"{name} {module.digest}\n" for name, module in modules)
        return hashlib.sha256(lines.encode()).hexdigest()

    def reachable(self, names: Iterable[str]) -> dict[str, ModuleCode]:
        """Every module of this package and of the user's that can be reached from the names, by its name.

        A module that is itself one of the names counts even if it is left out otherwise.

        Raises:
            UserError: if a name is in no module, or a module is not valid Python.
        """
        asked = set(names)
        waiting = [module for name in asked for module in self._named(name)]
        found: dict[str, ModuleCode] = {}
        while waiting:
            name = waiting.pop()
            if name in found or (name not in asked and is_left_out(name)):
                continue
            module = self._read(name)
            if module is not None:
                found[name] = module
                waiting += [name for reference in module.references for name in self._modules_of(reference)]
        return found

    def _named(self, name: str) -> Sequence[str]:
        """The modules that a starting point names itself, which must be there."""
        if name.endswith(".*"):
            return list(self._inside(name.removesuffix(".*")))
        modules = self._modules_of(name)
        if not modules or not self._may_hold(modules[-1], current_name(name)):
            raise UserError(f"_target_ is {name}, but there is no module {name.rpartition('.')[0]}; check its spelling")
        _check_not_hidden(modules[0], self._spec(modules[0]))
        return modules

    def _may_hold(self, module: str, name: str) -> bool:
        """Whether ``name`` is defined in the module, or within a class that is; of libraries this is not known."""
        code = self._read(module)
        inner = name.removeprefix(module).removeprefix(".").split(".")
        return code is None or len(inner) == 1 or inner[0] in code.names | code.offered.keys()

    def _find_modules(self, dotted: str) -> tuple[str, ...]:
        """The modules that run when ``dotted`` is imported: the packages above it, its module, what loads it lazily."""
        modules: list[str] = []
        for part in current_name(dotted).split("."):
            inner = ".".join([*modules[-1:], part])
            if self._spec(inner) is None:
                code = self._read(modules[-1]) if modules else None
                lazily = code.offered.get(part) if code is not None else None
                return (*modules, *(self._modules_of(lazily) if lazily else ()))
            modules.append(inner)
            if not self._counts(inner):
                break
        return tuple(modules)

    def _inside(self, package: str) -> Iterator[str]:
        yield from self._modules_of(package)
        spec = self._spec(package)
        folders = spec.submodule_search_locations if spec is not None else None
        for item in pkgutil.iter_modules(folders or []):
            yield from self._inside(f"{package}.{item.name}")

    def _read_code(self, name: str) -> ModuleCode | None:
        """None for what does not count, and for packages without a file of their own."""
        spec = self._spec(name)
        if spec is None or spec.origin is None or not self._counts(name):
            return None
        is_package = spec.submodule_search_locations is not None
        return read_module(Path(spec.origin), name if is_package else name.rpartition(".")[0])

    def _counts(self, name: str) -> bool:
        """Whether it is code of this package or of the user's: neither a library nor Python's own."""
        spec = self._spec(name)
        return spec is not None and (name.partition(".")[0] == OURS or not is_library(spec))

    def _find_spec(self, name: str) -> ModuleSpec | None:
        """As the import system finds it, but without running the packages above it."""
        package = name.rpartition(".")[0]
        above = self._spec(package) if package else None
        inside = above.submodule_search_locations if above is not None else None
        if package and inside is None:
            return None
        finders = (finder.find_spec for finder in sys.meta_path)
        return next((spec for find in finders if (spec := find(name, inside)) is not None), None)


def _check_not_hidden(module: str, spec: ModuleSpec | None) -> None:
    """Installed packages come before the modules of a project: silently taking the other one would be a riddle."""
    project = Project.here()
    own = project.own_file(module) if project is not None else None
    if project is not None and own is not None and spec is not None and not project.holds(spec):
        raise UserError(f"_target_ means {own}, but the installed package {module} comes first; rename {own.name}")


def is_left_out(name: str) -> bool:
    """Whether a module, with what only it imports, never counts."""
    return any(name == left_out or (left_out != OURS and name.startswith(f"{left_out}.")) for left_out in LEFT_OUT)
