"""Intervals, tests and power; every function takes arrays and can be used from a notebook."""
