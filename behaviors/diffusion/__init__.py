"""Latent diffusion planning: a planner of latents and an inverse dynamics model, both trained to remove noise."""

from dreamset.behaviors.diffusion.learner import LatentDiffusionPlanning

__all__ = ["LatentDiffusionPlanning"]
