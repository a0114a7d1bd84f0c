"""Every YAML of ``conf/template`` writes exactly the text of its golden file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from templating.making import TEMPLATE_NAMES, byte_level, chat, composed, template_of, triple

from ift_lightning.config.entry import config_dir
from ift_lightning.data.variants import REVERSE_INSTRUCTION, variant
from ift_lightning.templating.template import Template
from ift_lightning.types import InstructionRecord

GOLDEN = Path(__file__).parent / "golden"

CODE = "def add(a, b):\n    return a + b"
ROWS = {
    "with input": triple("Write a function.", "a\nb", CODE),
    "without input": triple("Write a function.", "", CODE),
    "with blanks, markup and braces": triple(" {{ x }} ${y} ", "<b>&</b>\n", " {% z %} \n"),
    "chat of one exchange": chat("你好", "判断:正确\n\n原因：没有缺陷"),
}
CHATS = {
    "chat with a system text": chat("a?", "A.", "b?", "B.", system="Be brief."),
    "chat without a system text": chat("a?", "A.", "b?", "B.", "c?", "C."),
}


def render(template: Template, record: InstructionRecord, **options: object) -> list[str]:
    segments = template.segments(record, byte_level(), **options)  # type: ignore[arg-type]
    assert all(segment.text for segment in segments)
    return [
        f"{segment.role.value:<9} {json.dumps(segment.text, ensure_ascii=False)}"
        for segment in segments
    ]


def rendering(name: str) -> str:
    """Return what a template writes, and what else its YAML says, as the golden file has it."""
    template = template_of(name)
    variant_name = composed(f"template={name}").data_variant.name
    change = variant(variant_name)
    assert template.name == name
    lines = [
        f"add_bos {json.dumps(template.add_bos)}",
        f"stop {json.dumps(list(template.stop), ensure_ascii=False)}",
    ]
    rows = ROWS | CHATS if template.multi_turn else ROWS
    for title, record in rows.items():
        if record.messages and variant_name == "reverse":  # refuses chats
            continue
        lines += ["", f"== {title}", *render(template, change(record))]
        if title in ("with input", "chat with a system text"):
            lines += ["", f"== {title}, with reasoning"]
            lines += render(template, change(record), reasoning="First,\nthen.")
            lines += ["", f"== {title}, prompt of a generation"]
            lines += render(template, change(record), for_generation=True)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_text_is_golden(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    written = rendering(name)
    assert path.is_file(), f"review this, and save it as {path}:\n{written}"
    assert written == path.read_text(encoding="utf-8")


def test_no_golden_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == TEMPLATE_NAMES


def test_every_template_has_its_file() -> None:
    wanted = (
        "alpaca zh_instruction zh_sft chat chatml llama2_chat defect_judgement "
        "reverse_instruction completion"
    )
    assert set(wanted.split()) <= set(TEMPLATE_NAMES)
    assert (config_dir() / "template").is_dir()


def text_of(name: str, record: InstructionRecord) -> str:
    return "".join(item.text for item in template_of(name).segments(record, byte_level()))


# The formats that files made elsewhere have, spelled out a second time and by hand.


def test_chinese_three_part_form() -> None:
    assert text_of("zh_instruction", triple("概括", "一段话", "要点")) == (
        "指令：概括\n输入：一段话\n回答：要点<|eos|>"
    )


def test_chinese_two_part_form() -> None:
    assert text_of("zh_sft", triple("概括", "一段话", "要点")) == (
        "问题：一段话\n回答：要点<|eos|>"
    )
    assert text_of("zh_sft", triple("概括", "", "要点")) == "问题：概括\n回答：要点<|eos|>"


def test_reverse_instruction_form() -> None:
    record = variant("reverse")(triple("When?", "", "In 1403."))
    assert text_of("reverse_instruction", record) == (
        "### Instruction:\n"
        "Use the Input below to create an instruction, which could have been used to generate the"
        " input using an LLM. \n"
        "\n"
        "### Input:\n"
        "In 1403.\n"
        "\n"
        "### Response:\n"
        "When?\n"
        "<|eos|>"
    )
    assert REVERSE_INSTRUCTION.endswith("LLM. ")


def test_defect_judgement_form() -> None:
    question = "任务：查\n\n事件：\n溢出\n\n输出格式：\n判断和原因"
    answer = "判断:正确\n\n原因：有缺陷"
    assert text_of("defect_judgement", chat(question, answer)) == (f"{question}\n\n{answer}<|eos|>")


def test_reverse_instruction_brings_its_variant_and_gives_way_to_an_override() -> None:
    assert composed("template=reverse_instruction").data_variant.name == "reverse"
    assert composed("template=alpaca").data_variant.name == "standard"
    overridden = composed("template=reverse_instruction", "data_variant=standard")
    assert overridden.data_variant.name == "standard"
