"""Command-line tools around the stages: data, models."""
