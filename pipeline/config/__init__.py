"""Configuration: composed by Hydra, checked, and turned into parts."""
