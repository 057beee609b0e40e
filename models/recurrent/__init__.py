"""The recurrent state-space model: cells, latents, divergences, RSSM, world model, ensemble of priors."""
