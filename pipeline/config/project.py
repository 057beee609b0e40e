"""A project of the user's own: a folder that ``dreamset init`` made, in which the installed package works.

Its mark is the file ``configs/project.yaml``. In such a folder the command finds the configurations in ``configs/``
before those of the package, and the folder's modules by ``_target_``. A clone has no such file: its folders are the
package itself.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from dreamset.core.errors import UserError

MARK = Path("configs/project.yaml")
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

    def holds(self, file: str | None) -> bool:
        """Whether a module's file lies in the project's folder."""
        return file is not None and Path(file).resolve().is_relative_to(self.folder.resolve())

    def hides(self, module: str) -> Path | None:
        """The file or folder in the project that has the name of a top-level module."""
        name = module.partition(".")[0]
        return next((path for path in (self.folder / f"{name}.py", self.folder / name) if path.exists()), None)


def make_importable() -> None:
    """Puts the project in the working folder, if it is one, last on the import path: it never hides a package."""
    project = Project.here()
    if project is not None and str(project.folder) not in sys.path:
        sys.path.append(str(project.folder))
