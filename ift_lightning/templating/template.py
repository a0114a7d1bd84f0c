"""A record becomes a list of segments: stretches of text that each have one role.

Every template is a list of exchanges. One exchange is ``prompt`` (not trained on), an optional
``reasoning`` block, ``answer``, ``end`` and a ``separator`` before the next prompt, each a Jinja
string. A chat of several turns is the same thing repeated; Alpaca is the case of one exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import jinja2
import jinja2.meta
import jinja2.sandbox

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import InstructionRecord, Message, Role, Segment


class TemplateTokenizer(Protocol):
    """What a template asks of a tokenizer."""

    bos_token: str | None
    eos_token: str | None
    chat_template: Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's turn and the assistant's answer to it."""

    instruction: str
    input: str
    output: str
    reasoning: str = ""
    system: str = ""
    first: bool = True


def exchanges_of(
    record: InstructionRecord, *, reasoning: str = "", system: str | None = None
) -> list[Exchange]:
    """Cut a record into exchanges; a record of the three-field form is one exchange.

    Args:
        record: The row. Its messages, if any, alternate user and assistant after an optional
            leading system message (adapters see to that).
        reasoning: Text that stands before the last answer.
        system: System text of records that bring none.
    """
    if not record.messages:
        return [Exchange(record.instruction, record.input, record.output, reasoning, system or "")]
    messages = list(record.messages)
    own_system = messages.pop(0).content if messages[0].role == "system" else (system or "")
    exchanges = []
    for start in range(0, len(messages), 2):
        last = start + 2 >= len(messages)
        exchanges.append(
            Exchange(
                instruction=messages[start].content,
                input="",
                output=messages[start + 1].content if start + 1 < len(messages) else "",
                reasoning=reasoning if last else "",
                system=own_system if start == 0 else "",
                first=start == 0,
            )
        )
    return exchanges


