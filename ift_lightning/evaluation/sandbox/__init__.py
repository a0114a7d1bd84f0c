"""Runs code that a model wrote, contained, and judges what it returns.

The parent keeps the expected values. A program gets inputs and returns values, which the parent
compares. ``docs/sandbox.md`` says what is contained, and what is not.
"""

from __future__ import annotations

from ift_lightning.evaluation.sandbox.levels import Level
from ift_lightning.evaluation.sandbox.outcomes import Outcome, Program, SandboxLimits, Verdict
from ift_lightning.evaluation.sandbox.runner import Sandbox

__all__ = ["Level", "Outcome", "Program", "Sandbox", "SandboxLimits", "Verdict"]
