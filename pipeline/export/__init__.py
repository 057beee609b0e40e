"""Export: a learned policy as a program that runs without this package."""
