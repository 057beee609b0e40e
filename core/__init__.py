"""The records, specifications and protocols that all other folders share, file helpers and ``UserError``.

Imports no other folder of the project, and torch only.
"""
