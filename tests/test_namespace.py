"""What `import dreamset` offers, and the page of examples, which is run."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dreamset


@pytest.mark.parametrize("name", sorted(dreamset.PUBLIC))
def test_every_public_name_is_what_its_module_defines(name: str) -> None:
    module = import_module(dreamset.PUBLIC[name])
    assert getattr(dreamset, name) is vars(module)[name]
    assert getattr(dreamset, name).__module__ == module.__name__
    assert name in dir(dreamset)


def test_type_checkers_see_the_same_names_in_the_same_modules(root: Path) -> None:
    tree = ast.parse((root / "src/dreamset/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names if alias.asname == alias.name}
    assert seen == dreamset.PUBLIC


def test_the_import_alone_loads_nothing_large() -> None:
    code = "import sys, dreamset; print({'torch', 'numpy', 'h5py', 'hydra'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_an_unknown_name_is_an_attribute_error_that_lists_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Stroe'; it offers .*Store"):
        dreamset.Stroe  # noqa: B018


def test_every_public_name_is_on_the_page_or_of_a_type_that_is(root: Path) -> None:
    page = (root / "docs/python.md").read_text()
    for name in re.findall(r"dreamset\.(\w+)", page):
        assert name in dreamset.PUBLIC, name
    records = {"DataSpec", "ImaginedTrajectory", "Rollout", "SequenceBatch", "UserError"}  # what one gets, not calls
    assert {name for name in dreamset.PUBLIC if f"dreamset.{name}" not in page} == records
