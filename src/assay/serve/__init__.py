"""Serving: the jobs that clients hand in, their uploads and their results. Never imports torch."""
