"""Structured configs, cross-field checks, and the wrapper that turns them into entry points."""
