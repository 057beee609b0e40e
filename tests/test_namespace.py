"""The public names of `import dreamset`, and their documentation."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dreamset


@pytest.mark.parametrize("name", sorted(dreamset.PUBLIC))
def test_public_names_are_the_objects_of_their_modules(name: str) -> None:
    module = import_module(dreamset.PUBLIC[name])
    assert getattr(dreamset, name) is vars(module)[name]
    assert getattr(dreamset, name).__module__ == module.__name__
    assert name in dir(dreamset)


def test_type_checkers_get_the_same_names_from_the_same_modules(root: Path) -> None:
    tree = ast.parse((root / "src/dreamset/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    visible = {alias.name: node.module for node in imports for alias in node.names if alias.asname == alias.name}
    assert visible == dreamset.PUBLIC


def test_import_loads_no_large_library() -> None:
    code = "import sys, dreamset; print({'torch', 'numpy', 'h5py', 'hydra'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_unknown_name_error_lists_public_names() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Stroe'; public names: .*Store"):
        dreamset.Stroe  # noqa: B018


def test_every_public_name_is_documented_with_an_example_or_a_record(root: Path) -> None:
    page = (root / "docs/python.md").read_text()
    for name in re.findall(r"dreamset\.(\w+)", page):
        assert name in dreamset.PUBLIC, name
    records = {"DataSpec", "ImaginedTrajectory", "Rollout", "SequenceBatch", "UserError"}  # results of calls
    assert {name for name in dreamset.PUBLIC if f"dreamset.{name}" not in page} == records
