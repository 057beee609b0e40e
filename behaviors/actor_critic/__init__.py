"""Actor and critic learned in imagination, made of parts: actors, returns, gradients, normalizers, critics."""

from dreamset.behaviors.actor_critic.learner import ImaginationActorCritic

__all__ = ["ImaginationActorCritic"]
