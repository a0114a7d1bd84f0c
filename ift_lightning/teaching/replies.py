"""Reads a teacher's reply: one JSON object with the fields that were asked for, or no use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ift_lightning.teaching.exchange import TeacherAnswer


class BadReplyError(Exception):
    """A reply that must not become a training target; says what is wrong with it."""


_WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn"})

# What a model begins with when it declines. Only the beginning counts: "I cannot use a loop here"
# in the middle of a thought is none.
_REFUSAL = re.compile(
    r"""\s*["'“*]*(?:
      (?:i['’]?m|i\s+am|we['’]?re|we\s+are)\s+(?:(?:so|very|really|terribly)\s+)?sorry\b
    | (?:sorry|apologies|unfortunately)\s*[,.!—-]\s*(?:but\s+)?(?:i|we|as)\b
    | (?:i|we)\s+(?:must\s+|have\s+to\s+)?(?:apologi[sz]e|decline)\b
    | (?:i|we)\s*(?:can\s*not|can['’]t|could\s*n['’]t|won['’]t|will\s+not|['’]m\s+unable\s+to
        |['’]m\s+not\s+able\s+to|am\s+unable\s+to|am\s+not\s+able\s+to)\s+
        (?:help|assist|provide|comply|fulfil|fulfill|answer|complete|write|generate|create|do
        |continue|support|rewrite|simplify|engage|discuss|share|process|respond|produce)\b
    | as\s+an?\s+(?:ai|artificial\s+intelligence|(?:large\s+)?language\s+model)\b
    | (?:非常|十分|很)?(?:抱歉|对不起|遗憾)
    | (?:我|本人|本助手)(?:无法|不能|没办法|没有办法|不可以|拒绝)(?:为您|为你|帮您|帮你|帮助|协助
        |提供|完成|回答|满足|执行|生成|处理|回应|参与|讨论|继续|给出|编写|写|改写|简化)
    | 作为(?:一个|一名|一款)?\s*(?:ai|人工智能|大?语言模型|大模型)
    )""",
    re.IGNORECASE | re.VERBOSE,
)

# A reasoning model's own thoughts, where a server leaves them in the text.
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def is_refusal(text: str) -> bool:
    """Whether a text begins like a model that declines, in English or Chinese."""
    return _REFUSAL.match(text) is not None


def read_fields(answer: TeacherAnswer, names: Sequence[str]) -> dict[str, str]:
    """Return the fields of a reply, none of them empty, cut or a refusal.

    Args:
        answer: As the teacher gave it.
        names: Fields that have to be there.

    Raises:
        BadReplyError: It is of no use; says why.
    """
    text = _THOUGHTS.sub("", answer.text, count=1).strip()
    if answer.finish_reason == "length":
        raise BadReplyError(
            f"the answer was cut at {answer.num_completion_tokens} tokens; raise teacher.max_tokens"
        )
    if not text:
        raise BadReplyError("the answer is empty")
    if answer.finish_reason in ("refusal", "content_filter") or is_refusal(text):
        raise BadReplyError(f"the teacher refuses: {text[:120]!r}")
    if answer.finish_reason not in _WHOLE:
        raise BadReplyError(
            f"the answer ended by {answer.finish_reason!r}, not by itself, so it may be cut"
        )
    values = _json_object(text)
    missing = [name for name in names if name not in values]
    if missing:
        raise BadReplyError(f"the answer lacks {', '.join(missing)}")
    fields = {}
    for name in names:
        value = values[name]
        if not isinstance(value, str):
            raise BadReplyError(f"{name} is no string")
        if not value.strip():
            raise BadReplyError(f"{name} is empty")
        if is_refusal(value):
            raise BadReplyError(f"{name} is a refusal: {value.strip()[:120]!r}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadReplyError(f"{name} has half of a surrogate pair") from None
        fields[name] = value
    return fields


def _json_object(text: str) -> dict[str, object]:
    """Return the JSON object that a text is, or has in it, between other words or in a fence."""
    # Line breaks inside strings are what models write, though JSON wants "\\n".
    decoder = json.JSONDecoder(strict=False)
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise BadReplyError(f"the answer is no JSON object: {text[:120]!r}")


_FENCE = re.compile(r"\A\s*```[^\n`]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def without_fence(code: str) -> str:
    """Return code without the Markdown fence around all of it, if there is one."""
    match = _FENCE.match(code)
    return match.group(1) if match else code
