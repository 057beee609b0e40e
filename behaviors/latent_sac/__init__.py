"""Soft actor-critic on the features of recorded rows, and its parts: critics, actions, targets, temperature."""

from dreamset.behaviors.latent_sac.learner import LatentSAC

__all__ = ["LatentSAC"]
