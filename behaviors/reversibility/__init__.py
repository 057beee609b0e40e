"""Reversibility learned from the order of recorded rows (Grinsztajn et al. 2021, "There Is No Turning Back")."""
