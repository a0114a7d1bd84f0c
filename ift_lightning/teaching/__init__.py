"""Reasoning written by a teacher: requests, a journal of paid answers, checks, and the rows."""
