"""The parts of TD-MPC's task-oriented latent dynamics: norms, networks, policies and ensembles of values."""
