"""Gymnasium environments with named observations; scripted policies, recording and rollouts."""
