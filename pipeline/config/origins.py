"""Finds the file or override that set a key, by repeating Hydra's composition file by file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import OmegaConf

from dreamset.pipeline.config.mistakes import below, dotted_keys, override_key

Origins = dict[str, str]  # dotted key -> the file, or the override as the user wrote it


def replayed(loader: ConfigLoader, overrides: Sequence[str]) -> Origins:
    """The file or override that set each key last. For an interpolation, it is the file that contains it."""
    origins: Origins = {}
    defaults = loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults
    groups = {default.override_key for default in defaults}
    for default in defaults:
        if default.config_path is not None and not default.config_path.startswith("hydra/"):
            content, where = _file(loader, default.config_path)
            package = (default.package or "").removeprefix("_global_").lstrip(".")
            origins |= dict.fromkeys(dotted_keys(content, f"{package}." if package else ""), where)
    for text in overrides:
        key = override_key(text)
        if key not in groups:
            origins = {name: where for name, where in origins.items() if not below(name, key)} | {key: text}
    return origins


def origin_of(key: str, origins: Origins) -> str | None:
    """The origin of ``key``, or of the nearest section that contains it; None if there is none."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key)


def _file(loader: ConfigLoader, name: str) -> tuple[dict[str, Any], str]:
    """The content of a file of ``configs/``, and its path."""
    for source in loader.get_sources():
        if source.scheme() in ("file", "pkg") and source.is_config(name):
            content = cast("dict[str, Any]", OmegaConf.to_container(source.load_config(name).config, resolve=False))
            folder = Path(source.path.replace(".", "/")) if source.scheme() == "pkg" else Path(source.path)
            path = (folder / name).with_suffix(".yaml")
            settings = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
            return settings, _place(path, folder)
    return {}, name


def _place(path: Path, folder: Path) -> str:
    """How people find a file: from the working folder, or within the package."""
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return f"{folder.name}/{path.relative_to(folder)} of the package"
