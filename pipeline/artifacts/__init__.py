"""Saved models: writing, describing, migrating, comparing and loading them."""

from dreamset.pipeline.artifacts.saved_models import load_world_model

__all__ = ["load_world_model"]
