"""Config -> what judges answers: the sandbox, and the metrics of texts."""

from __future__ import annotations

from ift_lightning.config.sandbox_schema import SandboxConfig, SandboxLevel
from ift_lightning.evaluation.plain_scores import exact_match
from ift_lightning.evaluation.sandbox import Level, Sandbox, SandboxLimits
from ift_lightning.evaluation.scoring import TextMetric


def build_sandbox(config: SandboxConfig) -> Sandbox:
    """Return the sandbox that a config describes; entering it finds the level that holds."""
    limits = SandboxLimits(
        seconds_per_program=config.seconds_per_program,
        memory_bytes=config.memory_mib << 20,
        max_output_bytes=config.max_output_mib << 20,
        max_processes=config.max_processes,
        disk_bytes=config.disk_mib << 20,
        absolute_tolerance=config.absolute_tolerance,
        relative_tolerance=config.relative_tolerance,
    )
    level = None if config.level is SandboxLevel.auto else Level(config.level.value)
    return Sandbox(limits, level, config.num_workers, config.allow_weak)


def text_metrics() -> list[TextMetric]:
    """Return the metrics that compare answers with references."""
    return [TextMetric("exact_match", exact_match)]
