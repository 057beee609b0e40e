"""The commands of ``dreamset``: one module each, with ``add``, which adds the command to the parser."""
