"""``dreamset init``: turns a folder into a project that uses the installed package."""

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
    """Turns ``folder`` into a project and a DVC repository.

    Returns:
        messages about what was done.

    Raises:
        UserError: if one of the files exists, or DVC cannot be initialised; then nothing is written.
    """
    folder = folder.absolute()
    existing = [name for name in TEMPLATES if (folder / name).exists()]
    if existing:
        raise UserError(f"{folder} already contains {', '.join(existing)}, and nothing is overwritten; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be created ({error.strerror}); choose another folder") from None
    repository = _start_dvc(folder)
    with as_file(files("dreamset.pipeline.tools") / "project") as templates:
        for name, template in TEMPLATES.items():
            write_bytes(folder / name, (templates / template).read_bytes())
    return [f"{folder}: wrote {', '.join(TEMPLATES)}", repository, *_next(folder)]


def _next(folder: Path) -> list[str]:
    """What to do next; the first run takes seconds with the preset tiny."""
    here = folder == Path.cwd()
    return [
        "next:",
        *([] if here else [f"  cd {folder}"]),
        "  edit params.yaml: preset: tiny and dataset: pendulum_state try everything in two minutes",
        "  dvc repro         # runs the pipeline",
        "  dreamset results  # compares the objectives",
    ]


def _start_dvc(folder: Path) -> str:
    """Initialises the DVC repository that `dvc repro` needs. An existing git repository is used; none is created."""
    dvc, git = _above(folder, ".dvc"), _above(folder, ".git")
    if dvc is not None:
        return f"DVC: uses the existing repository in {dvc}"
    options = ["--no-scm"] if git is None else [] if git == folder else ["--subdir"]
    done = subprocess.run(  # noqa: S603 - a command of our own
        [sys.executable, "-m", "dvc", "init", "--quiet", *options], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise UserError(f"{folder}: `dvc init` failed ({' '.join(done.stderr.split())}); run it there by hand")
    if git is None:
        return "DVC: a new repository without git; for versions and `dvc exp`, run `git init` and `dvc init -f`"
    return f"DVC: a new repository in the git repository {git}; commit it with `git commit`"


def _above(folder: Path, name: str) -> Path | None:
    """The nearest folder, from this one upwards, that contains ``name``; None if there is none."""
    return next((above for above in (folder, *folder.parents) if (above / name).exists()), None)
