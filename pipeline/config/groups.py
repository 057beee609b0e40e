"""The groups of configurations: the folders of ``configs/``, their names and the descriptions in their yaml files.

Nothing here loads Hydra, so that the command line lists and completes names at once.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from dreamset.pipeline.config.project import Project

_COMMENT = re.compile(r"#(?! ?@package) ?(.*)")
_TARGET = re.compile(r"^_target_:\s*([\w.:]+)", re.MULTILINE)


def config_folders() -> list[Path]:
    """The folders in which configurations are searched, in this order.

    In a clone: the ``configs/`` of the working folder. In a user's project: its ``configs/``, then the package's.
    Elsewhere: the package's.
    """
    own, installed = Path("configs").resolve(), Path(str(files("dreamset.configs"))).resolve()
    if (own / "config.yaml").exists():
        return [own]
    return [installed] if Project.here() is None else [own, installed]


def groups() -> dict[str, dict[str, Path]]:
    """Every group with its names and their files; ``world_model/ensemble`` is a group of its own."""
    found: dict[str, dict[str, Path]] = {}
    for folder in reversed(config_folders()):  # files of a project replace those of the package
        for path in sorted(folder.rglob("*.yaml")):
            group = path.parent.relative_to(folder).as_posix()
            if group != ".":
                found.setdefault(group, {})[path.stem] = path
    return {group: dict(sorted(found[group].items())) for group in sorted(found)}


def description(path: Path) -> str:
    """The first sentence of the comment at the top of a yaml file, or of the docstring of its ``_target_``."""
    text = path.read_text()
    return first_sentence(_comment(text)) or first_sentence(_docstring(text))


def first_sentence(text: str) -> str:
    """The text up to its first full stop, on one line; abbreviations such as ``e.g.`` do not end it."""
    joined = " ".join(text.split())
    end = re.search(r"(?<!e\.g)(?<!i\.e)(?<!et al)(?<!vs)[.](?=\s|$)", joined)
    return joined[: end.end()] if end else joined


def _comment(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        match = _COMMENT.fullmatch(line)
        if match:
            lines.append(match[1])
        elif not line.startswith("#"):
            break
    return "\n".join(lines)


def _docstring(text: str) -> str:
    """The docstring of the class or function that ``_target_`` names, read without importing its module."""
    target = _TARGET.search(text)
    if target is None:
        return ""
    module, _, name = target[1].replace(":", ".").rpartition(".")
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text()) if spec is not None and spec.origin else ast.parse("")
    except (ImportError, ValueError, OSError, SyntaxError):
        return ""
    return next((text for found, text in documented(tree).items() if found == name), "")


def documented(tree: ast.Module) -> Mapping[str, str]:
    """The docstrings of the classes and functions of a module, by name."""
    nodes = (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return {node.name: ast.get_docstring(node) or "" for node in nodes}
