"""Controlled comparisons of instruction fine-tuning choices for code language models.

Importing the package loads nothing heavy: each entry point answers ``--help`` and a misspelt
option before ``torch`` is imported.
"""

__version__ = "0.1.0"
