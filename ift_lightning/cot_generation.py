"""``generate_cot``: rows with reasoning at three levels, and an account of the rest."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ift_lightning.config.prepare_schema import PrepareConfig
from ift_lightning.config.teaching_schema import (
    CotConfig,
    CotPromptsConfig,
    CotRowForm,
    CotSource,
    TeacherConfig,
)
from ift_lightning.data.record_sources import FileSource
from ift_lightning.errors import UserError
from ift_lightning.scorers import build_sandbox
from ift_lightning.teachers import SandboxCheck, build_teacher
from ift_lightning.teaching.accounts import Accounts, CotFiles, Prices, whole_file
from ift_lightning.teaching.generation import Generation
from ift_lightning.teaching.journal import AnswerJournal
from ift_lightning.teaching.levels import CodeCheck, ReasoningLevels, has_runnable_tests
from ift_lightning.teaching.prompts import CotPrompts
from ift_lightning.types import RejectedRow


def run_generate_cot(config: PrepareConfig) -> dict[str, Any]:
    """Run ``task=generate_cot``, say what came of it, and return the report.

    Raises:
        UserError: See :func:`generate_cot`; or rows have tests, and nothing here can contain code.
    """
    if not config.input or not config.output:
        raise UserError("task=generate_cot needs input=PATH and output=PATH")
    files = CotFiles(
        Path(config.input).expanduser(),
        Path(config.output).expanduser(),
        config.form,
        config.fields,
    )
    with contextlib.ExitStack() as stack:
        report = generate_cot(
            files,
            config.teacher,
            config.cot_prompts,
            config.cot,
            check_code=lambda: SandboxCheck(stack.enter_context(build_sandbox(config.sandbox))),
            progress_bar=config.progress_bar,
        )
    _say(report, files)
    return report


def _say(report: dict[str, Any], files: CotFiles) -> None:
    print(
        f"{report['num_rows']} rows: {report['num_changed']} with new reasoning, "
        f"{report['num_unchanged']} had it, {report['num_failed']} failed"
    )
    for reason, count in report["failed"].items():
        print(f"  {count}: {reason}")
    for name, key in (("this run", "this_run"), ("journal", "from_journal")):
        usage = report[key]
        cost = "" if usage["cost"] is None else f", {usage['cost']:.4f} {report['currency']}"
        print(
            f"{name + ':':<10}{usage['num_answers']} answers, {usage['num_prompt_tokens']} prompt "
            f"and {usage['num_completion_tokens']} completion tokens{cost}"
        )
    print(f"rows:     {files.output}")
    if report["num_failed"]:
        print(f"failed:   {files.beside('failed.jsonl')}")
    print(f"report:   {files.beside('report.json')}")


def generate_cot(
    files: CotFiles,
    teacher_config: TeacherConfig,
    prompts_config: CotPromptsConfig,
    cot: CotConfig,
    *,
    check_code: Callable[[], CodeCheck] | None,
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
        check_code: Gives what runs a row's tests, and is called where it is needed; None where
            nothing can run them. Threads call what it gives.
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
    num_tested = sum(1 for _, record in rows if has_runnable_tests(record))
    if cot.check_tests and num_tested and check_code is None:
        raise UserError(
            f"{num_tested} rows have tests, and code of a teacher is only run in a sandbox, which "
            "there is none of here; cot.check_tests=false goes without that check"
        )
    task = ReasoningLevels(
        prompts,
        from_complex=cot.source is CotSource.complex,
        check_code=check_code() if check_code and cot.check_tests and num_tested else None,
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
        accounts = Accounts(files, think_steps=cot.form is CotRowForm.think_steps)
        accounts.num_with_tests = sum(1 for _, record in rows if record.tests)
        accounts.num_tested = num_tested if task.check_code is not None else 0
        try:
            with (
                contextlib.closing(generation.outcomes(rows)) as outcomes,
                whole_file(files.output) as output,
                whole_file(files.beside("failed.jsonl")) as failed,
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
            report = {
                "task": "generate_cot",
                "status": status,
                **accounts.report(generation, _prices(teacher_config)),
                "teacher": {
                    "name": teacher_config.name,
                    "model": teacher_config.model,
                    "base_url": teacher_config.base_url,
                },
                "source": cot.source.value,
            }
            with whole_file(files.beside("report.json")) as file:
                file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def _prices(teacher: TeacherConfig) -> Prices:
    return Prices(
        teacher.price_per_million_prompt_tokens,
        teacher.price_per_million_completion_tokens,
        teacher.currency,
    )


def _show(bar: Any, num_done: int) -> None:
    bar.update(num_done - bar.n)
