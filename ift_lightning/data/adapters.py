"""Rows of other people's forms, mapped to :class:`InstructionRecord`.

A form is a set of keys and one function; :data:`FORMS` has them all. Whatever is wrong with a row
is a :class:`BadRowError` that names the field in the words of the source.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ift_lightning.data.json_stream import OnBad, type_name
from ift_lightning.errors import BadRowError, UserError, suggest
from ift_lightning.types import (
    REASONING_LEVELS,
    InstructionRecord,
    Message,
    RawRow,
    RejectedRow,
    RowLocation,
    content_id,
)

Adapter = Callable[[Mapping[str, Any]], InstructionRecord]
"""Maps the values of a row; leaves ``id`` empty where the row has none of its own."""

_ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **_ROLES}

_OWN_FIELDS = frozenset(field.name for field in dataclasses.fields(InstructionRecord))
_THREE_FIELDS = ("instruction", "input", "output")

# The keys that tell a form, and those of its other spellings; the first form that fits wins.
_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "messages": (("messages",), ("conversations",)),
    "alpaca": (("instruction", "output"),),
    "humaneval": (("prompt", "canonical_solution"),),
    "mbpp": (("text", "code", "test_list"), ("prompt", "code", "test_list")),
    "prompt_completion": (("prompt", "completion"), ("prompt", "response")),
    "dolly": (("instruction", "response"),),
}


def adapt(
    raw: RawRow, form: str = "auto", fields: Mapping[str, str | None] | None = None
) -> InstructionRecord:
    """Return the record that a raw row holds.

    Args:
        raw: The row as its file holds it.
        form: A name of :data:`FORMS`, or "auto" to tell it from the keys of each row.
        fields: Field of the record -> column of the source, with dots into nested objects and
            lists ("meta.question", "turns.0"); None leaves an optional field empty.

    Raises:
        BadRowError: The row does not fit, or lacks an answer; it names the field.
        UserError: ``form`` or a key of ``fields`` does not exist, or they exclude each other.
    """
    record = _adapt(raw.values, form, fields or {})
    return record if record.id else dataclasses.replace(record, id=_made_id(record))


def unique_records(
    rows: Iterable[RawRow], form: str, fields: Mapping[str, str | None] | None, on_bad: OnBad
) -> Iterator[tuple[RawRow, InstructionRecord]]:
    """Yield each row with its record; no two records have the same id.

    An id that the source repeats is a bad row. Equal rows without an id of their own are all kept:
    the second one's id ends in "#2", the third one's in "#3".

    Args:
        rows: The raw rows, in the order of their files.
        form: As in :func:`adapt`.
        fields: As in :func:`adapt`.
        on_bad: Takes each row that cannot be used; it raises, or returns to go on without it.
    """
    first_places: dict[str, RowLocation] = {}
    num_equal: dict[str, int] = {}  # of the ids that content made more than once
    for raw in rows:
        try:
            record = _adapt(raw.values, form, fields or {})
            if record.id in first_places:
                raise BadRowError(
                    f"the id '{record.id}' was already used at {first_places[record.id]}; "
                    "give each row an id of its own, or leave one of the two out",
                    field="id",
                )
        except BadRowError as error:
            on_bad(RejectedRow(raw.location, str(error), error.field, dict(raw.values)))
            continue
        if not record.id:
            made = name = _made_id(record)
            while name in first_places:
                num_equal[made] = num_equal.get(made, 1) + 1
                name = f"{made}#{num_equal[made]}"
            record = dataclasses.replace(record, id=name)
        first_places[record.id] = raw.location
        yield raw, record


def detect_form(values: Mapping[str, Any]) -> str:
    """Return the name of the form that the row's keys belong to.

    Raises:
        BadRowError: They belong to no form, or to two, or one field is missing.
    """
    # A table has every column in every row, so what is empty counts only if nothing else fits.
    filled = {key for key, value in values.items() if value not in (None, "", [])}
    form = _form_of(values, filled) or _form_of(values, set(values))
    if form is None:
        raise _unknown_form(values)
    if form == "messages" and "instruction" in filled:
        raise BadRowError(
            "the row has both a chat and an 'instruction'; say which one to use with "
            "data.form=messages or data.form=alpaca",
            field="messages" if "messages" in filled else "conversations",
        )
    return form


def _form_of(values: Mapping[str, Any], keys: set[str]) -> str | None:
    """Return the first form whose keys are all there."""
    if "text" in keys and isinstance(values["text"], list | tuple):
        return "defect_chat"
    if keys.issuperset(_THREE_FIELDS) and isinstance(values["input"], Mapping):
        return "defect_raw"
    for form, choices in _KEYS.items():
        if any(keys.issuperset(required) for required in choices):
            is_own = form == "alpaca" and keys & {"reasoning", "tests", "entry_point", "language"}
            return "record" if is_own else form
    return None


def _unknown_form(values: Mapping[str, Any]) -> BadRowError:
    found = ", ".join(map(str, values)) or "none"
    advice = "data.fields={instruction: COLUMN, output: COLUMN}"
    # "instruction" alone begins two forms; the key that goes with it decides.
    near = ("dolly", "alpaca") if "context" in values else ("alpaca", "dolly")
    for form in (*near, "prompt_completion", "humaneval"):
        missing = [key for key in _KEYS[form][0] if key not in values]
        if len(missing) == 1:
            return BadRowError(
                f"the field '{missing[0]}' is missing (keys found: {found}); add it, or name the "
                f"columns with {advice}",
                field=missing[0],
            )
    known = [
        f"{form} ({' or '.join(', '.join(keys) for keys in choices)})"
        for form, choices in _KEYS.items()
    ]
    return BadRowError(
        f"the row is in no known form (keys found: {found}). Known: {'; '.join(known)}; "
        "defect_chat (text, a list of turns); defect_raw (instruction, input, output, as objects)."
        f" Name the columns of any other form with {advice}"
    )


def _adapt(
    values: Mapping[str, Any], form: str, fields: Mapping[str, str | None]
) -> InstructionRecord:
    """Return the record, without an id where the source has none."""
    if form != "auto" and form not in FORMS:
        raise UserError(f"There is no data.form '{form}'. {suggest(form, ['auto', *FORMS])}")
    if fields.keys() & {*_THREE_FIELDS, "messages"}:
        if form not in ("auto", "record"):
            raise UserError(
                f"data.fields names the project's own fields ({', '.join(fields)}), which the "
                f"form '{form}' does not have; leave data.form=auto"
            )
        form = "record"
    if fields:
        values = _mapped(values, fields)
    return FORMS[detect_form(values) if form == "auto" else form](values)


def _mapped(values: Mapping[str, Any], fields: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the row with the columns of ``fields`` under our names."""
    for name in fields:
        if name not in _OWN_FIELDS:
            raise UserError(f"data.fields has no field '{name}'. {suggest(name, _OWN_FIELDS)}")
    hidden: set[str] = {"task_id"} if "id" in fields else set()
    content = fields.keys() & set(_THREE_FIELDS)
    if "messages" in fields and content:
        raise UserError(
            f"data.fields names both 'messages' and '{min(content)}'; a row is either a chat or "
            "an instruction with its answer, so leave one of them out"
        )
    # What the user asks for stands, even where the source has the other kind as well.
    if "messages" in fields:
        hidden |= set(_THREE_FIELDS)
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


