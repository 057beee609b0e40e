"""Saved models: written, described, migrated, compared and loaded."""

from dreamset.pipeline.artifacts.saved_models import load_world_model

__all__ = ["load_world_model"]
