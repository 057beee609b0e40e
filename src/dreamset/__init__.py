"""Dreamset: an offline, dataset-first world-model pipeline."""

from importlib.metadata import version

__version__ = version("dreamset")