def _bad(field: str, problem: str) -> BadRowError:
    return BadRowError(f"'{field}' {problem}", field=field)


def _check_type(value: Any, kinds: type | tuple[type, ...], field: str, wanted: str) -> None:
    if not isinstance(value, kinds):
        raise _bad(field, f"is {type_name(value)}; it must be {wanted}")


def _check_encodable(text: str, field: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X} at character {error.start + 1}"
        raise _bad(field, f"has half of a surrogate pair ({half}); remove it") from error


def _text(value: Any, field: str, *, required: bool = False) -> str:
    """Return a string field; None counts as empty, and empty is refused where it is required."""
    if value is None and not required:
        return ""
    _check_type(value, str, field, "a string")
    if required and not value.strip():
        raise _bad(field, "is empty; fill it in, or leave the row out")
    if not value.isascii():
        _check_encodable(value, field)
    return str(value)


def _present(values: Mapping[str, Any], name: str, *others: str, path: str = "") -> Any:
    """Return the first of the fields that is there."""
    names = (name, *others)
    for key in names:
        if values.get(key) is not None:
            return values[key]
    field = next((key for key in names if key in values), name)
    raise _bad(path + field, f"is {'null' if field in values else 'missing'}; a row needs it")


def _required(values: Mapping[str, Any], *names: str, path: str = "") -> str:
    """Return the first of the fields that is there, a string that is not empty."""
    value = _present(values, *names, path=path)
    return _text(value, path + next(n for n in names if values.get(n) is value), required=True)


