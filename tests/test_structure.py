"""Rules for imports, and the completeness of the wheel, checked by syntax trees and pyproject.toml."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamset.pipeline.config.imports import parse_module

ROOT = Path(__file__).parents[1]
OURS = "dreamset"
PACKAGES = ("behaviors", "configs", "core", "datasets", "environments", "models", "objectives", "pipeline", "vision")

MAY_IMPORT = {
    "configs": set(),
    "core": {"core"},
    "datasets": {"core", "datasets", "vision"},
    "models": {"core", "models"},
    "environments": {"core", "environments", "vision"},
    "objectives": {"core", "models", "objectives"},
    "behaviors": {"core", "models", "behaviors"},
    "pipeline": set(PACKAGES),
    "vision": {"core", "vision"},
}
ONLY_IN = {  # library -> folders below which it may be imported
    "h5py": ("datasets",),
    "gymnasium": ("environments", "datasets/sources", "datasets/exports"),
    "hydra": ("pipeline",),
    "mlflow": ("pipeline",),
    "omegaconf": ("pipeline",),
    "pydantic": ("pipeline",),
}
MAY_PRINT = {"pipeline/cli.py", "pipeline/tools/data.py"}

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def modules() -> list[Path]:
    """Every Python file of the library, relative to the root."""
    return sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Dotted names of all imports in a module. ``from a import b`` gives ``a.b``; relative imports start with dots."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_package(name: str) -> str:
    """``core`` for ``dreamset.core.spec``; empty for ``dreamset`` itself, which no package may import."""
    return name.partition(".")[2].partition(".")[0]


def prints(source: str) -> list[int]:
    """Lines with a call of ``print``."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def imported(path: Path) -> list[str]:
    return list(imports((ROOT / path).read_text()))


def test_imports_and_prints_are_detected_everywhere_in_a_module() -> None:
    inner = "    from d.e import g\n    from . import h\n    from dreamset import core\n    print(1)\n"
    source = f"import a.b, c\ndef f():\n{inner}"
    assert list(imports(source)) == ["a.b", "c", "d.e.g", "..h", "dreamset.core"]
    assert prints(source) == [6]
    assert Path("datasets/sources/minari/source.py") in modules()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_allowed_packages(package: str) -> None:
    offences = [
        f"{path}: {name}"
        for path in modules()
        if path.parts[0] == package
        for name in imported(path)
        if name.startswith(".") or (name.split(".")[0] == OURS and own_package(name) not in MAY_IMPORT[package])
        if (package, name) != ("pipeline", f"{OURS}.moved.current_name")
    ]
    assert offences == []


def test_root_package_imports_no_other_package() -> None:
    modules_of_root = sorted((ROOT / "src" / OURS).glob("*.py"))
    names = {name for path in modules_of_root for name in parse_module(path.read_bytes(), OURS).references}
    assert {name for name in names if name.startswith(OURS)} <= {f"{OURS}.moved", f"{OURS}.moved.install"}


def test_core_needs_torch_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "torch", OURS}
    offences = [
        f"{path}: {name}"
        for path in modules()
        if path.parts[0] == "core"
        for name in imported(path)
        if name.split(".")[0] not in allowed
    ]
    assert offences == []


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_libraries_are_imported_only_in_their_folders(library: str) -> None:
    users = {path for path in modules() for name in imported(path) if name.split(".")[0] == library}
    assert users, f"nothing imports {library}: remove it from the table"
    outside = [str(path) for path in users if not any(path.is_relative_to(folder) for folder in ONLY_IN[library])]
    assert outside == []


def test_only_the_command_line_prints() -> None:
    lines = {str(path): prints((ROOT / path).read_text()) for path in modules()}
    printing = {path for path, numbers in lines.items() if numbers}
    assert {path for path in printing if not path.startswith("pipeline/commands/")} <= MAY_PRINT


def packages_on_disk() -> set[str]:
    """Dotted names of all folders with an ``__init__.py`` that contain source of the library."""
    ignored = {"src", "tests", "typings", "build", "benchmarks"}
    folders = (path.parent.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/__init__.py"))
    ours = {".".join((OURS, *folder.parts)) for folder in folders if folder.parts[0] not in ignored}
    return {OURS, *ours}


def test_every_package_on_disk_is_listed_for_packing() -> None:
    assert f"{OURS}.datasets.sources" in packages_on_disk()
    assert set(CONFIGURATION["packages"]) == packages_on_disk()


def test_every_package_has_its_folder_in_the_table() -> None:
    top = {name: name.removeprefix(f"{OURS}.") for name in packages_on_disk() if name.count(".") == 1}
    assert CONFIGURATION["package-dir"] == {OURS: f"src/{OURS}", **top}


def test_typings_link_to_every_package() -> None:
    folder = ROOT / "typings" / OURS
    links = {path.name: path.resolve() for path in folder.iterdir()}
    source = {path.name: path.resolve() for path in (ROOT / "src" / OURS).iterdir() if path.name != "__pycache__"}
    assert links == {package: ROOT / package for package in PACKAGES} | source
    assert all(path.is_symlink() for path in folder.iterdir())


def test_tables_of_this_test_list_all_packages_on_disk() -> None:
    assert {name.split(".")[1] for name in packages_on_disk() - {OURS}} == set(PACKAGES) == set(MAY_IMPORT)


@pytest.mark.slow
def test_wheel_contains_every_module_and_configuration(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in (*PACKAGES, "src"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tree / name)
    build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    below = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".yaml", ".css", ".js")
    }
    below |= {path for path in (ROOT / "pipeline/tools/project").rglob("*") if path.is_file()}
    expected = {f"{OURS}/{path.relative_to(ROOT).as_posix()}" for path in below}
    assert packed == expected | {f"{OURS}/{path.name}" for path in (ROOT / "src" / OURS).iterdir() if path.is_file()}
