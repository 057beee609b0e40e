"""Which file or override set a key: Hydra's composition, replayed one file after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import OmegaConf

from dreamset.pipeline.config.mistakes import below, dotted_keys, override_key

Origins = dict[str, str]  # dotted key -> the file, or the override as it was given


def replayed(loader: ConfigLoader, overrides: Sequence[str]) -> Origins:
    """Who set each key last; for one that an interpolation fills, who wrote the interpolation."""
    found: Origins = {}
    defaults = loader.compute_defaults_list("config", list(overrides), RunMode.RUN).defaults
    groups = {default.override_key for default in defaults}
    for default in defaults:
        if default.config_path is not None and not default.config_path.startswith("hydra/"):
            content, where = _file(loader, default.config_path)
            package = (default.package or "").removeprefix("_global_").lstrip(".")
            found |= dict.fromkeys(dotted_keys(content, f"{package}." if package else ""), where)
    for text in overrides:
        key = override_key(text)
        if key not in groups:
            found = {name: where for name, where in found.items() if not below(name, key)} | {key: text}
    return found


def origin_of(key: str, found: Origins) -> str | None:
    """Who set ``key``, or else the section that it stands in."""
    while key and key not in found:
        key = key.rpartition(".")[0]
    return found.get(key)


def _file(loader: ConfigLoader, name: str) -> tuple[dict[str, Any], str]:
    """A file of ``configs/`` as it stands there, and its path."""
    for source in loader.get_sources():
        if source.scheme() in ("file", "pkg") and source.is_config(name):
            content = cast("dict[str, Any]", OmegaConf.to_container(source.load_config(name).config, resolve=False))
            folder = Path(source.path.replace(".", "/")) if source.scheme() == "pkg" else Path(source.path)
            path = (folder / name).with_suffix(".yaml")
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return {key: value for key, value in content.items() if key not in ("defaults", "hydra")}, str(shown)
    return {}, name
