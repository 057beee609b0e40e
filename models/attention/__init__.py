"""The parts of a world model of patches: a transformer that predicts the features of the next frame (DINO-WM)."""
