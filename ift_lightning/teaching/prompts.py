"""What a teacher is told: Jinja texts over one row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jinja2
import jinja2.sandbox

from ift_lightning.errors import UserError
from ift_lightning.types import InstructionRecord

CODE_FIELD = "code"


def think_step(level: str) -> str:
    """Return the name of a level's field in requests, replies and rows of that form."""
    return f"{level}_think_step"


@dataclass(frozen=True)
class CotPrompts:
    """Texts of a request; each is a Jinja template.

    Variables: ``row`` (the row as a JSON object), ``reply`` (the JSON object to answer with),
    ``fields`` (its names), ``wants_code``, ``language``, and the row's ``instruction``, ``input``
    and ``output``.

    Args:
        name: For messages.
        system: System text; empty for none.
        from_complex: Asks for shorter reasoning than the row has.
        from_row: Asks for reasoning where the row has none.
    """

    name: str
    system: str
    from_complex: str
    from_row: str

    @cached_property
    def _environment(self) -> jinja2.Environment:
        return jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False
        )

    def messages(
        self, record: InstructionRecord, levels: Sequence[str], *, wants_code: bool
    ) -> tuple[tuple[str, str], ...]:
        """Return the chat that asks for ``levels`` of a row.

        Raises:
            UserError: A text is no valid template.
        """
        from_complex = "complex" not in levels
        row = _row_fields(record)
        if from_complex:
            row[think_step("complex")] = record.reasoning["complex"]
        names = [think_step(level) for level in reversed(levels)]
        names += [CODE_FIELD] if wants_code else []
        variables = {
            **_row_fields(record),
            "row": json.dumps(row, ensure_ascii=False, indent=1),
            "reply": json.dumps(dict.fromkeys(names, "..."), indent=1),
            "fields": names,
            "wants_code": wants_code,
            "language": record.language,
        }
        chat = []
        for role, part in (
            ("system", "system"),
            ("user", "from_complex" if from_complex else "from_row"),
        ):
            try:
                text = self._environment.from_string(getattr(self, part)).render(variables).strip()
            except jinja2.TemplateError as error:
                raise UserError(f"cot_prompts={self.name}: {part}: {error}") from error
            if text:
                chat.append((role, text))
        return tuple(chat)


def _row_fields(record: InstructionRecord) -> dict[str, str]:
    """Return a row's question and answer; of a chat, all but the last turn are the question."""
    if not record.messages:
        return {
            "instruction": record.instruction,
            "input": record.input,
            "output": record.output,
        }
    *earlier, last = record.messages
    question = "\n\n".join(f"{turn.role}: {turn.content}" for turn in earlier)
    return {"instruction": question, "input": "", "output": last.content}
