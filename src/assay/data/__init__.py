"""Data sets: the manifest and what reads it."""
