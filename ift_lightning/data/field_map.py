"""Puts the columns of a source under the names of the project's own fields (``data.fields``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ift_lightning.errors import BadRowError, UserError, suggest
from ift_lightning.types import InstructionRecord

THREE_FIELDS = ("instruction", "input", "output")
"""The content of a record that is no chat."""

_OWN_FIELDS = frozenset(field.name for field in dataclasses.fields(InstructionRecord))


def map_fields(values: Mapping[str, Any], fields: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the row with the columns of ``fields`` under our names."""
    for name in fields:
        if name not in _OWN_FIELDS:
            raise UserError(f"data.fields has no field '{name}'. {suggest(name, _OWN_FIELDS)}")
    hidden: set[str] = {"task_id"} if "id" in fields else set()
    content = fields.keys() & set(THREE_FIELDS)
    if "messages" in fields and content:
        raise UserError(
            f"data.fields names both 'messages' and '{min(content)}'; a row is either a chat or "
            "an instruction with its answer, so leave one of them out"
        )
    # What the user asks for stands, even where the source has the other kind as well.
    if "messages" in fields:
        hidden |= set(THREE_FIELDS)
    elif content:
        hidden.add("messages")
    mapped = {key: value for key, value in values.items() if key not in hidden}
    for name, column in fields.items():
        mapped[name] = _column(values, column, name) if column else None
    return mapped


def _column(values: Mapping[str, Any], column: str, name: str) -> Any:
    if column in values:
        return values[column]
    value: Any = values
    for part in column.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise BadRowError(
                f"the column '{column}', which data.fields gives for '{name}', is missing "
                f"(keys found: {', '.join(map(str, values))})",
                field=column,
            )
    return value
