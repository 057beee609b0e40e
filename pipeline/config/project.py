"""A user's project: a folder that ``dreamset init`` created, in which the installed package runs.

The file ``configs/project.yaml`` marks a project. There the command finds the configurations in ``configs/`` before
those of the package, and ``_target_`` may name the folder's modules. A clone of the repository has no such file.
"""

import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

import yaml

from dreamset.core.errors import UserError

MARK = Path("configs/project.yaml")
LIBRARY_FOLDERS = ("site-packages", "dist-packages")
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
KEYS = ("saved_models_may_use", "configurations_may_use")  # a missing one is an empty list


@dataclass(frozen=True, slots=True)
class Project:
    """The settings of a project."""

    folder: Path
    trusted: tuple[str, ...]  # modules of the folder whose classes saved models may use
    usable: tuple[str, ...] = ()  # installed libraries whose parts configurations may name

    @classmethod
    def here(cls) -> "Project | None":
        """The project in the working folder; None if the folder is no project.

        Raises:
            UserError: if its ``configs/project.yaml`` is invalid.
        """
        folder = Path.cwd()
        try:
            settings = yaml.safe_load((folder / MARK).read_text())
        except FileNotFoundError:
            return None
        except yaml.YAMLError as error:
            raise UserError(f"{MARK} is not valid yaml: {' '.join(str(error).split())}; fix it") from None
        if not isinstance(settings, dict) or not settings or not set(settings) <= set(KEYS):
            keys = ", ".join(map(str, settings)) if isinstance(settings, dict) else type(settings).__name__
            raise UserError(f"{MARK} contains {keys or 'no keys'}; allowed: the keys {', '.join(KEYS)}; fix it")
        return cls(folder, *(_modules(key, settings.get(key, [])) for key in KEYS))

    def trusts(self, module: str) -> bool:
        """Whether saved models may use classes of this module: it is listed, or in a listed package."""
        return any(module == name or module.startswith(f"{name}.") for name in self.trusted)

    def holds(self, spec: ModuleSpec) -> bool:
        """Whether a module lies in the project's folder, and not in the libraries of an environment in this folder."""
        inside = any(place.resolve().is_relative_to(self.folder.resolve()) for place in _places(spec))
        return inside and not is_library(spec)

    def own_file(self, module: str) -> Path | None:
        """The project's file for a top-level module of this name; None if there is none."""
        files = (self.folder / f"{module}.py", self.folder / module / "__init__.py")
        return next((path for path in files if path.exists()), None)


def _modules(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{MARK}: {key} is {value!r}; allowed: a list of module names; fix it")
    return tuple(value)


def is_library(spec: ModuleSpec) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    places = _places(spec)
    installed = any(part in LIBRARY_FOLDERS for place in places for part in place.parts)
    return not places or installed or any(place.resolve().is_relative_to(STANDARD_LIBRARY) for place in places)


def _places(spec: ModuleSpec) -> list[Path]:
    """The file of a module, or the folders of a package without a file. Built-in modules have neither."""
    if spec.origin in ("built-in", "frozen"):
        return []
    return [Path(place) for place in ([spec.origin] if spec.origin else spec.submodule_search_locations or ())]


def make_importable() -> None:
    """Adds the project in the working folder to the end of the import path, where it hides no installed package."""
    project = Project.here()
    if project is not None and str(project.folder) not in sys.path:
        sys.path.append(str(project.folder))
