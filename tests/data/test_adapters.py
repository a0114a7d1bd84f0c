"""Every form of a row, every way a row can be bad, and ids."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.data.adapters import FORMS, adapt, detect_form, unique_records
from ift_lightning.data.sources import find_data_files, read_rows
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import (
    InstructionRecord,
    Message,
    RawRow,
    RejectedRow,
    RowLocation,
    content_id,
)

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
CHAT = (Message("user", "q"), Message("assistant", "a"))

EXAMPLES: dict[str, tuple[dict[str, Any], InstructionRecord]] = {
    "record": (
        {
            "id": "r1",
            "instruction": "i",
            "input": "x",
            "output": "o",
            "reasoning": {"simple": "s", "complex": None},
            "language": "Python",
            "category": "c",
            "subtype": "t",
            "entry_point": "f",
            "tests": [{"args": [1], "kwargs": {}, "expected": 2}],
        },
        InstructionRecord(
            id="r1",
            instruction="i",
            input="x",
            output="o",
            reasoning={"simple": "s"},
            language="python",
            category="c",
            subtype="t",
            entry_point="f",
            tests=({"args": [1], "kwargs": {}, "expected": 2},),
        ),
    ),
    "alpaca": (
        {"instruction": "i", "input": None, "output": " o\n"},
        InstructionRecord(id=content_id("i", "", " o\n"), instruction="i", output=" o\n"),
    ),
    "messages": (
        {"id": 7, "messages": [USER, ASSISTANT], "category": "c"},
        InstructionRecord(id="7", messages=CHAT, category="c"),
    ),
    "defect_chat": (
        {"text": [USER, ASSISTANT], "subtype": "缺陷"},
        InstructionRecord(
            id=content_id("user", "q", "assistant", "a"), messages=CHAT, subtype="缺陷"
        ),
    ),
    "defect_raw": (
        {
            "id": "d",
            "instruction": [{"subtype": "泄漏"}],
            "input": {"task": "T", "event": "E", "output_format": "F"},
            "output": {"judgement": "是", "reason": "R"},
        },
        InstructionRecord(
            id="d",
            messages=(
                Message("user", "任务\uff1aT\n\n事件\uff1a\nE\n\n输出格式\uff1a\nF"),
                Message("assistant", "判断:是\n\n原因\uff1aR"),
            ),
            subtype="泄漏",
        ),
    ),
    "prompt_completion": (
        {"id": "p", "prompt": "i", "completion": "o"},
        InstructionRecord(id="p", instruction="i", output="o"),
    ),
    "dolly": (
        {"instruction": "i", "context": "x", "response": "o", "category": "open_qa"},
        InstructionRecord(
            id=content_id("i", "x", "o"),
            instruction="i",
            input="x",
            output="o",
            category="open_qa",
        ),
    ),
    "humaneval": (
        {
            "task_id": "HumanEval/0",
            "prompt": "def f():\n",
            "canonical_solution": "    return 1\n",
            "test": "def check(f): ...",
            "entry_point": "f",
        },
        InstructionRecord(
            id="HumanEval/0",
            instruction="def f():\n",
            output="    return 1\n",
            language="python",
            entry_point="f",
            tests="def check(f): ...",
        ),
    ),
    "mbpp": (
        {
            "task_id": 601,
            "text": "i",
            "code": "o",
            "test_list": ["assert f()"],
            "test_setup_code": "",
        },
        InstructionRecord(
            id="601",
            instruction="i",
            input="Your code should pass these tests:\nassert f()",
            output="o",
            language="python",
            tests=("assert f()",),
        ),
    ),
}


def raw(values: Mapping[str, Any], line: int = 1) -> RawRow:
    return RawRow(values, RowLocation("rows.jsonl", line))


def changed(form: str, **values: Any) -> dict[str, Any]:
    return {**EXAMPLES[form][0], **values}


def without(form: str, key: str) -> dict[str, Any]:
    return {name: value for name, value in EXAMPLES[form][0].items() if name != key}


def test_every_form_has_an_example() -> None:
    assert set(EXAMPLES) == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_form_is_told_and_mapped(form: str) -> None:
    values, record = EXAMPLES[form]
    assert detect_form(values) == form
    assert adapt(raw(values)) == record
    assert adapt(raw(values), form) == record


@pytest.mark.parametrize("form", FORMS)
def test_form_is_told_in_a_table_that_has_every_column(form: str) -> None:
    every_key = {key: None for values, _ in EXAMPLES.values() for key in values}
    assert adapt(raw({**every_key, **EXAMPLES[form][0]})) == EXAMPLES[form][1]


@pytest.mark.parametrize("form", FORMS)
def test_record_on_disk_reads_back_as_it_was(form: str) -> None:
    record = EXAMPLES[form][1]
    assert adapt(raw(json.loads(json.dumps(record.to_json())))) == record


def test_other_spellings_of_the_forms() -> None:
    assert adapt(raw({"prompt": "i", "response": "o"})).output == "o"
    mbpp = adapt(
        raw(
            {
                "prompt": "i",
                "code": "o",
                "test_list": ["assert f()"],
                "test_imports": ["import math"],
            }
        )
    )
    assert mbpp.tests == ("import math\nassert f()",)
    sharegpt = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert adapt(raw({"conversations": sharegpt})).messages == CHAT
    assert adapt(raw({"conversations": [USER, ASSISTANT]})).messages == CHAT


def test_chat_may_be_long_and_begin_with_a_system_turn() -> None:
    empty = {"role": "system", "content": ""}
    for first in (SYSTEM, empty):
        record = adapt(raw({"messages": [first, USER, ASSISTANT, USER, ASSISTANT]}))
        assert [turn.role for turn in record.messages] == ["system", *["user", "assistant"] * 2]


def chat(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


LONE = "x\ud800"

BAD_ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    # name, values, field, words of the reason
    ("missing output", without("alpaca", "output"), "output", "missing"),
    ("missing response", without("dolly", "response"), "response", "missing"),
    ("missing completion", without("prompt_completion", "completion"), "completion", "missing"),
    ("missing instruction", without("alpaca", "instruction"), "instruction", "missing"),
    ("null output", changed("alpaca", output=None), "output", "null"),
    ("empty output", changed("alpaca", output=""), "output", "empty"),
    ("blank output", changed("alpaca", output=" \n"), "output", "empty"),
    ("empty instruction", changed("alpaca", instruction=""), "instruction", "empty"),
    ("number output", changed("alpaca", output=3), "output", "a number"),
    ("list output", changed("alpaca", output=["x"]), "output", "a list"),
    ("object input", changed("dolly", context={"a": 1}), "context", "an object"),
    ("bool input", changed("alpaca", input=True), "input", "true or false"),
    ("surrogate", changed("alpaca", output=LONE), "output", "U+D800 at character 2"),
    ("surrogate id", changed("record", id=LONE), "id", "surrogate"),
    ("float id", changed("record", id=1.5), "id", "a number"),
    ("bool id", changed("record", id=True), "id", "true or false"),
    ("category", changed("dolly", category=3), "category", "a number"),
    ("language", changed("record", language=[]), "language", "a list"),
    ("reasoning", changed("record", reasoning="x"), "reasoning", "a string"),
    ("level", changed("record", reasoning={"smple": "x"}), "reasoning.smple", "'simple'"),
    ("level text", changed("record", reasoning={"simple": 1}), "reasoning.simple", "a number"),
    ("tests", changed("record", tests=3), "tests", "a number"),
    ("test", changed("record", tests=[1]), "tests[0]", "a number"),
    ("expected", changed("record", tests=[{"args": []}]), "tests[0].expected", "missing"),
    (
        "args",
        changed("record", tests=["assert f()", {"args": 1, "expected": 1}]),
        "tests[1].args",
        "a list",
    ),
    (
        "test surrogate",
        changed("record", tests=[{"args": [], "expected": LONE}]),
        "tests[0]",
        "surrogate",
    ),
    ("chat string", {"messages": "x"}, "messages", "a string"),
    ("turn string", chat("x"), "messages[0]", "a string"),
    ("no turns", {"messages": []}, "messages", "no assistant"),
    ("no answer", chat(USER), "messages", "no assistant"),
    ("ends with user", chat(USER, ASSISTANT, USER), "messages[2]", "last turn"),
    ("begins with assistant", chat(ASSISTANT), "messages[0]", "take turns"),
    ("two users", chat(SYSTEM, USER, USER, ASSISTANT), "messages[2]", "take turns"),
    ("late system", chat(USER, SYSTEM, ASSISTANT), "messages[1]", "system"),
    ("no role", chat({"content": "x"}), "messages[0].role", "missing"),
    ("human", chat({"role": "human", "content": "x"}), "messages[0].role", "Valid: assistant"),
    ("tool", chat({"role": "tool", "content": "x"}), "messages[0].role", "'tool'"),
    ("no content", chat(USER, {"role": "assistant"}), "messages[1].content", "missing"),
    (
        "null content",
        chat(USER, {"role": "assistant", "content": None}),
        "messages[1].content",
        "null",
    ),
    (
        "content parts",
        chat({"role": "user", "content": [{"type": "text"}]}),
        "messages[0].content",
        "a list",
    ),
    (
        "empty answer",
        chat(USER, {"role": "assistant", "content": " "}),
        "messages[1].content",
        "empty",
    ),
    (
        "sharegpt role",
        {"conversations": [{"from": "bing", "value": "x"}]},
        "conversations[0].from",
        "'bing'",
    ),
    ("defect answer", {"text": [USER, {**ASSISTANT, "content": ""}]}, "text[1].content", "empty"),
    (
        "defect event",
        changed("defect_raw", input={"task": "T", "output_format": "F"}),
        "input.event",
        "missing",
    ),
    (
        "defect judgement",
        changed("defect_raw", output={"judgement": True, "reason": "R"}),
        "output.judgement",
        "true or false",
    ),
    ("defect output", changed("defect_raw", output="x"), "output", "a string"),
    ("defect subtype", changed("defect_raw", instruction=[]), "instruction", "subtype"),
    ("humaneval test", without("humaneval", "test"), "test", "missing"),
    ("mbpp test", changed("mbpp", test_list=[""]), "test_list[0]", "empty"),
    ("mbpp tests", changed("mbpp", test_list="assert f()"), "test_list", "a string"),
]


@pytest.mark.parametrize(
    ("values", "field", "words"), [row[1:] for row in BAD_ROWS], ids=[row[0] for row in BAD_ROWS]
)
def test_bad_row_names_its_field(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadRowError) as error:
        adapt(raw(values))
    assert error.value.field == field
    assert words in str(error.value)
    assert "rows.jsonl" not in str(error.value)  # the caller adds the place


@pytest.mark.parametrize("form", FORMS)
def test_explicit_form_names_what_is_missing(form: str) -> None:
    with pytest.raises(BadRowError, match="missing"):
        adapt(raw({"question": "x"}), form)


def test_unknown_form_lists_keys_and_forms() -> None:
    with pytest.raises(BadRowError) as error:
        detect_form({"question": "q", "answer": "a"})
    for words in ("question, answer", "alpaca", "dolly", "defect_raw", "data.fields"):
        assert words in str(error.value)


def test_row_in_two_forms_is_refused() -> None:
    both = {"messages": [USER, ASSISTANT], "instruction": "i", "output": "o"}
    with pytest.raises(BadRowError, match=r"data\.form=alpaca"):
        adapt(raw(both))
    assert adapt(raw(both), "messages").messages == CHAT
    assert adapt(raw(both), "alpaca").instruction == "i"
    with pytest.raises(BadRowError, match="both"):
        adapt(raw(both), "record")


def test_misspelt_form() -> None:
    with pytest.raises(UserError, match="Did you mean 'alpaca'") as error:
        adapt(raw({}), "alpacca")
    assert not isinstance(error.value, BadRowError)


# --- data.fields --------------------------------------------------------------------------------


def test_fields_reach_into_nested_columns() -> None:
    values = {
        "meta": {"question": "q", "kind": "k"},
        "answers": [{"text": "a"}],
        "a.b": "x",
        "uid": 5,
        "messages": "another thing",
        "tests": None,
    }
    fields = {
        "id": "uid",
        "instruction": "meta.question",
        "input": "a.b",
        "output": "answers.0.text",
        "category": "meta.kind",
    }
    assert adapt(raw(values), fields=fields) == InstructionRecord(
        id="5", instruction="q", input="x", output="a", category="k"
    )


def test_fields_may_name_a_chat() -> None:
    values = {"dialogue": [USER, ASSISTANT], "instruction": "another thing", "output": 3}
    assert adapt(raw(values), fields={"messages": "dialogue"}).messages == CHAT


def test_fields_keep_the_source_form_where_they_leave_its_content() -> None:
    values = {"instruction": "i", "context": "x", "response": "o", "kind": "k"}
    record = adapt(raw(values), fields={"category": "kind"})
    assert (record.input, record.output, record.category) == ("x", "o", "k")


def test_fields_can_leave_a_column_out() -> None:
    values = {"id": "same", "task_id": "same", "instruction": "i", "input": 3, "output": "o"}
    record = adapt(raw(values), fields={"input": None, "id": None})
    assert record.input == ""
    assert record.id == content_id("i", "", "o")


def test_fields_that_name_a_missing_column() -> None:
    fields = {"instruction": "meta.question", "output": "answer"}
    with pytest.raises(
        BadRowError, match=r"'meta\.question'.*'instruction'.*meta, answer"
    ) as error:
        adapt(raw({"meta": {"q": "x"}, "answer": "a"}), fields=fields)
    assert error.value.field == "meta.question"


@pytest.mark.parametrize(
    ("form", "fields", "words"),
    [
        ("auto", {"instructon": "q"}, "Did you mean 'instruction'"),
        ("auto", {"messages": "m", "output": "a"}, "both 'messages' and 'output'"),
        ("dolly", {"output": "a"}, "leave data.form=auto"),
    ],
)
def test_fields_that_cannot_be_are_no_fault_of_the_row(
    form: str, fields: dict[str, str | None], words: str
) -> None:
    with pytest.raises(UserError, match=words) as error:
        adapt(raw({}), form, fields)
    assert not isinstance(error.value, BadRowError)


# --- ids ----------------------------------------------------------------------------------------


def run(*rows: Mapping[str, Any]) -> tuple[list[str], list[RejectedRow]]:
    bad: list[RejectedRow] = []
    raws = [raw(values, line) for line, values in enumerate(rows, start=1)]
    return [record.id for _, record in unique_records(raws, "auto", None, bad.append)], bad


def test_repeated_id_of_the_source_names_its_first_place() -> None:
    row = {"instruction": "i", "output": "o"}
    ids, bad = run({**row, "id": "a"}, {**row, "id": "b"}, {**row, "id": "a"}, {**row, "id": 5})
    assert ids == ["a", "b", "5"]
    assert [(r.location.line, r.field, r.row) for r in bad] == [(3, "id", {**row, "id": "a"})]
    assert "'a' was already used at rows.jsonl:1" in bad[0].reason


def test_equal_rows_without_ids_are_all_kept() -> None:
    row = {"instruction": "i", "output": "o"}
    made = content_id("i", "", "o")
    taken = {**row, "id": f"{made}#2"}
    ids, bad = run(row, taken, row, {**row, "output": "p"}, row, {**row, "id": None})
    assert ids == [
        made,
        f"{made}#2",
        f"{made}#3",
        content_id("i", "", "p"),
        f"{made}#4",
        f"{made}#5",
    ]
    assert not bad


def test_bad_rows_are_handed_over_and_take_no_id() -> None:
    good = {"id": "a", "instruction": "i", "output": "o"}
    ids, bad = run({**good, "output": ""}, good)
    assert ids == ["a"]
    assert [(r.location.line, r.field) for r in bad] == [(1, "output")]


# --- real rows ----------------------------------------------------------------------------------


def shared_data(name: str) -> Path:
    folder = os.environ.get("IFT_LIGHTNING_SHARED_DATA")
    parents = Path(__file__).resolve().parents
    path = (Path(folder) if folder else parents[min(3, len(parents) - 1)] / "shared/data") / name
    if not path.is_file():
        pytest.skip(f"{name} is not here; IFT_LIGHTNING_SHARED_DATA names the folder that has it")
    return path


def test_code_alpaca_rows() -> None:
    path = shared_data("code_alpaca_2k.json")
    unreadable: list[RejectedRow] = []
    bad: list[RejectedRow] = []
    rows = list(read_rows(find_data_files(path), unreadable.append))
    assert [row.values for row in rows] == json.loads(path.read_text(encoding="utf-8"))
    good = list(unique_records(rows, "auto", {}, bad.append))
    assert len(rows) == 2017
    assert not unreadable
    assert [(r.field, "empty" in r.reason) for r in bad] == [("output", True)] * 2
    assert len(good) == 2015
    assert len({record.id for _, record in good}) == 2015
    lines = path.read_text(encoding="utf-8").split("\n")
    assert all(lines[r.location.line - 1].strip() == "{" for r in bad if r.location.line)


def test_human_eval_rows() -> None:
    bad: list[RejectedRow] = []
    rows = read_rows([shared_data("HumanEval.jsonl.gz")], bad.append)
    records = [record for _, record in unique_records(rows, "auto", {}, bad.append)]
    assert not bad
    assert len(records) == 164
    assert all(record.tests and record.entry_point in record.instruction for record in records)
