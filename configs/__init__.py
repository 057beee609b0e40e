"""Hydra's configuration groups, one per part; see ``config.yaml``."""
