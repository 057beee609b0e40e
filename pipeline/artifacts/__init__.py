"""Saved models: writing, describing, migrating, comparing and loading them."""

from typing import Any


def __getattr__(name: str) -> Any:
    """``load_world_model``, loaded on first use: tools that only read descriptions need no PyTorch."""
    if name != "load_world_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dreamset.pipeline.artifacts.saved_models import load_world_model

    return load_world_model
