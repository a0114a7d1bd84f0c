"""``predict``: a conversation, one answer, or a file of answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from ift_lightning import assembly
from ift_lightning.config.checks import check_hardware
from ift_lightning.config.evaluate_schema import PredictConfig
from ift_lightning.config.generation_schema import GenerationEngine
from ift_lightning.data.sources import find_data_files, read_rows
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.evaluating import build_decoding, completion_store, transformers_engine
from ift_lightning.evaluation.completion_store import generate_all
from ift_lightning.evaluation.generation import Prompt
from ift_lightning.evaluation.transformers_engine import TransformersEngine
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.trained_models import (
    ModelChoice,
    choose_model,
    load_chosen_model,
    load_chosen_tokenizer,
)
from ift_lightning.types import InstructionRecord, Message, RawRow, RejectedRow, content_id

_HELP = "An empty line or Ctrl-D ends; /reset forgets what was said."


def predict(config: PredictConfig) -> None:
    """Answer what the config asks for.

    Raises:
        UserError: The model or the input cannot be used.
    """
    if config.prompt is not None and config.input:
        raise UserError("prompt and input exclude each other: one question, or a file of them")
    if config.output and not config.input:
        raise UserError("output=FILE goes together with input=FILE")
    if config.generation.engine is not GenerationEngine.transformers:
        raise UserError("predict generates with generation.engine=transformers")
    check_hardware(config, assembly.look_at_machine())
    asking = Asking(config, choose_model(config))
    if config.input:
        asking.answer_file(Path(config.input).expanduser())
    elif config.prompt is not None:
        asking.answer(sys.stdout, config.prompt)
    else:
        asking.converse(sys.stdin, sys.stdout)


class Asking:
    """A loaded model with its template.

    Args:
        config: The command's config.
        choice: Which weights.
    """

    def __init__(self, config: PredictConfig, choice: ModelChoice) -> None:
        self.config = config
        self.choice = choice
        self.tokenizer = load_chosen_tokenizer(config, choice)
        self.builder: ExampleBuilder = assembly.build_example_builder(config, self.tokenizer)
        model = load_chosen_model(config, choice, self.tokenizer)
        self.engine: TransformersEngine = transformers_engine(config, model, self.tokenizer)
        self.decoding = build_decoding(config, self.tokenizer, self.engine.model)

    def answer(self, out: TextIO, question: str) -> str:
        """Write the answer to one question as it is generated, and return it."""
        messages = [Message("user", question)]
        if self.config.system:
            messages.insert(0, Message("system", self.config.system))
            if self.config.context:
                raise UserError("context belongs to a single instruction, system to a chat")
            record = InstructionRecord("prompt", messages=tuple(messages))
        else:
            record = InstructionRecord("prompt", instruction=question, input=self.config.context)
        return self._write_answer(out, record)

    def converse(self, source: TextIO, out: TextIO) -> None:
        """Read questions line by line and answer each, remembering what was said."""
        on_terminal = source.isatty()
        remembers = self.config.history and self.builder.template.multi_turn
        if on_terminal:
            print(_HELP, file=out)
            if self.config.history and not remembers:
                print(
                    f"The template '{self.builder.template.name}' renders one exchange: each "
                    "question is answered on its own.",
                    file=out,
                )
        system = [Message("system", self.config.system)] if self.config.system else []
        history: list[Message] = []
        while (question := _ask(source, out, on_terminal)) is not None:
            if question == "/reset":
                history = []
                continue
            turns = [*history, Message("user", question)]
            record, turns = self._fitting(system, turns, out)
            answer = self._write_answer(out, record)
            if remembers and answer.strip():
                history = [*turns, Message("assistant", answer)]

    def _fitting(
        self, system: list[Message], turns: list[Message], out: TextIO
    ) -> tuple[InstructionRecord, list[Message]]:
        """Return the chat as a record, without the earliest turns where they have no room."""
        limit = self.engine.model.max_positions
        dropped = 0
        while True:
            record = InstructionRecord("chat", messages=(*system, *turns))
            room = limit is None or len(self.builder.prompt_ids(record)) < limit * 3 // 4
            if room or len(turns) < 3:
                if dropped:
                    print(f"(the first {dropped} exchanges no longer fit)", file=out)
                return record, turns
            turns, dropped = turns[2:], dropped + 1

    def _write_answer(self, out: TextIO, record: InstructionRecord) -> str:
        try:
            prompt = Prompt(record.id, tuple(self.builder.prompt_ids(record)))
        except BadRowError as error:
            raise UserError(str(error)) from error
        longest_stop = max(map(len, self.decoding.stop), default=0)
        answer = ""
        for piece in pieces(self.engine.stream(prompt, self.decoding), longest_stop):
            out.write(piece)
            out.flush()
            answer += piece
        out.write("\n")
        out.flush()
        return answer

    def answer_file(self, path: Path) -> None:
        """Answer every row of a file; write a line for each, in the rows' order."""
        rows = list(read_questions(path))
        prompts = []
        for raw, record in rows:
            try:
                prompts.append(Prompt(record.id, tuple(self.builder.prompt_ids(record))))
            except BadRowError as error:
                raise UserError(f"{raw.location}: {error}") from error
        store = completion_store(
            self.config, self.tokenizer, self.engine.name, self.choice.key, self.decoding
        )
        completions, _ = generate_all(self.engine, prompts, self.decoding, store)
        lines = []
        for raw, record in rows:
            for completion in completions[record.id]:
                line = {
                    **raw.values,
                    "id": record.id,
                    "completion": completion.text,
                    "finish_reason": completion.finish_reason.value,
                }
                lines.append(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        if not self.config.output:
            sys.stdout.write("".join(lines))
            return
        output = Path(self.config.output).expanduser()
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_name(f"{output.name}.{os.getpid()}.part")
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        temporary.replace(output)
        print(f"{len(lines)} answers written to {output}")


def _ask(source: TextIO, out: TextIO, on_terminal: bool) -> str | None:
    """Return the next question; None at the end, and at an empty line of a terminal."""
    while True:
        if on_terminal:
            out.write("> ")
            out.flush()
        line = source.readline()
        if not line or (on_terminal and not line.strip()):
            return None
        if line.strip():
            return line.rstrip("\r\n")


def pieces(texts: Iterable[str], longest_stop: int) -> Iterator[str]:
    """Yield what is new in a growing text, held back as long as it may still change.

    Args:
        texts: The text so far, again and again; the last one is final.
        longest_stop: Characters that may turn out to begin a stop string, and vanish.
    """
    shown = 0
    text = ""
    for text in texts:
        # A character of which only some bytes are there decodes to a replacement character.
        whole = text.rstrip("\ufffd")
        safe = len(whole) - longest_stop
        if safe > shown:
            yield whole[shown:safe]
            shown = safe
    if len(text) > shown:
        yield text[shown:]


def read_questions(path: Path) -> Iterator[tuple[RawRow, InstructionRecord]]:
    """Yield the rows of a file as records; an answer is not needed, and not looked at.

    A row is ``messages`` that end with the user, or ``instruction`` and ``input``, or ``prompt``.

    Raises:
        UserError: A row that is none of these, with its place.
    """

    def refuse(row: RejectedRow) -> None:
        raise UserError(f"{row.location}: {row.reason}")

    seen: dict[str, int] = {}
    for raw in read_rows(find_data_files(path), refuse):
        record = _question_of(raw)
        seen[record.id] = count = seen.get(record.id, 0) + 1
        if count > 1:
            record = InstructionRecord(
                f"{record.id}#{count}", record.instruction, record.input, "", record.messages
            )
        yield raw, record
    if not seen:
        raise UserError(f"{path} has no rows")


def _question_of(raw: RawRow) -> InstructionRecord:
    values = raw.values
    own_id = next((values[n] for n in ("id", "task_id") if values.get(n) is not None), None)
    turns = values.get("messages")
    if turns:
        messages = _messages(turns, raw)
        name = own_id or content_id(*(text for m in messages for text in (m.role, m.content)))
        return InstructionRecord(str(name), messages=messages)
    instruction = values.get("instruction") or values.get("prompt")
    if not isinstance(instruction, str) or not instruction.strip():
        raise UserError(
            f"{raw.location}: the row has no 'messages', 'instruction' or 'prompt' (keys found: "
            f"{', '.join(map(str, values)) or 'none'})"
        )
    given = values.get("input")
    text = given if isinstance(given, str) else ""
    return InstructionRecord(
        str(own_id or content_id(instruction, text)), instruction=instruction, input=text
    )


def _messages(turns: Any, raw: RawRow) -> tuple[Message, ...]:
    problem = f"{raw.location}: 'messages' has to be a list of role and content, in turn"
    if not isinstance(turns, list | tuple):
        raise UserError(problem)
    messages = []
    for turn in turns:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            raise UserError(problem)
        messages.append(Message(str(turn.get("role")), turn["content"]))
    if messages[-1].role == "assistant":
        messages.pop()  # the reference answer
    spoken = messages[1:] if messages and messages[0].role == "system" else messages
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(spoken))]
    if not spoken or [message.role for message in spoken] != expected:
        raise UserError(problem)
    return tuple(messages)
