"""Running code that a model wrote: isolated, bounded, and judged from outside.

See ``docs/sandbox.md`` for what each level stops, and what it does not.
"""

from ift_lightning.evaluation.sandbox.sandbox import Sandbox, choose_level
from ift_lightning.evaluation.sandbox.types import (
    Level,
    Outcome,
    Program,
    SandboxLimits,
    Verdict,
)
from ift_lightning.evaluation.sandbox.worker import WorkerError

__all__ = [
    "Level",
    "Outcome",
    "Program",
    "Sandbox",
    "SandboxLimits",
    "Verdict",
    "WorkerError",
    "choose_level",
]
