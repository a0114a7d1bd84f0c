"""Segments of a text that the tokenizer's own chat template wrote.

Such a template is a black box that returns one string, so each assistant turn has to be found in
it. Its beginning is where the generation prompt of the chat before it ends. What the template
writes around an answer shows where a probe stands in the answer's place; the turn has to be exactly
that, with the answer in between. A template whose generation prompt is not a prefix of the training
text is refused, because a model trained on one would be asked with the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import Message, Role, Segment

# `{%- generation -%}` in all its spellings.
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

# Private-use characters: no text has them, and no template touches them.
_PROBE = "\ue000answer\ue001"


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where an assistant turn lies in the text, in characters."""

    start: int  # end of the generation prompt
    answer_start: int
    answer_stop: int
    stop: int  # behind the end token; white space after that belongs to the next prompt


def native_segments(
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    reasoning: str = "",
    for_generation: bool = False,
    last_turn_only: bool = False,
) -> list[Segment]:
    """Render ``messages`` with ``tokenizer.chat_template`` and cut the text into segments.

    What the template itself writes between the generation prompt and an answer, such as an empty
    reasoning block, has the role of reasoning: the model has to write it, too. White space around
    an answer is the template's to trim; the segment holds what it wrote.

    Args:
        messages: Optional system message, then user and assistant in turn, assistant last.
        tokenizer: A Hugging Face tokenizer that has a chat template.
        reasoning: Reasoning block, written in front of the last answer.
        for_generation: Stop at the generation prompt of the last turn.
        last_turn_only: Leave earlier assistant turns in the prompt. Some templates shorten them
            once another turn follows, and could not be rendered otherwise.

    Raises:
        UserError: There is no chat template, its prompt is no prefix of its full text, or its
            ``{% generation %}`` marks leave an answer out.
        BadRowError: The template changes the answer's text, or refuses this chat.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"template=chat: the tokenizer of '{tokenizer.name_or_path}' has no chat template. "
            "Choose one of ours, such as template=chatml or template=alpaca"
        )
    *earlier, final = messages
    prompt = _render(tokenizer, earlier, generation_prompt=True)
    whole = [*earlier, Message(final.role, reasoning + final.content)]
    text = prompt if for_generation else _render(tokenizer, whole)
    marks = None if for_generation else _marks(tokenizer, whole)
    last = len(messages) - 1
    segments: list[Segment] = []
    position = 0
    for index, message in enumerate(messages):
        is_left_out = for_generation if index == last else last_turn_only
        if message.role != "assistant" or is_left_out:
            continue
        before = prompt
        if index < last:
            before = _render(tokenizer, messages[:index], generation_prompt=True)
        block = reasoning if index == last else ""
        turn = _find_turn(tokenizer, text, messages[: index + 1], before, block, index == last)
        if marks is not None:
            _check_marked(tokenizer, marks, turn)
        segments += [
            Segment(text[position : turn.start], Role.PROMPT),
            Segment(text[turn.start : turn.answer_start], Role.REASONING),
            Segment(text[turn.answer_start : turn.answer_stop], Role.ANSWER),
            Segment(text[turn.answer_stop : turn.stop], Role.END),
        ]
        position = turn.stop
    if for_generation:
        segments.append(Segment(text[position:], Role.PROMPT))
    return segments


def _find_turn(
    tokenizer: Any,
    text: str,
    messages: Sequence[Message],
    before: str,
    reasoning: str,
    is_last: bool,
) -> _Turn:
    """Find the turn of the last of ``messages`` in the text of the chat that goes on from it."""
    if not text.startswith(before):
        raise _not_a_prefix(tokenizer, before, text)
    answer = messages[-1].content
    probe = _render(tokenizer, [*messages[:-1], Message("assistant", reasoning + _PROBE)])
    head, found, tail = probe[len(before) :].partition(_PROBE)
    if not found:
        raise _changes("the answer's text", tokenizer)
    if _without_space(reasoning) not in _without_space(head):
        raise _changes("the reasoning before the answer", tokenizer)
    start, end = len(before), len(tail.rstrip())
    answer_start = start + len(head)
    if not is_last and not text.startswith(head, start):
        raise _not_a_prefix(tokenizer, before + head, text)
    matches = [
        written
        for written in _trimmings(answer)
        if text.startswith(head + written, start)
        and (not is_last or text[answer_start:] == written + tail)
    ]
    if not matches:
        raise _changes("the answer's text", tokenizer)
    for written in matches:
        answer_stop = answer_start + len(written)
        if text.startswith(tail, answer_stop):
            return _Turn(start, answer_start, answer_stop, answer_stop + end)
    raise _not_a_prefix(tokenizer, before + head + matches[0] + tail, text)


def _trimmings(text: str) -> list[str]:
    """Return the text and what is left of it when white space around it is trimmed."""
    ways = [
        text,
        text.strip(),
        text.rstrip(),
        text.lstrip(),
        text.strip("\n"),
        text.rstrip("\n"),
        text.lstrip("\n"),
    ]
    return [way for way in dict.fromkeys(ways) if way]


def _without_space(text: str) -> str:
    return "".join(text.split())


def _chat(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _render(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
    try:
        rendered = tokenizer.apply_chat_template(
            _chat(messages), tokenize=False, add_generation_prompt=generation_prompt
        )
    except jinja2.TemplateError as error:
        raise BadRowError(
            f"the chat template of '{tokenizer.name_or_path}' refuses this chat: {error}",
            field="messages",
        ) from error
    assert isinstance(rendered, str)
    return rendered


def _marks(tokenizer: Any, messages: Sequence[Message]) -> list[tuple[int, int]] | None:
    """Return what ``{% generation %}`` encloses, in characters; None where there is no mark."""
    template = tokenizer.get_chat_template()
    if not GENERATION_MARK.search(template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    _, indices = render_jinja_template(
        conversations=[_chat(messages)],
        chat_template=template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return [(start, stop) for start, stop in indices[0]]


def _check_marked(tokenizer: Any, marks: list[tuple[int, int]], turn: _Turn) -> None:
    """Hold a turn against the marks.

    A mark may take in the turn's header, which the generation prompt already contains, and may
    stop before the end token, which has to be learned; it has to hold the answer.
    """
    if not any(start <= turn.answer_start and turn.answer_stop <= stop for start, stop in marks):
        raise UserError(
            f"the chat template of '{tokenizer.name_or_path}' leaves an assistant's answer outside "
            "its {% generation %} marks; use data.train_on=last if only earlier turns are left "
            "out, or choose another template, such as template=chatml"
        )


def _changes(what: str, tokenizer: Any) -> BadRowError:
    return BadRowError(
        f"the chat template of '{tokenizer.name_or_path}' changes {what}, so that it cannot be "
        "masked exactly; leave the row out, or choose another template, such as template=chatml",
        field="messages",
    )


def _not_a_prefix(tokenizer: Any, prompt: str, text: str) -> UserError:
    common = next(
        (index for index, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b),
        min(len(prompt), len(text)),
    )
    return UserError(
        f"the chat template of '{tokenizer.name_or_path}' writes a prompt that is not a prefix of "
        f"its own full text: the prompt goes on with {prompt[common : common + 40]!r} where the "
        f"text has {text[common : common + 40]!r}. A model trained on one would be asked with the "
        "other; use template=chatml, or data.train_on=last if only earlier turns differ"
    )
