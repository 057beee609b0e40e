"""Evaluation: held-out figures, open-loop prediction, episodes in the environment, statistics."""
