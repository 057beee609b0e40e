"""Representation objectives: what makes the latent state meaningful. One file each, found by being there."""
