"""Drills: procedurally generated code tasks whose answers can be run and checked."""

from __future__ import annotations

from ift_lightning.data.drills.composition import DRILLS_VERSION
from ift_lightning.data.drills.defects import defect_to_chat, generate_defects
from ift_lightning.data.drills.docstrings import generate_docstring_tasks
from ift_lightning.data.drills.pretraining import generate_pretraining_texts
from ift_lightning.data.drills.tasks import RUNNABLE_KINDS, TASK_KINDS, generate_drills

__all__ = [
    "DRILLS_VERSION",
    "RUNNABLE_KINDS",
    "TASK_KINDS",
    "defect_to_chat",
    "generate_defects",
    "generate_docstring_tasks",
    "generate_drills",
    "generate_pretraining_texts",
]
