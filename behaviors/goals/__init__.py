"""Goals: acting so that a given observation is reached, instead of for a reward of the dataset."""
