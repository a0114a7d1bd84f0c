"""Removes comments from code in the rows of a data set, and proves that nothing else changed."""

from __future__ import annotations

from ift_lightning.data.comments.languages import LANGUAGES, canonical_language
from ift_lightning.data.comments.outcome import (
    STRIP_VERSION,
    StripOptions,
    StripOutcome,
    StrippedCode,
    StrippedPiece,
    StripStatus,
)
from ift_lightning.data.comments.parallel import strip_records
from ift_lightning.data.comments.records import strip_record
from ift_lightning.data.comments.stripping import strip_code

__all__ = [
    "LANGUAGES",
    "STRIP_VERSION",
    "StripOptions",
    "StripOutcome",
    "StripStatus",
    "StrippedCode",
    "StrippedPiece",
    "canonical_language",
    "strip_code",
    "strip_record",
    "strip_records",
]
