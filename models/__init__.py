"""World models and their networks: encoders, decoders, heads, layers and, in ``recurrent/``, the RSSM.

``imagination`` rolls any world model out without observations; ``probes`` measure what its states encode.
"""
