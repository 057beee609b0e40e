"""Computes the code that a stage depends on: every module that it can reach by imports.

A stage depends on the modules that its own module and its ``_target_``s reach, in this package and in the user's
folders. Installed packages do not count, because their versions are not part of the code. Imports inside functions
count. An import whose name is computed at run time is not detected, unless the name is a ``_target_`` or the
``function`` of a transform.
"""

import hashlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.config.imports import ModuleCode, read_module
from dreamset.pipeline.config.project import Project, is_library
from dreamset.pipeline.config.trust import dotted, named

OURS = "dreamset"
STAGES = f"{OURS}.pipeline.stages"
REBUILT = {  # stage -> parts that it rebuilds from saved models instead of reading them from its settings
    "learn_behavior": ("world_model",),
    "evaluate": ("world_model", "behavior"),
    "finetune": ("world_model", "behavior"),
}
SAVED_PARTS = f"{OURS}.models.*"
SETTINGS = (f"{OURS}.pipeline.config.settings", f"{STAGES}.settings")
LEFT_OUT = (  # modules and packages that never change an output of a stage, and neither do their own imports
    OURS,  # the module of this name, not the modules of the package; the names that it offers count
    f"{OURS}.moved",  # leads from old names to modules, which count
    f"{OURS}.pipeline.progress",  # draws progress bars
    f"{OURS}.pipeline.tracking",  # reports metrics, and decides nothing that is saved
    *SETTINGS,  # check values and change none; all values are in the stage's resolved file
)


def with_code(stage: str, settings: Config, config: Config, modules: "ImportPath | None" = None) -> Config:
    """The settings of a stage, with the digest of all code that it depends on under ``code``.

    Args:
        stage: its name in ``dreamset.pipeline.stages``.
        settings: the settings that the stage reads.
        config: the whole configuration, from which the settings are selected.
        modules: a shared cache, so that several stages search each module once.

    Raises:
        UserError: if a ``_target_`` names no module, or a module is not valid Python.
    """
    code = (modules or ImportPath()).digest(starting_points(stage, settings, config))
    return {**settings, "code": code}


def starting_points(stage: str, settings: Config, config: Config) -> list[str]:
    """Dotted names from which all code of the stage is reachable. ``package.*`` means all modules of a package."""
    rebuilt = [targets(config[part]) for part in REBUILT.get(stage, ())]
    named = [*targets(settings), *(target for part in rebuilt for target in part)]
    return [f"{STAGES}.{stage}", *named, *([] if all(rebuilt) else _saved_parts())]


def _saved_parts() -> list[str]:
    """All modules that an existing world model may use, because its parts are not configured here."""
    project = Project.here()
    return [SAVED_PARTS, *(f"{module}.*" for module in (project.trusted if project is not None else ()))]


def targets(node: object) -> list[str]:
    """All names of callables in a configuration: every ``_target_`` and every ``function``."""
    return [dotted(name) for _, name in named(node)]


class ImportPath:
    """Finds modules as Python would, but without importing them. Each module is searched once."""

    def __init__(self) -> None:
        self._spec = cache(self._find_spec)
        self._read = cache(self._read_code)
        self._modules_of = cache(self._find_modules)

    def digest(self, names: Iterable[str]) -> str:
        """One checksum of all code that the dotted names reach. It does not depend on the location of files."""
        modules = sorted(self.reachable(names).items())
        lines = "".join(f"{name} {module.digest}\n" for name, module in modules)
        return hashlib.sha256(lines.encode()).hexdigest()

    def reachable(self, names: Iterable[str]) -> dict[str, ModuleCode]:
        """The modules of this package and of the user that are reachable from the names, by their names.

        A module that is itself one of the names counts even if it is left out otherwise.

        Raises:
            UserError: if a name belongs to no module, or a module is not valid Python.
        """
        given = set(names)
        waiting = [module for name in given for module in self._named(name)]
        modules: dict[str, ModuleCode] = {}
        while waiting:
            name = waiting.pop()
            if name in modules or (name not in given and is_left_out(name)):
                continue
            module = self._read(name)
            if module is not None:
                modules[name] = module
                waiting += [name for reference in module.references for name in self._modules_of(reference)]
        return modules

    def _named(self, name: str) -> Sequence[str]:
        """The modules of a starting point. They must exist."""
        if name.endswith(".*"):
            return list(self._inside(name.removesuffix(".*")))
        modules = self._modules_of(name)
        if not modules or not self._may_hold(modules[-1], current_name(name)):
            raise UserError(f"_target_ is {name}, but no module {name.rpartition('.')[0]} exists; check the spelling")
        _check_not_hidden(modules[0], self._spec(modules[0]))
        return modules

    def _may_hold(self, module: str, name: str) -> bool:
        """Whether the module, or a class in it, may define ``name``. Modules of libraries may define any name."""
        code = self._read(module)
        inner = name.removeprefix(module).removeprefix(".").split(".")
        return code is None or len(inner) == 1 or inner[0] in code.names | code.offered.keys()

    def _find_modules(self, dotted: str) -> tuple[str, ...]:
        """The modules that an import of ``dotted`` runs: its packages, its module and its lazily loaded origin."""
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
        """The code of a module; None if it does not count, or is a package without an ``__init__.py``."""
        spec = self._spec(name)
        if spec is None or spec.origin is None or not self._counts(name):
            return None
        is_package = spec.submodule_search_locations is not None
        return read_module(Path(spec.origin), name if is_package else name.rpartition(".")[0])

    def _counts(self, name: str) -> bool:
        """Whether the module belongs to this package or to the user, and not to Python or an installed library."""
        spec = self._spec(name)
        return spec is not None and (name.partition(".")[0] == OURS or not is_library(spec))

    def _find_spec(self, name: str) -> ModuleSpec | None:
        """Finds a module as the import system does, but without running its packages."""
        package = name.rpartition(".")[0]
        above = self._spec(package) if package else None
        inside = above.submodule_search_locations if above is not None else None
        if package and inside is None:
            return None
        finders = (finder.find_spec for finder in sys.meta_path)
        return next((spec for find in finders if (spec := find(name, inside)) is not None), None)


def _check_not_hidden(module: str, spec: ModuleSpec | None) -> None:
    """Refuses a project's module with the name of an installed package, because Python would import the package."""
    project = Project.here()
    own = project.own_file(module) if project is not None else None
    if project is not None and own is not None and spec is not None and not project.holds(spec):
        raise UserError(
            f"_target_ refers to {own}, but the installed package {module} has the same name; rename {own.name}"
        )


def is_left_out(name: str) -> bool:
    """Whether a module never counts, and neither do modules that only it imports."""
    return any(name == left_out or (left_out != OURS and name.startswith(f"{left_out}.")) for left_out in LEFT_OUT)
