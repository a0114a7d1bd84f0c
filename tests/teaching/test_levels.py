"""What is asked about a row, and what of an answer may be kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_dir

from ift_lightning.config.entry import config_dir
from ift_lightning.data.adapters import adapt
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.teaching.exchange import TeacherAnswer
from ift_lightning.teaching.levels import ReasoningLevels, think_step_row
from ift_lightning.teaching.prompts import CotPrompts
from ift_lightning.teaching.replies import BadReplyError
from ift_lightning.types import InstructionRecord, Message, RawRow, RowLocation

PROMPTS = CotPrompts(
    "p",
    system="S {{ language }}",
    from_complex="C {{ row }} {{ reply }}",
    from_row="R {{ row }} {{ fields | join(',') }}{% if wants_code %} run{% endif %}",
)
ROW = InstructionRecord(
    "r", "做 {{x}}", "in", "out", reasoning={"complex": "c" * 30}, language="python", tests=("t",)
)


def names() -> list[str]:
    return sorted(path.stem for path in (config_dir() / "cot_prompts").glob("*.yaml"))


def prompts(name: str) -> CotPrompts:
    with initialize_config_dir(str(config_dir() / "cot_prompts"), version_base="1.3"):
        return CotPrompts(**dict(compose(name)))


def answer(**fields: str) -> TeacherAnswer:
    return TeacherAnswer(json.dumps(fields), "stop")


def test_what_is_asked_from_complex_reasoning() -> None:
    request = ReasoningLevels(PROMPTS, from_complex=True).request(ROW, 2)
    assert (request.row_id, request.attempt) == ("r", 2)
    assert request.messages[0] == ("system", "S python")
    role, text = request.messages[1]
    decoder = json.JSONDecoder()
    row, end = decoder.raw_decode(text, 2)
    reply, _ = decoder.raw_decode(text, end + 1)
    assert role == "user" and text.startswith("C ")
    assert row == {
        "instruction": "做 {{x}}",
        "input": "in",
        "output": "out",
        "complex_think_step": "c" * 30,
    }
    assert "做 {{x}}" in text  # neither escaped nor rendered
    assert list(reply) == ["normal_think_step", "simple_think_step"]


def test_what_is_asked_from_the_bare_row() -> None:
    task = ReasoningLevels(PROMPTS, from_complex=False, check_code=lambda record, code: None)
    (_, (_, text)) = task.request(ROW).messages
    assert text.endswith("complex_think_step,normal_think_step,simple_think_step,code run")
    assert "cccc" not in text
    without_tests = dataclasses.replace(ROW, tests=())
    (_, (_, text)) = task.request(without_tests).messages
    assert text.endswith("simple_think_step")


def test_a_chat_is_asked_about_by_its_turns() -> None:
    chat = InstructionRecord("r", messages=(Message("user", "q"), Message("assistant", "a")))
    (_, (_, text)) = ReasoningLevels(PROMPTS, from_complex=False).request(chat).messages
    row, _ = json.JSONDecoder().raw_decode(text, 2)
    assert row == {"instruction": "user: q", "input": "", "output": "a"}


def test_a_row_without_complex_reasoning_cannot_be_shortened() -> None:
    row = dataclasses.replace(ROW, reasoning={"complex": " "})
    with pytest.raises(BadRowError, match="cot.source=row"):
        ReasoningLevels(PROMPTS, from_complex=True).request(row)


def test_a_prompt_that_is_no_template_is_said() -> None:
    for text in ("{{ row", "{{ rov }}"):
        broken = dataclasses.replace(PROMPTS, from_complex=text)
        with pytest.raises(UserError, match="cot_prompts=p: from_complex"):
            ReasoningLevels(broken, from_complex=True).request(ROW)


def test_an_answer_becomes_the_levels_in_their_order() -> None:
    task = ReasoningLevels(PROMPTS, from_complex=True)
    record = task.read(ROW, answer(normal_think_step=" nn \n", simple_think_step="s"))
    assert list(record.reasoning.items()) == [
        ("simple", "s"),
        ("normal", "nn"),
        ("complex", "c" * 30),
    ]
    assert dataclasses.replace(record, reasoning=ROW.reasoning) == ROW
    assert task.is_complete(record) and not task.is_complete(ROW)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"normal_think_step": "s", "simple_think_step": "nn"}, "ordered by length"),
        ({"normal_think_step": "nn", "simple_think_step": "ss"}, "ordered by length"),
        ({"normal_think_step": "n" * 30, "simple_think_step": "s"}, "ordered by length"),
        ({"normal_think_step": "nn" + " " * 9, "simple_think_step": "nnn"}, "simple 3, normal 2"),
        ({"normal_think_step": "nn"}, "lacks simple_think_step"),
        ({"normal_think_step": "</think>n", "simple_think_step": "s"}, "mark"),
    ],
)
def test_bad_levels_are_refused(fields: dict[str, str], expected: str) -> None:
    with pytest.raises(BadReplyError, match=expected):
        ReasoningLevels(PROMPTS, from_complex=True).read(ROW, answer(**fields))


def test_code_has_to_pass_the_rows_tests() -> None:
    ran: list[str] = []

    def check(record: InstructionRecord, code: str) -> str | None:
        assert record == ROW
        ran.append(code)
        return None if "good" in code else "f(1) gave 2"

    task = ReasoningLevels(PROMPTS, from_complex=True, check_code=check)
    good = {"normal_think_step": "nn", "simple_think_step": "s"}
    task.read(ROW, answer(**good, code="```python\ngood\n```"))
    assert ran == ["good"]
    with pytest.raises(BadReplyError, match=r"fails the tests: f\(1\) gave 2"):
        task.read(ROW, answer(**good, code="bad"))
    with pytest.raises(BadReplyError, match="lacks code"):
        task.read(ROW, answer(**good))
    task.read(dataclasses.replace(ROW, tests=()), answer(**good))
    assert len(ran) == 2


def test_rows_of_the_named_form_are_read_back() -> None:
    record = dataclasses.replace(ROW, reasoning={"simple": "s", "normal": "n", "complex": "c"})
    row = think_step_row(record)
    assert row == {
        "id": "r",
        "instruction": "做 {{x}}",
        "input": "in",
        "output": "out",
        "language": "python",
        "tests": ["t"],
        "simple_think_step": "s",
        "normal_think_step": "n",
        "complex_think_step": "c",
    }
    assert adapt(RawRow(row, RowLocation("f"))) == record
    only_complex = {"instruction": "i", "output": "o", "complex_think_step": "c"}
    assert adapt(RawRow(only_complex, RowLocation("f"))).reasoning == {"complex": "c"}
    with pytest.raises(BadRowError, match="normal_think_step"):
        adapt(RawRow({**only_complex, "normal_think_step": 3}, RowLocation("f")))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("wants_code", [False, True])
def test_every_prompt_file_asks_for_all_it_needs(name: str, wants_code: bool) -> None:
    check: Callable[..., None] | None = (lambda record, code: None) if wants_code else None
    for from_complex in (False, True):
        task = ReasoningLevels(prompts(name), from_complex=from_complex, check_code=check)
        (_, (_, text)) = task.request(ROW).messages
        fields = ["normal_think_step", "simple_think_step"]
        for field in [*fields, *([] if from_complex else ["complex_think_step"])]:
            assert f'"{field}": "..."' in text and f"- {field}" in text
        assert ('"code": "..."' in text) == wants_code == ("- code" in text)
        assert '"instruction": "做 {{x}}"' in text
        assert ("c" * 30 in text) == from_complex
