"""Tracking: stages report to an outbox, a process of its own delivers it to MLflow."""
