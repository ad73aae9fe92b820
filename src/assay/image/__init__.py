"""Pixels: decoding, views, alterations. One code for learning and judging."""
