"""Configuration: composing it with Hydra, checking it, and building parts from it."""
