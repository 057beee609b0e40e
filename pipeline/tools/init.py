"""A project of the user's own: the files that the pipeline needs in a folder, when the package is installed."""

import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

from dreamset.core.errors import UserError
from dreamset.core.files import write_bytes

TEMPLATES = {  # file of the project -> its template in the folder ``project``
    "params.yaml": "params.yaml",
    "dvc.yaml": "dvc.yaml",
    "configs/project.yaml": "configs/project.yaml",
    "configs/README.md": "configs/README.md",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".dvcignore": "dvcignore",
}


def run(folder: Path) -> list[str]:
    """Makes ``folder`` a project and a DVC repository.

    Returns:
        what was done, for people.

    Raises:
        UserError: if a file is there already, or DVC cannot start; nothing is written then.
    """
    folder = folder.absolute()
    there = [name for name in TEMPLATES if (folder / name).exists()]
    if there:
        raise UserError(f"{folder} has {', '.join(there)} already, and nothing is overwritten; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another folder") from None
    repository = _start_dvc(folder)
    with as_file(files("dreamset.pipeline.tools") / "project") as templates:
        for name, template in TEMPLATES.items():
            write_bytes(folder / name, (templates / template).read_bytes())
    return [f"{folder}: wrote {', '.join(TEMPLATES)}", repository, "next: choose in params.yaml, then `dvc repro`"]


def _start_dvc(folder: Path) -> str:
    """A DVC repository, which `dvc repro` needs. Git is used where it is, and never started uninvited."""
    dvc, git = _above(folder, ".dvc"), _above(folder, ".git")
    if dvc is not None:
        return f"DVC: the repository in {dvc}, which is there already"
    options = ["--no-scm"] if git is None else [] if git == folder else ["--subdir"]
    done = subprocess.run(  # noqa: S603 - a command of our own
        [sys.executable, "-m", "dvc", "init", "--quiet", *options], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise UserError(f"{folder}: dvc init failed ({' '.join(done.stderr.split())}); run it there yourself")
    if git is None:
        return "DVC: a new repository without git; for `dvc exp` and versions, run `git init` and `dvc init -f`"
    return f"DVC: a new repository in the git repository {git}; `git commit` records it"


def _above(folder: Path, name: str) -> Path | None:
    """The nearest folder, from this one upwards, that holds ``name``."""
    return next((above for above in (folder, *folder.parents) if (above / name).exists()), None)
