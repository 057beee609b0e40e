"""The actor-critic that learns in imagination, and its parts: actors, returns, policy gradients, critics."""

from dreamset.behaviors.actor_critic.learner import ImaginationActorCritic

__all__ = ["ImaginationActorCritic"]
