"""``generate_cot``: rows with reasoning at three levels, and an account of the rest."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from ift_lightning.config.teaching_schema import (
    CotConfig,
    CotPromptsConfig,
    CotRowForm,
    CotSource,
    TeacherConfig,
    TeacherKind,
)
from ift_lightning.data.record_sources import FileSource
from ift_lightning.errors import UserError
from ift_lightning.teaching.exchange import Teacher
from ift_lightning.teaching.generation import Generation, RowOutcome, Usage
from ift_lightning.teaching.journal import AnswerJournal
from ift_lightning.teaching.levels import CodeCheck, ReasoningLevels, think_step_row
from ift_lightning.teaching.prompts import CotPrompts
from ift_lightning.types import RejectedRow


@dataclass(frozen=True)
class CotFiles:
    """Where ``generate_cot`` reads and writes.

    ``output`` is a JSONL file. Beside it stand ``failed.jsonl`` (rows that got no reasoning, with
    the reason), ``report.json`` and ``answers.jsonl`` (the journal of the teacher's answers), each
    with the output's name in front.
    """

    input: Path
    output: Path
    form: str = "auto"  # of the rows read
    fields: Mapping[str, str] = field(default_factory=dict)  # our field -> the file's column

    def beside(self, name: str) -> Path:
        """Return the file ``name`` that belongs to the output."""
        return self.output.with_name(f"{self.output.stem}.{name}")


def build_teacher(config: TeacherConfig, bar: Any | None = None) -> Teacher:
    """Return the teacher of a config.

    Args:
        config: The teacher.
        bar: A progress bar, which shows the last reason for a retry.

    Raises:
        UserError: There is no key or no model, or the two do not go together.
    """
    sampling = {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
    }
    if config.kind is TeacherKind.local:
        from ift_lightning.teaching.local_teacher import LocalTeacher

        return LocalTeacher(
            config.model,
            revision=config.revision,
            dtype=config.dtype,
            batch_size=config.batch_size,
            trust_remote_code=config.trust_remote_code,
            **sampling,  # type: ignore[arg-type]
        )
    from ift_lightning.teaching.openai_teacher import OpenAITeacher, RetryPolicy

    if config.base_url is not None and "@" in config.base_url.split("?")[0]:
        raise UserError(
            "teacher.base_url has a password in it, which reports would show; leave it out, and "
            f"put the key into the environment variable {config.api_key_env}"
        )
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and config.base_url is None:
        raise UserError(
            f"teacher={config.name} without teacher.base_url is OpenAI's own server, which wants a "
            f"key: put it into the environment variable {config.api_key_env}, or name a server of "
            "your own, such as teacher.base_url=http://127.0.0.1:8000/v1"
        )
    return OpenAITeacher(
        config.model,
        base_url=config.base_url,
        api_key=key or "none",
        max_tokens_field=config.max_tokens_field,
        options=config.options,
        concurrency=config.concurrency,
        timeout=config.timeout_seconds,
        retry=RetryPolicy(config.max_retries, config.retry_seconds, config.max_retry_seconds),
        on_retry=None if bar is None else lambda reason: bar.set_postfix_str(f"retry: {reason}"),
        **sampling,  # type: ignore[arg-type]
    )


def generate_cot(
    files: CotFiles,
    teacher_config: TeacherConfig,
    prompts_config: CotPromptsConfig,
    cot: CotConfig,
    *,
    check_code: CodeCheck | None,
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Have reasoning written for every row that lacks a level, and return the report.

    Nothing is lost when it is interrupted: the same command goes on with the answers of the
    journal. ``output`` and ``failed.jsonl`` appear whole, at the end.

    Args:
        files: Where to read and write.
        teacher_config: Who writes.
        prompts_config: What the teacher is told.
        cot: What is asked for.
        check_code: Runs a row's tests; None where nothing can run them. Threads call it.
        progress_bar: Show one.

    Raises:
        UserError: Something that was given cannot be used, or the teacher cannot be asked.
    """
    if cot.max_attempts < 1:
        raise UserError(f"cot.max_attempts={cot.max_attempts} has to be at least 1")
    prompts = CotPrompts(
        prompts_config.name,
        prompts_config.system,
        prompts_config.from_complex,
        prompts_config.from_row,
    )
    source = FileSource(files.input, form=files.form, fields=files.fields)
    bad: list[RejectedRow] = []
    rows = list(source.records(bad.append))
    if not rows:
        raise UserError(f"{files.input}: no row can be used; the first one: {bad[0].reason}")
    num_tested = sum(1 for _, record in rows if record.tests)
    if cot.check_tests and num_tested and check_code is None:
        raise UserError(
            f"{num_tested} rows have tests, and code of a teacher is only run in a sandbox, which "
            "there is none of here; cot.check_tests=false goes without that check"
        )
    task = ReasoningLevels(
        prompts,
        from_complex=cot.source is CotSource.complex,
        check_code=check_code if cot.check_tests else None,
    )
    with (
        AnswerJournal(files.beside("answers.jsonl")) as journal,
        tqdm(total=len(rows), desc="teacher", unit=" rows", disable=not progress_bar) as bar,
    ):
        generation = Generation(
            task,
            build_teacher(teacher_config, bar),
            journal,
            max_attempts=cot.max_attempts,
            on_progress=lambda num_done: _show(bar, num_done),
        )
        accounts = _Accounts(files, cot.form)
        try:
            with (
                contextlib.closing(generation.outcomes(rows)) as outcomes,
                _whole_file(files.output) as output,
                _whole_file(files.beside("failed.jsonl")) as failed,
            ):
                for row in bad:
                    accounts.reject(row, failed)
                for outcome in outcomes:
                    accounts.add(outcome, output, failed)
            status = "completed"
        except BaseException:
            status = "interrupted"
            raise
        finally:
            report = accounts.report(generation, teacher_config, cot, status)
            with _whole_file(files.beside("report.json")) as file:
                file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def _show(bar: Any, num_done: int) -> None:
    bar.update(num_done - bar.n)


class _Accounts:
    """Writes rows where they belong, and counts them."""

    def __init__(self, files: CotFiles, form: CotRowForm) -> None:
        self.files = files
        self.form = form
        self.num_changed = 0
        self.num_unchanged = 0
        self.reasons: Counter[str] = Counter()

    def add(self, outcome: RowOutcome, output: IO[str], failed: IO[str]) -> None:
        """Write one row."""
        if outcome.record is None:
            reason = outcome.problems[-1]
            row = RejectedRow(outcome.raw.location, reason, outcome.field, dict(outcome.raw.values))
            self.reject(row, failed, outcome.problems)
            return
        if outcome.was_complete:
            self.num_unchanged += 1
        else:
            self.num_changed += 1
        own_form = self.form is CotRowForm.record
        row_out = outcome.record.to_json() if own_form else think_step_row(outcome.record)
        output.write(_json_line(row_out))

    def reject(self, row: RejectedRow, failed: IO[str], attempts: list[str] | None = None) -> None:
        """Write a row that gets no reasoning, with the reason of every attempt."""
        self.reasons[_kind(row.reason)] += 1
        failed.write(_json_line({**row.to_json(), "attempts": attempts or []}))

    def report(
        self, generation: Generation, teacher: TeacherConfig, cot: CotConfig, status: str
    ) -> dict[str, Any]:
        """Return what happened, in numbers."""
        num_failed = sum(self.reasons.values())
        return {
            "task": "generate_cot",
            "status": status,
            "input": str(self.files.input),
            "output": str(self.files.output),
            "num_rows": self.num_changed + self.num_unchanged + num_failed,
            "num_changed": self.num_changed,
            "num_unchanged": self.num_unchanged,
            "num_failed": num_failed,
            "failed": dict(self.reasons.most_common()),
            "teacher": {"name": teacher.name, "model": teacher.model, "base_url": teacher.base_url},
            "source": cot.source.value,
            "tests_checked": generation.task.check_code is not None,
            "num_bad_answers": generation.num_bad_answers,
            "this_run": _with_cost(generation.paid, teacher),
            "from_journal": _with_cost(generation.reused, teacher),
            "currency": teacher.currency,
        }


def _kind(reason: str) -> str:
    """Return a reason without what differs from row to row, to count by."""
    return reason.split(":")[0].split("(")[0].strip()[:80]


def _with_cost(usage: Usage, teacher: TeacherConfig) -> dict[str, Any]:
    prompt, completion = (
        teacher.price_per_million_prompt_tokens,
        teacher.price_per_million_completion_tokens,
    )
    cost = None
    if prompt is not None and completion is not None:
        cost = (usage.num_prompt_tokens * prompt + usage.num_completion_tokens * completion) / 1e6
    return {
        "num_answers": usage.num_answers,
        "num_prompt_tokens": usage.num_prompt_tokens,
        "num_completion_tokens": usage.num_completion_tokens,
        "cost": cost,
    }


def _json_line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which may be why it was rejected
        text = json.dumps(value, ensure_ascii=True, default=str)
    return text + "\n"


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[str]]:
    """Open a file that takes its name when it is whole, and leaves nothing where it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with hidden.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
