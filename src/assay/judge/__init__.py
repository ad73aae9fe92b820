"""Judging: bundles, detectors, scans. Never imports torch."""
