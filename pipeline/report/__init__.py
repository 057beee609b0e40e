"""What a person looks at: figures, videos, cards, tables."""
