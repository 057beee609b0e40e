"""Tracking: stages write reports to an outbox, and a separate process sends them to MLflow."""
