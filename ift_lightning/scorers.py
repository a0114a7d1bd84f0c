"""Config -> what judges answers: the sandbox, and the metrics of texts."""

from __future__ import annotations

from ift_lightning.config.metrics_schema import MetricsConfig
from ift_lightning.config.sandbox_schema import SandboxConfig, SandboxLevel
from ift_lightning.evaluation.sandbox import Level, Sandbox, SandboxLimits
from ift_lightning.evaluation.scoring import TextMetric
from ift_lightning.metrics import get_metric


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


def text_metrics(config: MetricsConfig) -> list[TextMetric]:
    """Return the metrics that compare answers with references.

    Raises:
        UserError: There is no metric of a name.
    """
    options = {"bleu": {"tokenize": config.bleu_tokenizer}}
    found = [get_metric(name) for name in config.texts]
    return [
        TextMetric(
            item.name,
            item.function,
            options.get(item.name, {}),
            item.needs_language,
            config.default_language,
        )
        for item in found
    ]
