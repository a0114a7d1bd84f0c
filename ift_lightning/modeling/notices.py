"""Notices of other libraries that mean nothing to a user of this one, kept from being shown.

Each entry says why it is harmless here. Everything else that these libraries say is let through.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

_HARMLESS_LOG_LINES = {
    # Rows are padded on the right and attention is causal: real tokens never see padding.
    "transformers.modeling_utils": "We strongly recommend passing in an `attention_mask`",
    # A faster inference kernel for 4-bit weights on a CPU; training has no use for it.
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    # How LLM.int8() works, said once per layer and step.
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
}

_HARMLESS_WARNINGS = (
    # PEFT asks transformers under the old name.
    ".*is_gradient_checkpointing. is deprecated",
    # PEFT sees for itself how GPT-2 lays out its weights, and says so.
    ".*fan_in_fan_out is set to",
    # So it should: the embeddings of added tokens belong to the adapter.
    ".*Setting `save_embedding_layers` to `True` as the embedding layer has been resized",
)

_QUICK_BYTES = 1 << 30
"""Weights below this are read or written in under about two seconds."""


class _Without(logging.Filter):
    """Drops the log lines that begin with a text."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self.beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self.beginning)


_FILTERS = {name: _Without(beginning) for name, beginning in _HARMLESS_LOG_LINES.items()}


def drop_harmless_log_lines() -> None:
    """Filter the log lines listed above; calling it again changes nothing."""
    for name, log_filter in _FILTERS.items():
        logging.getLogger(name).addFilter(log_filter)


@contextmanager
def without_harmless_warnings() -> Iterator[None]:
    """Leave out the warnings listed above while the block runs."""
    with warnings.catch_warnings():
        for text in _HARMLESS_WARNINGS:
            warnings.filterwarnings("ignore", text)
        yield


@contextmanager
def progress_bar_for(num_bytes: int | None) -> Iterator[None]:
    """Let transformers show its bars in the block only where it may take long.

    Args:
        num_bytes: Of the weights that are read or written; None where it is not known.
    """
    was_enabled = transformers_logging.is_progress_bar_enabled()
    if num_bytes is None or num_bytes >= _QUICK_BYTES or not was_enabled:
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
