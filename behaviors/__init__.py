"""Behaviours: learners (actor-critic, cloning), reward functions, exploration and the controllers that act."""
