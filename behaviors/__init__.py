"""Behaviours: learners that ask the world model to imagine and return a policy."""
