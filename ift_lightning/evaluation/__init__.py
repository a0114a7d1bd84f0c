"""Generates with a model, takes the answer out of what it wrote, runs it, and scores it."""