@dataclass(frozen=True)
class Template:
    """How a record is written down. Fields as in ``conf/template``; each string is Jinja.

    Args:
        name: Used in messages and run records.
        prompt: Text before the answer.
        reasoning: Reasoning block, rendered where there is reasoning.
        answer: The answer itself.
        end: What teaches the model to stop; empty for none.
        separator: Text between ``end`` and the next exchange's prompt.
        multi_turn: Whether more than one exchange can be rendered.
        system: System text of records that bring none.
        native: Use the tokenizer's own chat template; ``prompt`` then makes the user's message
            of a three-field record.
        add_bos: Begin with BOS where the tokenizer normally does.
        stop: Further strings that end a generation.
    """

    name: str
    prompt: str
    reasoning: str = "<think>\n{{ reasoning }}\n</think>\n"
    answer: str = "{{ output }}"
    end: str = "{{ eos_token }}"
    separator: str = ""
    multi_turn: bool = False
    system: str | None = None
    native: bool = False
    add_bos: bool = True
    stop: Sequence[str] = field(default_factory=tuple)

    @cached_property
    def _environment(self) -> jinja2.Environment:
        # Newlines are part of a format: Jinja must not eat any. An unknown variable is an error.
        return jinja2.sandbox.ImmutableSandboxedEnvironment(
            keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False
        )

    @cached_property
    def _compiled(self) -> Mapping[str, jinja2.Template]:
        parts = {}
        for part in ("prompt", "reasoning", "answer", "end", "separator"):
            try:
                parts[part] = self._environment.from_string(getattr(self, part))
            except jinja2.TemplateSyntaxError as error:
                raise UserError(
                    f"template '{self.name}': template.{part} is not valid Jinja: {error}"
                ) from error
        return parts

    @cached_property
    def _writes_system(self) -> bool:
        """Whether the prompt has a place for a system text."""
        tree = self._environment.parse(self.prompt)
        return self.native or "system" in jinja2.meta.find_undeclared_variables(tree)

    def _write(self, part: str, exchange: Exchange, tokenizer: TemplateTokenizer) -> str:
        try:
            return self._compiled[part].render(
                instruction=exchange.instruction,
                input=exchange.input,
                output=exchange.output,
                reasoning=exchange.reasoning,
                system=exchange.system,
                first=exchange.first,
                bos_token=tokenizer.bos_token or "",
                eos_token=tokenizer.eos_token or "",
            )
        except jinja2.TemplateError as error:
            raise UserError(f"template '{self.name}': template.{part}: {error}") from error

    def end_text(self, tokenizer: TemplateTokenizer) -> str:
        """Return the text that ends an answer; empty where the tokenizer's own template ends it."""
        return "" if self.native else self._write("end", Exchange("", "", ""), tokenizer)

    def segments(
        self,
        record: InstructionRecord,
        tokenizer: TemplateTokenizer,
        *,
        reasoning: str = "",
        last_turn_only: bool = False,
        for_generation: bool = False,
    ) -> list[Segment]:
        """Render a record.

        Args:
            record: The row.
            tokenizer: Supplies the special tokens, and the chat template of a native template.
            reasoning: Text before the last answer; empty for none.
            last_turn_only: Give earlier assistant turns the prompt's role.
            for_generation: Stop before the last answer.

        Returns:
            Segments in order, none of them empty. With ``for_generation`` they are exactly the
            segments before the last exchange's first trained segment.

        Raises:
            BadRowError: This row cannot be rendered with this template.
            UserError: No row can be.
        """
        exchanges = exchanges_of(record, reasoning=reasoning, system=self.system)
        if len(exchanges) > 1 and not self.multi_turn:
            raise BadRowError(
                f"template '{self.name}' renders one exchange and this chat has {len(exchanges)}; "
                "use a chat template (template=chatml, llama2_chat or chat)",
                field="messages",
            )
        self._check(exchanges, record, for_generation)
        if self.native:
            from ift_lightning.templating.native import native_segments

            last = exchanges[-1]
            segments = native_segments(
                self._native_messages(exchanges, tokenizer),
                tokenizer,
                reasoning=self._write("reasoning", last, tokenizer) if last.reasoning else "",
                for_generation=for_generation,
                last_turn_only=last_turn_only,
            )
        else:
            segments = self._own_segments(exchanges, tokenizer, for_generation)
            if last_turn_only:
                segments = _untrain_earlier_turns(segments)
        return [segment for segment in segments if segment.text]

    def _check(
        self, exchanges: list[Exchange], record: InstructionRecord, for_generation: bool
    ) -> None:
        """Refuse a row of which the rendered text would lack something."""
        if exchanges[0].system and not self._writes_system:
            raise BadRowError(
                f"template '{self.name}' has no place for the system text of this chat; use a chat "
                "template (template=chatml, llama2_chat or chat), or write {{ system }} into "
                "template.prompt",
                field="messages",
            )
        answers = exchanges[:-1] if for_generation else exchanges
        for index, exchange in enumerate(answers):
            if not exchange.output.strip():
                which = f" to question {index + 1}" if record.messages else ""
                raise BadRowError(
                    f"the answer{which} is empty, so there is nothing to train on; "
                    "fill it in, or leave the row out",
                    field="messages" if record.messages else "output",
                )

    def _own_segments(
        self, exchanges: list[Exchange], tokenizer: TemplateTokenizer, for_generation: bool
    ) -> list[Segment]:
        segments: list[Segment] = []
        for index, exchange in enumerate(exchanges):
            last = index == len(exchanges) - 1
            segments.append(Segment(self._write("prompt", exchange, tokenizer), Role.PROMPT))
            if last and for_generation:
                break
            if exchange.reasoning:
                text = self._write("reasoning", exchange, tokenizer)
                segments.append(Segment(text, Role.REASONING))
            segments.append(Segment(self._write("answer", exchange, tokenizer), Role.ANSWER))
            segments.append(Segment(self._write("end", exchange, tokenizer), Role.END))
            if not last:
                text = self._write("separator", exchange, tokenizer)
                segments.append(Segment(text, Role.PROMPT))
        return segments

    def _native_messages(
        self, exchanges: list[Exchange], tokenizer: TemplateTokenizer
    ) -> list[Message]:
        messages: list[Message] = []
        for exchange in exchanges:
            if exchange.system:
                messages.append(Message("system", exchange.system))
            messages.append(Message("user", self._write("prompt", exchange, tokenizer)))
            messages.append(Message("assistant", self._write("answer", exchange, tokenizer)))
        return messages


def _untrain_earlier_turns(segments: list[Segment]) -> list[Segment]:
    """Give every segment before the last exchange's answer the prompt's role."""
    prompts = [index for index, item in enumerate(segments) if item.role is Role.PROMPT]
    trained = [index for index, item in enumerate(segments) if item.role is not Role.PROMPT]
    if not trained:
        return segments
    last_prompt = max(index for index in prompts if index < trained[-1])
    return [
        Segment(item.text, Role.PROMPT) if index <= last_prompt else item
        for index, item in enumerate(segments)
    ]