def _extras(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every form may carry besides its text, as arguments of the record."""
    return {
        "id": _own_id(values),
        "reasoning": _reasoning(values.get("reasoning")),
        "language": _text(values.get("language"), "language").strip().lower(),
        "category": _text(values.get("category"), "category"),
        "subtype": _text(values.get("subtype"), "subtype"),
        "entry_point": _text(values.get("entry_point"), "entry_point"),
        "tests": _tests(values.get("tests"), "tests"),
    }


def _own_id(values: Mapping[str, Any]) -> str:
    for name in ("id", "task_id"):
        value = values.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _bad(name, f"is {type_name(value)}; it must be a string or a whole number")
        return _text(str(value), name, required=True)
    return ""


def _made_id(record: InstructionRecord) -> str:
    if record.messages:
        return content_id(*(part for turn in record.messages for part in (turn.role, turn.content)))
    return content_id(record.instruction, record.input, record.output)


def _reasoning(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    _check_type(value, Mapping, "reasoning", "an object of level and text")
    for level in value:
        if level not in REASONING_LEVELS:
            raise _bad(f"reasoning.{level}", f"is no level. {suggest(level, REASONING_LEVELS)}")
    texts = {level: _text(text, f"reasoning.{level}") for level, text in value.items()}
    return {level: text for level, text in texts.items() if text}


def _tests(value: Any, field: str) -> tuple[Any, ...] | str:
    """Return tests as the row has them: one string, or a tuple of assert statements or of calls."""
    if value is None or value in ("", [], ()):
        return ()
    if isinstance(value, str):
        return _text(value, field)
    _check_type(value, (list, tuple), field, "a list or a string")
    for i, test in enumerate(value):
        where = f"{field}[{i}]"
        if not isinstance(test, Mapping):
            _text(test, where, required=True)
            continue
        if "expected" not in test:
            raise _bad(f"{where}.expected", "is missing; a test needs it")
        if test.get("args") is not None:
            _check_type(test["args"], (list, tuple), f"{where}.args", "a list")
        if test.get("kwargs") is not None:
            _check_type(test["kwargs"], Mapping, f"{where}.kwargs", "an object")
        _check_encodable(json.dumps(test, ensure_ascii=False, default=str), where)
    return tuple(value)


def _turn(turn: Any, where: str) -> Message:
    """Return one turn of a chat, in the spelling of OpenAI or of ShareGPT."""
    _check_type(turn, Mapping, where, "an object, one turn of the chat")
    is_sharegpt = turn.get("from") is not None
    role_key, content_key = ("from", "value") if is_sharegpt else ("role", "content")
    roles = _SHAREGPT_ROLES if is_sharegpt else _ROLES
    role = _text(_present(turn, role_key, path=f"{where}."), f"{where}.{role_key}")
    if role not in roles:
        raise _bad(f"{where}.{role_key}", f"is '{role}'. {suggest(role, roles)}")
    content = _present(turn, content_key, path=f"{where}.")
    # A system text may be empty: some tools write one into every chat.
    content = _text(content, f"{where}.{content_key}", required=roles[role] != "system")
    return Message(roles[role], content)


def _chat(values: Mapping[str, Any], field: str) -> tuple[Message, ...]:
    """Return a chat whose speakers take turns: [system,] user, assistant, user, assistant."""
    turns = _present(values, field)
    _check_type(turns, (list, tuple), field, "a list of turns")
    messages = tuple(_turn(turn, f"{field}[{i}]") for i, turn in enumerate(turns))
    if all(message.role != "assistant" for message in messages):
        raise _bad(field, "has no assistant turn, so there is no answer; add one")
    first = 1 if messages[0].role == "system" else 0
    for i, message in enumerate(messages[first:], start=first):
        expected = "user" if (i - first) % 2 == 0 else "assistant"
        if message.role != expected:
            raise _bad(
                f"{field}[{i}]",
                f"is a turn of the {message.role} where one of the {expected} must come; after an "
                "optional system turn, user and assistant take turns",
            )
    if messages[-1].role != "assistant":
        raise _bad(
            f"{field}[{len(messages) - 1}]",
            "is a turn of the user; the last turn must be the assistant's answer",
        )
    return messages


def _from_record(values: Mapping[str, Any]) -> InstructionRecord:
    if not values.get("messages"):
        return _from_alpaca(values)
    for name in _THREE_FIELDS:
        if values.get(name):
            raise _bad(name, "and 'messages' are both there; a record has either")
    return _from_messages(values)


def _from_alpaca(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=_required(values, "instruction"),
        input=_text(values.get("input"), "input"),
        output=_required(values, "output"),
        **_extras(values),
    )


def _from_messages(values: Mapping[str, Any]) -> InstructionRecord:
    is_sharegpt = not values.get("messages") and "conversations" in values
    messages = _chat(values, "conversations" if is_sharegpt else "messages")
    return InstructionRecord(messages=messages, **_extras(values))


def _from_defect_chat(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(messages=_chat(values, "text"), **_extras(values))


def _from_defect_raw(values: Mapping[str, Any]) -> InstructionRecord:
    """Map a judged event to the two turns that :func:`_from_defect_chat` reads."""
    kinds, given, judged = (_present(values, name) for name in _THREE_FIELDS)
    _check_type(given, Mapping, "input", "an object")
    _check_type(judged, Mapping, "output", "an object")
    if not isinstance(kinds, list | tuple) or len(kinds) != 1 or not isinstance(kinds[0], Mapping):
        raise _bad("instruction", "must be a list of one object, which has the 'subtype'")
    task, event, output_format = (
        _required(given, name, path="input.") for name in ("task", "event", "output_format")
    )
    judgement, reason = (
        _required(judged, name, path="output.") for name in ("judgement", "reason")
    )
    # To the letter: the colon behind 判断 is ASCII, the others are full-width.
    question = f"任务：{task}\n\n事件：\n{event}\n\n输出格式：\n{output_format}"  # noqa: RUF001
    answer = f"判断:{judgement}\n\n原因：{reason}"  # noqa: RUF001
    extras = _extras(values)
    subtype = _text(kinds[0].get("subtype"), "instruction[0].subtype")
    extras["subtype"] = extras["subtype"] or subtype
    messages = (Message("user", question), Message("assistant", answer))
    return InstructionRecord(messages=messages, **extras)


def _from_prompt_completion(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=_required(values, "prompt"),
        output=_required(values, "completion", "response"),
        **_extras(values),
    )


def _from_dolly(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=_required(values, "instruction"),
        input=_text(values.get("context"), "context"),
        output=_required(values, "response"),
        **_extras(values),
    )


def _from_humaneval(values: Mapping[str, Any]) -> InstructionRecord:
    extras = _extras(values)
    extras["language"] = extras["language"] or "python"
    extras["entry_point"] = _required(values, "entry_point")
    extras["tests"] = extras["tests"] or _required(values, "test")
    return InstructionRecord(
        instruction=_required(values, "prompt"),
        output=_required(values, "canonical_solution"),
        **extras,
    )


def _from_mbpp(values: Mapping[str, Any]) -> InstructionRecord:
    extras = _extras(values)
    extras["language"] = extras["language"] or "python"
    if not extras["tests"]:
        tests = _present(values, "test_list")
        _check_type(tests, (list, tuple), "test_list", "a list of assert statements")
        imports = values.get("test_imports") or []
        _check_type(imports, (list, tuple), "test_imports", "a list of import statements")
        setup = [_text(values.get("test_setup_code"), "test_setup_code").strip()]
        setup += [_text(line, "test_imports") for line in imports]
        # Each statement stands alone, so each takes along what the source keeps apart.
        extras["tests"] = tuple(
            "\n".join((*filter(None, setup), _text(test, f"test_list[{i}]", required=True)))
            for i, test in enumerate(tests)
        )
    return InstructionRecord(
        instruction=_required(values, "text", "prompt"), output=_required(values, "code"), **extras
    )


FORMS: Mapping[str, Adapter] = {
    "record": _from_record,
    "alpaca": _from_alpaca,
    "messages": _from_messages,
    "defect_chat": _from_defect_chat,
    "defect_raw": _from_defect_raw,
    "prompt_completion": _from_prompt_completion,
    "dolly": _from_dolly,
    "humaneval": _from_humaneval,
    "mbpp": _from_mbpp,
}
"""Form -> its adapter."""
