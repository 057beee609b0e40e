"""Export: a trained policy as a program that runs without this package."""
