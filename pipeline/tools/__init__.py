"""Command-line tools beside the stages: data, models, show, init."""
