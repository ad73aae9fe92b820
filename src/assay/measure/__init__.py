"""Honest measurement of a detector on labelled pictures."""
