"""Defect drills: a function, what it is meant to do, and whether it has a defect.

The raw form and its chat form, field labels and punctuation included, are those of the defect
judgement data that the project reads elsewhere, so that files are interchangeable.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from ift_lightning.data.drills.composition import DRILLS_VERSION, check_split, draw_from
from ift_lightning.data.drills.mutations import SUBTYPES, Defect, call, inject
from ift_lightning.data.drills.rendering import FunctionCode
from ift_lightning.data.drills.tasks import Drill, sample_drill

SOUND = "无缺陷"
"""Subtype, and judgement, of a function without a defect."""

DEFECTIVE = "有缺陷"
"""Judgement of a function with a defect."""

SUBTYPE_LABELS = {
    "off_by_one": "差一错误",
    "wrong_operator": "运算符错误",
    "wrong_function": "函数误用",
    "wrong_constant": "常量错误",
    "missing_edge_case": "缺少边界处理",
    "swapped_arguments": "参数顺序颠倒",
    "wrong_initial_value": "初始值错误",
    "wrong_variable": "变量误用",
    "wrong_return": "返回值错误",
    "mutated_input": "修改输入参数",
}
"""Label of each subtype of defect."""

_TASKS = (
    "判断下面的函数是否存在缺陷，并说明原因。",
    "检查函数实现是否符合需求。",
    "阅读代码和执行记录，判断函数有没有缺陷。",
)
_OUTPUT_FORMAT = "判断:有缺陷或无缺陷\n\n原因：一句话"
_SOUND_REASONS = ("各步骤的实现与需求一致。", "代码按需求完成了每一步。")


def _requirement(drill: Drill) -> str:
    return "，再".join(step.fill(step.operation.chinese) for step in drill.steps)


def _observation(code: FunctionCode, drill: Drill, rng: random.Random) -> str:
    argument = rng.choice(drill.tests)["args"][0]
    result, error, argument_after = call(code, argument)
    outcome = f"抛出 {error}" if error else f"返回 {result!r}"
    text = f"{code.name}({argument!r}) {outcome}"
    if argument_after != argument:
        text += f"，调用后实参变为 {argument_after!r}"
    return text


def _event(code: FunctionCode, drill: Drill, rng: random.Random) -> str:
    source = code.source()
    event = f"需求：{_requirement(drill)}。\n代码：\n{source}"
    if rng.random() < 0.7:
        event += f"\n执行记录：{_observation(code, drill, rng)}"
    return event


def _reason(defect: Defect, drill: Drill) -> str:
    step = drill.steps[defect.step]
    requirement = step.fill(step.operation.chinese)
    return (
        f"{SUBTYPE_LABELS[defect.subtype]}：“{requirement}”一步有误，"
        f"{defect.wrong.strip()} 应为 {defect.right.strip()}"
    )


def _sample_defect(rng: random.Random, split: str, subtype: str) -> tuple[Defect, Drill]:
    loop_share = 1.0 if subtype == "wrong_initial_value" else 0.3
    while True:
        drill = sample_drill(rng, split, loop_share)
        defect = inject(drill.code, drill.steps, subtype, drill.tests, rng)
        if defect is not None:
            return defect, drill


def generate_defects(
    split: str,
    num_records: int,
    seed: int = 0,
    *,
    rng: random.Random | None = None,
    first: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yield defect drills in their raw form; every second function is sound.

    Args:
        split: "train", "val" or "test"; they share no composition of operations.
        num_records: number of records; a larger number only adds to the same records.
        seed: the same seed gives the same records.
        rng: random numbers of the caller's, whose state can be kept to go on later.
        first: records to leave out; ``rng`` is then in its state behind them.

    Returns:
        An iterator of ``{"instruction": [{"subtype"}], "input": {"task", "event",
        "output_format"}, "output": {"judgement", "reason"}}``. The subtypes come in turn.

    Raises:
        ValueError: if there is no such split.
    """
    for raw, _, _ in generate_defects_with_code(split, num_records, seed, rng=rng, first=first):
        yield raw


def generate_defects_with_code(
    split: str,
    num_records: int,
    seed: int = 0,
    *,
    rng: random.Random | None = None,
    first: int = 0,
) -> Iterator[tuple[dict[str, Any], FunctionCode, Drill]]:
    """Yield what :func:`generate_defects` yields, with the function shown and its drill."""
    check_split(split)
    rng = draw_from(rng, first, f"{DRILLS_VERSION}-defects-{split}-{seed}")
    for index in range(first, num_records):
        if index % 2:
            subtype = SUBTYPES[(index // 2) % len(SUBTYPES)]
            defect, drill = _sample_defect(rng, split, subtype)
            code, label, judgement = defect.code, SUBTYPE_LABELS[subtype], DEFECTIVE
            reason = _reason(defect, drill)
        else:
            # The same share of loops on average, or loops alone would give defects away.
            drill = sample_drill(rng, split, 1.0 if rng.random() < 0.1 else 0.3)
            code, label, judgement = drill.code, SOUND, SOUND
            reason = rng.choice(_SOUND_REASONS)
        raw = {
            "instruction": [{"subtype": label}],
            "input": {
                "task": rng.choice(_TASKS),
                "event": _event(code, drill, rng),
                "output_format": _OUTPUT_FORMAT,
            },
            "output": {"judgement": judgement, "reason": reason},
        }
        yield raw, code, drill


def defect_to_chat(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chat form of a raw defect record.

    Args:
        raw: a record as :func:`generate_defects` yields it.

    Returns:
        ``{"subtype": ..., "text": [user message, assistant message]}``.

    Raises:
        KeyError: if a field is missing.
    """
    given, answer = raw["input"], raw["output"]
    question = (
        f"任务：{given['task']}\n\n事件：\n{given['event']}\n\n输出格式：\n{given['output_format']}"
    )
    # One colon is ASCII and the other full-width in the format itself.
    reply = f"判断:{answer['judgement']}\n\n原因：{answer['reason']}"
    return {
        "subtype": raw["instruction"][0]["subtype"],
        "text": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reply},
        ],
    }
