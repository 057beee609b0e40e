"""Evaluation: held-out figures, open-loop predictions, episodes in the environment, statistics."""
