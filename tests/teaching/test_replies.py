"""What is no usable answer is never taken for one."""

from __future__ import annotations

import pytest

from ift_lightning.teaching.exchange import TeacherAnswer
from ift_lightning.teaching.replies import BadReplyError, is_refusal, read_fields, without_fence

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m so sorry.",
    "Sorry, but I cannot do this",
    "I cannot assist with this request.",
    "I can't provide the reasoning.",
    "I'm unable to rewrite this.",
    "I won't complete this task.",
    "As an AI language model, I do not",
    "As a large language model",
    "Unfortunately, I am not able to",
    "I apologize, but",
    "I must decline",
    "抱歉，我无法完成",
    "非常抱歉，",
    "对不起，我不能",
    "我无法提供该内容",
    "我不能协助",
    "作为一个人工智能，我",
    "作为一款大语言模型",
    '  "I am sorry',
]
NO_REFUSALS = [
    "I cannot use a loop here, so recursion it is.",
    "We cannot sort in place.",
    "The sorry state of the list is that it is empty.",
    "As an argument the function gets a list.",
    "As an array is given, index it.",
    "Unfortunately the list may be empty: return 0.",
    "我们不能修改原列表，所以先复制。",
    "无法整除时向下取整。",
    "作为一个列表，它可以为空。",
    "First add. I'm sorry is printed when the input is bad.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_reasoning_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


def answer(text: str, reason: str | None = "stop") -> TeacherAnswer:
    return TeacherAnswer(text, reason, 1, 7)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x", "b": "y"}',
        '  {"b": "y", "a": "x", "c": 3}\n',
        'Here it is:\n```json\n{"a": "x", "b": "y"}\n```\nDone.',
        '<think>{"a": "no", "b": "no"}</think>\n{"a": "x", "b": "y"}',
        'The set {1, 2} first. {"a": "x", "b": "y"}',
    ],
)
def test_fields_are_found(text: str) -> None:
    assert read_fields(answer(text), ["a", "b"]) == {"a": "x", "b": "y"}


def test_line_breaks_inside_strings_are_kept() -> None:
    assert read_fields(answer('{"a": "x\ny"}'), ["a"]) == {"a": "x\ny"}


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        ("<think>hm</think>", "stop", "empty"),
        ('{"a": "x"', "stop", "no JSON object"),
        ('["a"]', "stop", "no JSON object"),
        ("plain words", "stop", "no JSON object"),
        ('{"b": "x"}', "stop", "lacks a"),
        ('{"a": ""}', "stop", "a is empty"),
        ('{"a": "  "}', "stop", "a is empty"),
        ('{"a": ["x"]}', "stop", "a is no string"),
        ('{"a": null}', "stop", "a is no string"),
        ('{"a": "x"}', "length", "cut at 7 tokens"),
        ('{"a": "x"}', "content_filter", "refuses"),
        ('{"a": "x"}', "refusal", "refuses"),
        ('{"a": "x"}', None, "ended by None"),
        ('{"a": "x"}', "tool_calls", "ended by 'tool_calls'"),
        ("I'm sorry, but I can't help.", "stop", "refuses"),
        ('{"a": "抱歉，我无法完成。"}', "stop", "a is a refusal"),
        ('{"a": "\\ud83d"}', "stop", "surrogate"),
    ],
)
def test_what_is_no_answer_is_refused(text: str, reason: str | None, expected: str) -> None:
    with pytest.raises(BadReplyError, match=expected):
        read_fields(answer(text, reason), ["a"])


def test_a_fence_around_all_of_the_code_is_taken_away() -> None:
    assert without_fence("```python\nx = 1\ny = 2\n```\n") == "x = 1\ny = 2"
    assert without_fence("x = '```'") == "x = '```'"
