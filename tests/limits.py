"""Limits that only keep a test from hanging: no test's outcome depends on the clock."""

HANGS = 1800.0  # seconds; the slowest command takes a minute of a quiet machine
