"""Which code a stage depends on: every module that it can reach by imports, computed instead of listed.

The modules of a stage are those that its own module reaches and those that its ``_target_``s reach, wherever they lie:
in this package or in a folder of the user's. Installed packages of others are left out: which versions are installed
is not a matter of code. An import counts wherever it stands, in a function too. An import whose name is computed while
the program runs is not seen, unless the name is a ``_target_`` or the ``function`` of a transform.
"""

import hashlib
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.moved import current_name
from dreamset.pipeline.config.compose import Config
from dreamset.pipeline.config.imports import ModuleCode, read_module

OURS = "dreamset"
STAGES = f"{OURS}.pipeline.stages"
REBUILT = {  # stage -> parts of the configuration that it does not read but rebuilds from saved models
    "learn_behavior": ("world_model",),
    "evaluate": ("world_model", "behavior"),
    "finetune": ("world_model", "behavior"),
}
SAVED_PARTS = f"{OURS}.models.*"  # any of these may be in a world model that was not configured here
LEFT_OUT = (  # modules and packages that, with what only they import, can never change an output of a stage
    OURS,  # the module of this very name, not what is in the package: it offers names, whose modules count
    f"{OURS}.moved",  # leads from old names to modules, which count
    f"{OURS}.pipeline.progress",  # draws bars
    f"{OURS}.pipeline.tracking",  # reports what a stage did, decides nothing that is saved
)
LIBRARY_FOLDERS = ("site-packages", "dist-packages")
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


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
    return [f"{STAGES}.{stage}", *named, *([] if all(rebuilt) else [SAVED_PARTS])]


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

        Raises:
            UserError: if a name is in no module, or a module is not valid Python.
        """
        waiting = [module for name in names for module in self._named(name)]
        found: dict[str, ModuleCode] = {}
        while waiting:
            name = waiting.pop()
            if name in found or is_left_out(name):
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
        assert spec is not None, package
        for item in pkgutil.iter_modules(spec.submodule_search_locations):
            inner = f"{package}.{item.name}"
            yield from self._inside(inner) if item.ispkg else [inner]

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
        if spec is None or name.partition(".")[0] == OURS:
            return spec is not None
        places = [spec.origin] if spec.origin is not None else [*(spec.submodule_search_locations or ())]
        return spec.origin not in ("built-in", "frozen") and not any(_is_library(Path(place)) for place in places)

    def _find_spec(self, name: str) -> ModuleSpec | None:
        """As the import system finds it, but without running the packages above it."""
        package = name.rpartition(".")[0]
        above = self._spec(package) if package else None
        inside = above.submodule_search_locations if above is not None else None
        if package and inside is None:
            return None
        finders = (finder.find_spec for finder in sys.meta_path)
        return next((spec for find in finders if (spec := find(name, inside)) is not None), None)


def is_left_out(name: str) -> bool:
    """Whether a module, with what only it imports, never counts."""
    return any(name == left_out or (left_out != OURS and name.startswith(f"{left_out}.")) for left_out in LEFT_OUT)


def _is_library(path: Path) -> bool:
    return any(part in LIBRARY_FOLDERS for part in path.parts) or path.resolve().is_relative_to(STANDARD_LIBRARY)
