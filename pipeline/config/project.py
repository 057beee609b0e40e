"""A project of the user's own: a folder that ``dreamset init`` made, in which the installed package works.

Its mark is the file ``configs/project.yaml``. In such a folder the command finds the configurations in ``configs/``
before those of the package, and the folder's modules by ``_target_``. A clone has no such file: its folders are the
package itself.
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
KEYS = {"saved_models_may_use"}


@dataclass(frozen=True, slots=True)
class Project:
    """What a project says of itself."""

    folder: Path
    trusted: tuple[str, ...]  # modules of the folder whose classes files of saved models may name

    @classmethod
    def here(cls) -> "Project | None":
        """The project in the working folder, if it is one.

        Raises:
            UserError: if its ``configs/project.yaml`` is wrong.
        """
        folder = Path.cwd()
        try:
            said = yaml.safe_load((folder / MARK).read_text())
        except FileNotFoundError:
            return None
        except yaml.YAMLError as error:
            raise UserError(f"{MARK} is not valid yaml: {' '.join(str(error).split())}; fix it") from None
        if not isinstance(said, dict) or set(said) != KEYS:
            got = sorted(map(str, said)) if isinstance(said, dict) else type(said).__name__
            raise UserError(f"{MARK} must have exactly the keys {sorted(KEYS)}, it has {got}")
        trusted = said["saved_models_may_use"]
        if not isinstance(trusted, list) or not all(isinstance(name, str) for name in trusted):
            raise UserError(f"{MARK}: saved_models_may_use must be a list of module names, got {trusted!r}")
        return cls(folder, tuple(trusted))

    def trusts(self, module: str) -> bool:
        """Whether a file may name classes of this module: it is listed, or in a listed package."""
        return any(module == name or module.startswith(f"{name}.") for name in self.trusted)

    def holds(self, spec: ModuleSpec) -> bool:
        """Whether a module lies in the project's folder, and not in the libraries of an environment that is there."""
        inside = any(place.resolve().is_relative_to(self.folder.resolve()) for place in _places(spec))
        return inside and not is_library(spec)

    def own_file(self, module: str) -> Path | None:
        """The file or package in the project that has the name of this top-level module."""
        files = (self.folder / f"{module}.py", self.folder / module / "__init__.py")
        return next((path for path in files if path.exists()), None)


def is_library(spec: ModuleSpec) -> bool:
    """Whether a module is Python's own or was installed."""
    places = _places(spec)
    installed = any(part in LIBRARY_FOLDERS for place in places for part in place.parts)
    return not places or installed or any(place.resolve().is_relative_to(STANDARD_LIBRARY) for place in places)


def _places(spec: ModuleSpec) -> list[Path]:
    """Its file, or the folders of a package without one; none of what is built into Python."""
    if spec.origin in ("built-in", "frozen"):
        return []
    return [Path(place) for place in ([spec.origin] if spec.origin else spec.submodule_search_locations or ())]


def make_importable() -> None:
    """Puts the project in the working folder, if it is one, last on the import path: it never hides a package."""
    project = Project.here()
    if project is not None and str(project.folder) not in sys.path:
        sys.path.append(str(project.folder))
