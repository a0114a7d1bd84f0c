"""Figures: each function draws from numbers alone and returns a matplotlib figure."""
