"""The recurrent world model of PlaNet and Dreamer: cells, latents, KL rules, the RSSM and an ensemble of priors."""
