"""Checks of a row's fields: each returns what is there, or says which field is wrong, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ift_lightning.data.json_stream import type_name
from ift_lightning.errors import BadRowError, suggest
from ift_lightning.types import REASONING_LEVELS, Message

_ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **_ROLES}


def bad_field(field: str, problem: str) -> BadRowError:
    """Return the error that says what is wrong with a field."""
    return BadRowError(f"'{field}' {problem}", field=field)


def check_type(value: Any, kinds: type | tuple[type, ...], field: str, wanted: str) -> None:
    """Raise :class:`BadRowError` unless a field is of one of the kinds; ``wanted`` names them."""
    if not isinstance(value, kinds):
        raise bad_field(field, f"is {type_name(value)}; it must be {wanted}")


def _check_encodable(text: str, field: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X} at character {error.start + 1}"
        raise bad_field(field, f"has half of a surrogate pair ({half}); remove it") from error


def read_text(value: Any, field: str, *, required: bool = False) -> str:
    """Return a string field; None counts as empty, and empty is refused where it is required."""
    if value is None and not required:
        return ""
    check_type(value, str, field, "a string")
    if required and not value.strip():
        raise bad_field(field, "is empty; fill it in, or leave the row out")
    if not value.isascii():
        _check_encodable(value, field)
    return str(value)


def first_present(values: Mapping[str, Any], name: str, *others: str, path: str = "") -> Any:
    """Return the first of the fields that is there."""
    names = (name, *others)
    for key in names:
        if values.get(key) is not None:
            return values[key]
    field = next((key for key in names if key in values), name)
    raise bad_field(path + field, f"is {'null' if field in values else 'missing'}; a row needs it")


def required_text(values: Mapping[str, Any], *names: str, path: str = "") -> str:
    """Return the first of the fields that is there, a string that is not empty."""
    value = first_present(values, *names, path=path)
    return read_text(value, path + next(n for n in names if values.get(n) is value), required=True)


def read_extras(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every form may carry besides its text, as arguments of the record."""
    return {
        "id": _own_id(values),
        "reasoning": _reasoning(values.get("reasoning")) or _think_steps(values),
        "language": read_text(values.get("language"), "language").strip().lower(),
        "category": read_text(values.get("category"), "category"),
        "subtype": read_text(values.get("subtype"), "subtype"),
        "entry_point": read_text(values.get("entry_point"), "entry_point"),
        "tests": _tests(values.get("tests"), "tests"),
    }


def _own_id(values: Mapping[str, Any]) -> str:
    for name in ("id", "task_id"):
        value = values.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise bad_field(name, f"is {type_name(value)}; it must be a string or a whole number")
        return read_text(str(value), name, required=True)
    return ""


def _reasoning(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    check_type(value, Mapping, "reasoning", "an object of level and text")
    for level in value:
        if level not in REASONING_LEVELS:
            raise bad_field(
                f"reasoning.{level}", f"is no level. {suggest(level, REASONING_LEVELS)}"
            )
    texts = {level: read_text(text, f"reasoning.{level}") for level, text in value.items()}
    return {level: text for level, text in texts.items() if text}


def _think_steps(values: Mapping[str, Any]) -> dict[str, str]:
    """Return reasoning that stands in a field for each level, such as ``normal_think_step``."""
    names = {level: f"{level}_think_step" for level in REASONING_LEVELS}
    texts = {level: read_text(values.get(name), name) for level, name in names.items()}
    return {level: text for level, text in texts.items() if text}


def _tests(value: Any, field: str) -> tuple[Any, ...] | str:
    """Return tests as the row has them: one string, or a tuple of assert statements or of calls."""
    if value is None or value in ("", [], ()):
        return ()
    if isinstance(value, str):
        return read_text(value, field)
    check_type(value, (list, tuple), field, "a list or a string")
    for i, test in enumerate(value):
        where = f"{field}[{i}]"
        if not isinstance(test, Mapping):
            read_text(test, where, required=True)
            continue
        if "expected" not in test:
            raise bad_field(f"{where}.expected", "is missing; a test needs it")
        if test.get("args") is not None:
            check_type(test["args"], (list, tuple), f"{where}.args", "a list")
        if test.get("kwargs") is not None:
            check_type(test["kwargs"], Mapping, f"{where}.kwargs", "an object")
        _check_encodable(json.dumps(test, ensure_ascii=False, default=str), where)
    return tuple(value)


def _turn(turn: Any, where: str) -> Message:
    """Return one turn of a chat, in the spelling of OpenAI or of ShareGPT."""
    check_type(turn, Mapping, where, "an object, one turn of the chat")
    is_sharegpt = turn.get("from") is not None
    role_key, content_key = ("from", "value") if is_sharegpt else ("role", "content")
    roles = _SHAREGPT_ROLES if is_sharegpt else _ROLES
    role = read_text(first_present(turn, role_key, path=f"{where}."), f"{where}.{role_key}")
    if role not in roles:
        raise bad_field(f"{where}.{role_key}", f"is '{role}'. {suggest(role, roles)}")
    content = first_present(turn, content_key, path=f"{where}.")
    # A system text may be empty: some tools write one into every chat.
    content = read_text(content, f"{where}.{content_key}", required=roles[role] != "system")
    return Message(roles[role], content)


def read_chat(values: Mapping[str, Any], field: str) -> tuple[Message, ...]:
    """Return a chat whose speakers take turns: [system,] user, assistant, user, assistant."""
    turns = first_present(values, field)
    check_type(turns, (list, tuple), field, "a list of turns")
    messages = tuple(_turn(turn, f"{field}[{i}]") for i, turn in enumerate(turns))
    if all(message.role != "assistant" for message in messages):
        raise bad_field(field, "has no assistant turn, so there is no answer; add one")
    first = 1 if messages[0].role == "system" else 0
    for i, message in enumerate(messages[first:], start=first):
        expected = "user" if (i - first) % 2 == 0 else "assistant"
        if message.role != expected:
            raise bad_field(
                f"{field}[{i}]",
                f"is a turn of the {message.role} where one of the {expected} must come; after an "
                "optional system turn, user and assistant take turns",
            )
    if messages[-1].role != "assistant":
        raise bad_field(
            f"{field}[{len(messages) - 1}]",
            "is a turn of the user; the last turn must be the assistant's answer",
        )
    return messages
