"""Segments of a text that the tokenizer's own chat template wrote.

Such a template is a black box that returns one string, so the assistant's turns have to be found
in it: by its ``{% generation %}`` marks where it has them, and otherwise by rendering the chat up
to each turn. Both ways demand that what the model is prompted with at generation time is a prefix
of the training text; a template for which that is not so is refused.
"""

from __future__ import annotations

import re
from typing import Any

import jinja2

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import Message, Role, Segment


# `{%- generation -%}` in all its spellings.
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


def native_segments(
    messages: list[Message],
    tokenizer: Any,
    *,
    for_generation: bool = False,
    last_turn_only: bool = False,
) -> list[Segment]:
    """Render ``messages`` with ``tokenizer.chat_template`` and cut the text into segments.

    Args:
        messages: Optional system message, then user and assistant in turn, assistant last.
        tokenizer: A Hugging Face tokenizer that has a chat template.
        for_generation: Render without the last message, followed by the generation prompt.
        last_turn_only: Leave earlier assistant turns in the prompt. Some templates shorten them
            once another turn follows, and could not be rendered otherwise.

    Raises:
        UserError: There is no chat template, or its prompt is no prefix of its full text.
        BadRowError: The template changes the answer's text, or refuses this chat.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"template=chat: the tokenizer of '{tokenizer.name_or_path}' has no chat template. "
            "Choose one of ours, such as template=chatml or template=alpaca"
        )
    prompt = _render(tokenizer, messages[:-1], generation_prompt=True)
    if for_generation:
        return [Segment(prompt, Role.PROMPT)]
    if GENERATION_MARK.search(str(tokenizer.chat_template)):
        text, spans = _marked_spans(messages, tokenizer)
    else:
        text = _render(tokenizer, messages, generation_prompt=False)
        spans = _spans_by_prefix(messages, tokenizer, text, last_turn_only)
    if not text.startswith(prompt):
        raise _not_a_prefix(tokenizer, prompt, text)
    answers = [message.content for message in messages if message.role == "assistant"]
    if last_turn_only:
        spans, answers = spans[-1:], answers[-1:]
    if len(spans) != len(answers):
        raise UserError(
            f"the chat template of '{tokenizer.name_or_path}' marks {len(spans)} assistant turns "
            f"in a chat that has {len(answers)}; choose another template"
        )
    # A mark may take in the turn's header, which the generation prompt already contains.
    spans[-1] = (max(spans[-1][0], len(prompt)), spans[-1][1])
    segments: list[Segment] = []
    position = 0
    for (start, stop), answer in zip(spans, answers, strict=True):
        segments.append(Segment(text[position:start], Role.PROMPT))
        segments += _turn_segments(text[start:stop], answer, tokenizer)
        position = stop
    # A mark may also end before the end token, which then has to be taken from behind it.
    tail = text[position:]
    if segments[-1].role is Role.ANSWER and tail.strip():
        segments += _end_segments(tail)
    elif tail:
        segments.append(Segment(tail, Role.PROMPT))
    return segments


def _render(tokenizer: Any, messages: list[Message], *, generation_prompt: bool) -> str:
    chat = [{"role": message.role, "content": message.content} for message in messages]
    try:
        rendered = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generation_prompt
        )
    except jinja2.TemplateError as error:
        raise BadRowError(
            f"the chat template of '{tokenizer.name_or_path}' refuses this chat: {error}",
            field="messages",
        ) from error
    assert isinstance(rendered, str)
    return rendered


def _spans_by_prefix(
    messages: list[Message], tokenizer: Any, text: str, last_turn_only: bool
) -> list[tuple[int, int]]:
    spans = []
    for index, message in enumerate(messages):
        if message.role != "assistant" or (last_turn_only and index < len(messages) - 1):
            continue
        before = _render(tokenizer, messages[:index], generation_prompt=True)
        upto = _render(tokenizer, messages[: index + 1], generation_prompt=False)
        for part in (before, upto):
            if not text.startswith(part):
                raise _not_a_prefix(tokenizer, part, text)
        spans.append((len(before), len(upto)))
    return spans


def _marked_spans(messages: list[Message], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [{"role": message.role, "content": message.content} for message in messages]
    rendered, indices = render_jinja_template(
        conversations=[chat],
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return rendered[0], [(start, stop) for start, stop in indices[0]]


def _turn_segments(span: str, answer: str, tokenizer: Any) -> list[Segment]:
    """Cut one assistant turn into what precedes the answer, the answer, and its end."""
    content = answer if answer in span else answer.strip()
    start = span.find(content)
    if start < 0 or not content:
        raise BadRowError(
            f"the chat template of '{tokenizer.name_or_path}' changes the answer's text, so that "
            "it cannot be masked exactly; choose another template",
            field="messages",
        )
    # Some templates write an empty reasoning block themselves; the model has to write it, too.
    segments = [Segment(span[:start], Role.REASONING), Segment(content, Role.ANSWER)]
    return segments + _end_segments(span[start + len(content) :])


def _end_segments(rest: str) -> list[Segment]:
    """Cut what follows an answer into the end token and unsupervised white space."""
    end = rest.rstrip()
    return [
        segment
        for segment in (Segment(end, Role.END), Segment(rest[len(end) :], Role.PROMPT))
        if segment.text
    ]


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
