"""The stages and tools: the only package that uses Hydra, MLflow, paths and progress bars."""
