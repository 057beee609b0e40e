"""The world model and its parts: encoders, decoders, cells, latents, heads and the RSSM that joins them."""
