"""Rows of other people's forms, mapped to :class:`InstructionRecord`.

A form is a set of keys and one function; :data:`FORMS` has them all. Whatever is wrong with a row
is a :class:`BadRowError` that names the field in the words of the source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ift_lightning.data.field_map import THREE_FIELDS, map_fields
from ift_lightning.data.json_stream import OnBad
from ift_lightning.data.row_checks import (
    bad_field,
    check_type,
    first_present,
    read_chat,
    read_extras,
    read_text,
    required_text,
)
from ift_lightning.errors import BadRowError, UserError, suggest
from ift_lightning.types import (
    InstructionRecord,
    Message,
    RawRow,
    RejectedRow,
    RowLocation,
    content_id,
)

Adapter = Callable[[Mapping[str, Any]], InstructionRecord]
"""Maps the values of a row; leaves ``id`` empty where the row has none of its own."""

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
    if keys.issuperset(THREE_FIELDS) and isinstance(values["input"], Mapping):
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
    if fields.keys() & {*THREE_FIELDS, "messages"}:
        if form not in ("auto", "record"):
            raise UserError(
                f"data.fields names the project's own fields ({', '.join(fields)}), which the "
                f"form '{form}' does not have; leave data.form=auto"
            )
        form = "record"
    if fields:
        values = map_fields(values, fields)
    return FORMS[detect_form(values) if form == "auto" else form](values)


def _made_id(record: InstructionRecord) -> str:
    if record.messages:
        return content_id(*(part for turn in record.messages for part in (turn.role, turn.content)))
    return content_id(record.instruction, record.input, record.output)


def _from_record(values: Mapping[str, Any]) -> InstructionRecord:
    if not values.get("messages"):
        return _from_alpaca(values)
    for name in THREE_FIELDS:
        if values.get(name):
            raise bad_field(name, "and 'messages' are both there; a record has either")
    return _from_messages(values)


def _from_alpaca(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=required_text(values, "instruction"),
        input=read_text(values.get("input"), "input"),
        output=required_text(values, "output"),
        **read_extras(values),
    )


def _from_messages(values: Mapping[str, Any]) -> InstructionRecord:
    is_sharegpt = not values.get("messages") and "conversations" in values
    messages = read_chat(values, "conversations" if is_sharegpt else "messages")
    return InstructionRecord(messages=messages, **read_extras(values))


def _from_defect_chat(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(messages=read_chat(values, "text"), **read_extras(values))


def _from_defect_raw(values: Mapping[str, Any]) -> InstructionRecord:
    """Map a judged event to the two turns that :func:`_from_defect_chat` reads."""
    kinds, given, judged = (first_present(values, name) for name in THREE_FIELDS)
    check_type(given, Mapping, "input", "an object")
    check_type(judged, Mapping, "output", "an object")
    if not isinstance(kinds, list | tuple) or len(kinds) != 1 or not isinstance(kinds[0], Mapping):
        raise bad_field("instruction", "must be a list of one object, which has the 'subtype'")
    task, event, output_format = (
        required_text(given, name, path="input.") for name in ("task", "event", "output_format")
    )
    judgement, reason = (
        required_text(judged, name, path="output.") for name in ("judgement", "reason")
    )
    # To the letter: the colon behind 判断 is ASCII, the others are full-width.
    question = f"任务：{task}\n\n事件：\n{event}\n\n输出格式：\n{output_format}"  # noqa: RUF001
    answer = f"判断:{judgement}\n\n原因：{reason}"  # noqa: RUF001
    extras = read_extras(values)
    subtype = read_text(kinds[0].get("subtype"), "instruction[0].subtype")
    extras["subtype"] = extras["subtype"] or subtype
    messages = (Message("user", question), Message("assistant", answer))
    return InstructionRecord(messages=messages, **extras)


def _from_prompt_completion(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=required_text(values, "prompt"),
        output=required_text(values, "completion", "response"),
        **read_extras(values),
    )


def _from_dolly(values: Mapping[str, Any]) -> InstructionRecord:
    return InstructionRecord(
        instruction=required_text(values, "instruction"),
        input=read_text(values.get("context"), "context"),
        output=required_text(values, "response"),
        **read_extras(values),
    )


def _from_humaneval(values: Mapping[str, Any]) -> InstructionRecord:
    extras = read_extras(values)
    extras["language"] = extras["language"] or "python"
    extras["entry_point"] = required_text(values, "entry_point")
    extras["tests"] = extras["tests"] or required_text(values, "test")
    return InstructionRecord(
        instruction=required_text(values, "prompt"),
        output=required_text(values, "canonical_solution"),
        **extras,
    )


def _shown_tests(tests: Any) -> str:
    """Return MBPP's assert statements as the task shows them: only they name the function."""
    if not isinstance(tests, list | tuple):
        return ""
    return "\n".join(["Your code should pass these tests:", *map(str, tests)])


def _from_mbpp(values: Mapping[str, Any]) -> InstructionRecord:
    extras = read_extras(values)
    extras["language"] = extras["language"] or "python"
    if not extras["tests"]:
        tests = first_present(values, "test_list")
        check_type(tests, (list, tuple), "test_list", "a list of assert statements")
        imports = values.get("test_imports") or []
        check_type(imports, (list, tuple), "test_imports", "a list of import statements")
        setup = [read_text(values.get("test_setup_code"), "test_setup_code").strip()]
        setup += [read_text(line, "test_imports") for line in imports]
        # Each statement stands alone, so each takes along what the source keeps apart.
        extras["tests"] = tuple(
            "\n".join((*filter(None, setup), read_text(test, f"test_list[{i}]", required=True)))
            for i, test in enumerate(tests)
        )
    return InstructionRecord(
        instruction=required_text(values, "text", "prompt"),
        input=_shown_tests(values.get("test_list")),
        output=required_text(values, "code"),
        **extras,
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
