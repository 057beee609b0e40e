"""Dreamset: an offline, dataset-first world-model pipeline."""

from importlib.metadata import version

from dreamset import moved

__version__ = version("dreamset")

moved.install()
