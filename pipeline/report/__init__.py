"""Reports for people: figures, videos, cards, tables."""
