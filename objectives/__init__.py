"""Representation objectives: the losses that shape the world model's state, one file for each.

A new class needs no registration: a yaml file in ``configs/objective`` names it.
"""
