"""Frozen records, specifications and protocols that the parts exchange. Imports torch only."""
