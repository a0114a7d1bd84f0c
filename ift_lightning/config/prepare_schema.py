"""The dataclasses behind ``conf/prepare.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from ift_lightning.config.sandbox_schema import SandboxConfig
from ift_lightning.config.teaching_schema import CotConfig, CotPromptsConfig, TeacherConfig


@dataclass
class PrepareConfig:
    """The whole of ``python -m ift_lightning.prepare``."""

    task: str = MISSING
    input: str = MISSING  # file or folder
    output: str = MISSING  # file
    form: str = "auto"  # of the rows read, as data.form
    fields: dict[str, str] = field(default_factory=dict)  # our field -> the file's column
    progress_bar: bool = True
    teacher: TeacherConfig = MISSING
    cot_prompts: CotPromptsConfig = MISSING
    cot: CotConfig = field(default_factory=CotConfig)
    sandbox: SandboxConfig = MISSING
