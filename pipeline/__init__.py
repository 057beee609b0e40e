"""The stages: the only place with Hydra, MLflow, paths and progress bars."""
